//! Projection checkpoints: how far a reader has come, advanced by compare-and-set in the reader's own transaction.

use chrono::{DateTime, Utc};
use domain::event::LogPosition;
use sqlx::{PgExecutor, Row, postgres::PgRow};

#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub name: String,
    pub at: LogPosition,
    pub updated_at: DateTime<Utc>,
}

/// Where `name` has come; the start when it never ran.
pub async fn checkpoint(executor: impl PgExecutor<'_>, name: &str) -> Result<LogPosition, sqlx::Error> {
    Ok(stored(executor, name).await?.unwrap_or(LogPosition::START))
}

/// Where `name` has come, if it ever ran.
pub(crate) async fn stored(executor: impl PgExecutor<'_>, name: &str) -> Result<Option<LogPosition>, sqlx::Error> {
    let row = sqlx::query(
        "select name, generation, transaction_id::text as xid, position, updated_at from log.checkpoints where name = $1",
    )
    .bind(name)
    .fetch_optional(executor)
    .await?;
    row.map(|row| Ok(checkpoint_of(&row)?.at)).transpose()
}

pub async fn checkpoints(executor: impl PgExecutor<'_>) -> Result<Vec<Checkpoint>, sqlx::Error> {
    sqlx::query(
        "select name, generation, transaction_id::text as xid, position, updated_at from log.checkpoints order by name",
    )
    .fetch_all(executor)
    .await?
    .iter()
    .map(checkpoint_of)
    .collect()
}

/// Moves `name` from one place to the next. `false`: somebody else has moved it, roll back.
pub async fn advance(
    executor: impl PgExecutor<'_>,
    name: &str,
    from: LogPosition,
    to: LogPosition,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "insert into log.checkpoints as c (name, generation, transaction_id, position)
         values ($1, $5, $6::text::xid8, $7)
         on conflict (name) do update
            set generation = excluded.generation, transaction_id = excluded.transaction_id,
                position = excluded.position, updated_at = now()
          where (c.generation, c.transaction_id, c.position) = ($2, $3::text::xid8, $4)",
    )
    .bind(name)
    .bind(from.generation)
    .bind(from.transaction_id.to_string())
    .bind(from.position)
    .bind(to.generation)
    .bind(to.transaction_id.to_string())
    .bind(to.position)
    .execute(executor)
    .await?;
    Ok(done.rows_affected() == 1)
}

fn checkpoint_of(row: &PgRow) -> Result<Checkpoint, sqlx::Error> {
    let xid: &str = row.try_get("xid")?;
    Ok(Checkpoint {
        name: row.try_get("name")?,
        at: LogPosition {
            generation: row.try_get("generation")?,
            transaction_id: xid.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
            position: row.try_get("position")?,
        },
        updated_at: row.try_get("updated_at")?,
    })
}
