//! After a connection was lost in the middle of an append: was it written or not?
//!
//! The old backend may still be at work, so it is ended first; then the log itself is asked. What is there with our event
//! id is ours; what is not there can never come any more, and may be tried again.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool, Row};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Outcome, lane::Line, statement::place};
use crate::{Append, Appended};

/// A lane's connection as the server knows it: by an application name that no other has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backend(Uuid);

impl Backend {
    #[expect(clippy::disallowed_methods, reason = "a name for a connection, never stored")]
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "apiq-append-{}", self.0.simple())
    }
}

/// `Some`: what became of the command; `None`: nothing of it is written, nor will be.
pub(super) async fn settle(
    line: &mut Line,
    pool: &PgPool,
    lost: Backend,
    generation: i32,
    appends: &[&Append],
    deadline: Instant,
) -> Result<Vec<Option<Outcome>>, sqlx::Error> {
    end(pool, lost, deadline).await?;
    let mut outcomes = Vec::with_capacity(appends.len());
    for append in appends {
        outcomes.push(written(&mut line.db, generation, append).await?);
    }
    Ok(outcomes)
}

/// Waits until the lost backend is no more. Asked with the login's own rights, which the service's roles do not have.
async fn end(pool: &PgPool, lost: Backend, deadline: Instant) -> Result<(), sqlx::Error> {
    let mut owner = PgConnection::connect_with(&pool.connect_options()).await?;
    loop {
        let alive: Option<bool> =
            sqlx::query_scalar("select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1")
                .bind(lost.to_string())
                .fetch_optional(&mut owner)
                .await?;
        if alive.is_none() {
            // The row goes after the transaction was ended.
            return owner.close().await;
        }
        if Instant::now() >= deadline {
            return Err(sqlx::Error::PoolTimedOut);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn written(db: &mut PgConnection, generation: i32, append: &Append) -> Result<Option<Outcome>, sqlx::Error> {
    let mut last: Option<Outcome> = None;
    for stream in &append.streams {
        // A command stands or falls as a whole: its last event of each stream tells, and gives the highest position.
        let Some(event) = stream.events.last() else { continue };
        let row = sqlx::query(
            "select event_id, transaction_id::text as xid, position from log.events
              where aggregate_type = $1 and aggregate_id = $2 and sequence = $3",
        )
        .bind(stream.aggregate_type)
        .bind(stream.aggregate_id)
        .bind(stream.end())
        .fetch_optional(&mut *db)
        .await?;
        let Some(row) = row.filter(|r| r.try_get::<Uuid, _>("event_id").is_ok_and(|id| id == event.event_id)) else {
            return Ok(None);
        };
        let at = place(generation, row.try_get("xid")?, row.try_get("position")?)?;
        let at = match &last {
            Some(Ok(before)) => before.at.max(at),
            _ => at,
        };
        last = Some(Ok(Appended { at }));
    }
    Ok(last)
}
