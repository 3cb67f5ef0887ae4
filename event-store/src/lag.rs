//! How far readers are behind, and what holds them back.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use domain::event::LogPosition;
use sqlx::Row;

use crate::{EventStore, checkpoint::checkpoints};

/// Readers that are held back for longer are worth a warning.
pub const HELD_TOO_LONG: Duration = Duration::from_secs(5);
/// No more events than this are counted for a consumer.
pub const MOST_COUNTED: i64 = 10_000;

/// The log's condition, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct LogHealth {
    /// The newest committed event, whether readers may have it yet or not; the start of an empty log.
    pub end: LogPosition,
    /// The transaction that readers wait for, if one is open.
    pub oldest_transaction: Option<OldestTransaction>,
    /// Every checkpoint, by name.
    pub consumers: Vec<ConsumerLag>,
}

/// An open transaction with an id, in any database of the server. No event of a later transaction is given before it ends.
#[derive(Debug, Clone, PartialEq)]
pub struct OldestTransaction {
    /// Since its begin; since it was first seen here, where Postgres does not tell.
    pub age: Duration,
    /// `None`: a prepared transaction, which has no process.
    pub pid: Option<i32>,
    pub application: String,
    pub database: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerLag {
    pub name: String,
    pub at: LogPosition,
    /// Committed events after its checkpoint; `MOST_COUNTED` stands for that many or more.
    pub behind_events: i64,
    /// The age of the oldest of them; zero when there is none.
    pub behind_age: Duration,
}

impl LogHealth {
    /// What has held readers back for longer than `HELD_TOO_LONG`.
    pub fn held_too_long(&self) -> Option<&OldestTransaction> {
        self.oldest_transaction.as_ref().filter(|t| t.age > HELD_TOO_LONG)
    }
}

/// A sentence for the operator.
impl fmt::Display for OldestTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.age.as_secs_f64();
        write!(f, "readers of the log wait for a transaction that is open since {seconds:.1} s (")?;
        if let Some(pid) = self.pid {
            write!(f, "process {pid}, ")?;
        }
        write!(f, "{}, database {})", self.application, self.database.as_deref().unwrap_or("none"))
    }
}

/// When the oldest transaction was first seen: Postgres may hide its begin.
#[derive(Debug, Default)]
pub(crate) struct FirstSeen(Mutex<Option<(String, Instant)>>);

impl FirstSeen {
    fn age(&self, transaction_id: Option<&str>) -> Duration {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*seen, transaction_id) {
            (Some((id, since)), Some(now)) if id == now => since.elapsed(),
            (_, now) => {
                *seen = now.map(|id| (id.to_owned(), Instant::now()));
                Duration::ZERO
            }
        }
    }
}

impl EventStore {
    /// The log's condition. Cheap enough for every few seconds: a few index look-ups, and at most `MOST_COUNTED` index
    /// entries for each checkpoint that is behind.
    pub async fn health(&self) -> Result<LogHealth, sqlx::Error> {
        let mut connection = self.pool().acquire().await?;
        let end: Option<(i32, String, i64)> = sqlx::query_as(
            "select e.generation, e.transaction_id::text, e.position from log.events e
              order by e.generation desc, e.transaction_id desc, e.position desc limit 1",
        )
        .fetch_optional(&mut *connection)
        .await?;
        let end = match end {
            Some((generation, xid, position)) => {
                let transaction_id = xid.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
                LogPosition { generation, transaction_id, position }
            }
            None => LogPosition::START,
        };
        let oldest = sqlx::query("select * from log.oldest_transaction()").fetch_optional(&mut *connection).await?;
        let id: Option<String> = oldest.as_ref().map(|row| row.try_get("transaction_id")).transpose()?;
        let seen = self.first_seen().age(id.as_deref());
        let oldest_transaction = oldest
            .map(|row| {
                let told: Option<f64> = row.try_get("age_seconds")?;
                let told = told.and_then(|s| Duration::try_from_secs_f64(s).ok());
                Ok::<_, sqlx::Error>(OldestTransaction {
                    age: told.unwrap_or(seen),
                    pid: row.try_get("pid")?,
                    application: row.try_get("application")?,
                    database: row.try_get("database")?,
                })
            })
            .transpose()?;
        let mut consumers: Vec<ConsumerLag> = Vec::new();
        for checkpoint in checkpoints(&mut *connection).await? {
            // Partitions of a group are often at the same place.
            let known = consumers.iter().find(|c| c.at == checkpoint.at).map(|c| (c.behind_events, c.behind_age));
            let (behind_events, behind_age) = match known {
                Some(known) => known,
                None if checkpoint.at >= end => (0, Duration::ZERO),
                None => behind(&mut connection, checkpoint.at).await?,
            };
            consumers.push(ConsumerLag { name: checkpoint.name, at: checkpoint.at, behind_events, behind_age });
        }
        Ok(LogHealth { end, oldest_transaction, consumers })
    }
}

async fn behind(connection: &mut sqlx::PgConnection, at: LogPosition) -> Result<(i64, Duration), sqlx::Error> {
    let (count, oldest, now): (i64, Option<DateTime<Utc>>, DateTime<Utc>) = sqlx::query_as(
        "select (select count(*) from (select 1 from log.events e
                   where (e.generation, e.transaction_id, e.position) > ($1, $2::text::xid8, $3)
                   order by e.generation, e.transaction_id, e.position limit $4) n),
                (select e.recorded_at from log.events e
                  where (e.generation, e.transaction_id, e.position) > ($1, $2::text::xid8, $3)
                  order by e.generation, e.transaction_id, e.position limit 1),
                clock_timestamp()",
    )
    .bind(at.generation)
    .bind(at.transaction_id.to_string())
    .bind(at.position)
    .bind(MOST_COUNTED)
    .fetch_one(connection)
    .await?;
    Ok((count, oldest.and_then(|oldest| (now - oldest).to_std().ok()).unwrap_or_default()))
}
