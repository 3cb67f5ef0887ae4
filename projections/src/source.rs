//! The log as items: read in order, decoded beside, one batch ahead of the fold while there is a backlog.

use domain::event::LogPosition;
use sqlx::{PgExecutor, PgPool};
use tokio::task::JoinHandle;

use crate::view::Item;

type Read = Result<Vec<Item>, sqlx::Error>;

/// Up to `limit` events after `after`, decoded.
pub(crate) async fn read(executor: impl PgExecutor<'_>, generation: i32, after: LogPosition, limit: usize) -> Read {
    let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
    let events = event_store::read_after(executor, generation, after, limit).await?;
    Ok(events.into_iter().map(Item::of).collect())
}

/// One reader of the log, at a place of its own.
pub(crate) struct Source {
    pool: PgPool,
    generation: i32,
    at: LogPosition,
    /// The batch after the one given last.
    ahead: Option<(usize, JoinHandle<Read>)>,
}

impl Source {
    pub fn new(pool: PgPool, generation: i32, from: LogPosition) -> Self {
        Self { pool, generation, at: from, ahead: None }
    }

    /// What comes next, `limit` events at most, none at the log's end; and whether the batch is full. Then the next one
    /// is read meanwhile.
    pub async fn next(&mut self, limit: usize) -> Result<(Vec<Item>, bool), sqlx::Error> {
        let (asked, items) = match self.ahead.take() {
            Some((asked, ahead)) => (asked, ahead.await.map_err(|e| sqlx::Error::Protocol(e.to_string()))??),
            None => (limit, read(&self.pool, self.generation, self.at, limit).await?),
        };
        if let Some(last) = items.last() {
            self.at = last.recorded.at;
        }
        let full = items.len() >= asked.max(1);
        if full {
            let (pool, generation, after) = (self.pool.clone(), self.generation, self.at);
            let read = tokio::spawn(async move { read(&pool, generation, after, limit).await });
            self.ahead = Some((limit, read));
        }
        Ok((items, full))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some((_, ahead)) = &self.ahead {
            ahead.abort();
        }
    }
}
