//! The log as items: read in order, decoded beside, one batch ahead of the fold while there is a backlog.

use domain::event::LogPosition;
use event_store::ReadAhead;
use sqlx::{PgExecutor, PgPool};

use crate::view::Item;

/// One reader of the log, at a place of its own.
pub(crate) type Source = ReadAhead<Item>;

pub(crate) fn from(pool: PgPool, generation: i32, at: LogPosition) -> Source {
    ReadAhead::new(pool, generation, at, Item::of)
}

/// Up to `limit` events after `after`, decoded.
pub(crate) async fn read(
    executor: impl PgExecutor<'_>,
    generation: i32,
    after: LogPosition,
    limit: usize,
) -> Result<Vec<Item>, sqlx::Error> {
    let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
    let events = event_store::read_after(executor, generation, after, limit).await?;
    Ok(events.into_iter().map(Item::of).collect())
}
