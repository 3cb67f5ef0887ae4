//! Reading the log in its one order.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::event::{LogPosition, RecordedEvent};
use futures::TryStreamExt;
use sqlx::{PgExecutor, PgPool, Row, postgres::PgRow};
use uuid::Uuid;

/// A follower's batch ends after this much.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What `event_of` reads, of a table or view `e` with the log's columns.
pub const EVENT_COLUMNS: &str = "e.generation, e.transaction_id, e.position, e.workspace_id, \
     e.aggregate_type, e.aggregate_id, e.sequence, e.event_type, e.event_version, e.payload, \
     e.metadata, e.event_id, e.recorded_at";

/// What a follower asks. Both ends of the range are index conditions: a transaction that is held open for a minute costs
/// its readers nothing but the wait, however much is committed behind it. The generation is read with the rows, so that a
/// node which was started before an adoption reads right as well.
const NEXT: &str = "where (e.generation, e.transaction_id, e.position) > ($1, $2::text::xid8, $3) \
       and (e.generation, e.transaction_id, e.position) \
         < ((select c.generation from log.cluster c), pg_snapshot_xmin(pg_current_snapshot()), 0) \
     order by e.generation, e.transaction_id, e.position \
     limit $4";

/// Up to `limit` events after `after`, in order, none of them still able to get a predecessor.
///
/// `generation` is the log's current one, or an older one: the log may be adopted while a reader lives. Works on any pool whose role may read the log.
pub async fn read_after(
    executor: impl PgExecutor<'_>,
    generation: i32,
    after: LogPosition,
    limit: i64,
) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    // Ordered by the column itself: its text form would sort 9 after 10.
    let rows = sqlx::query(&format!(
        "select {EVENT_COLUMNS}
           from log.events e
          where (e.generation, e.transaction_id, e.position) > ($1, $2::text::xid8, $3)
            and (e.generation, e.transaction_id, e.position)
              < (greatest($4, (select c.generation from log.cluster c)), pg_snapshot_xmin(pg_current_snapshot()), 0)
          order by e.generation, e.transaction_id, e.position
          limit $5",
    ))
    .bind(after.generation)
    .bind(after.transaction_id.to_string())
    .bind(after.position)
    .bind(generation)
    .bind(limit)
    .fetch_all(executor)
    .await?;
    rows.iter().map(event_of).collect()
}

/// When the server that answered was started: tells one server from another, and one life of it from the next.
pub(crate) type Server = DateTime<Utc>;

/// A batch for followers.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub server: Server,
    /// In order. Empty at the log's end.
    pub events: Vec<Arc<RecordedEvent>>,
    /// Nothing may be given yet, but something is committed: it waits for an older transaction to end.
    pub held: bool,
}

/// Up to `limit` events after `after`, fewer when they are big (about `MAX_BYTES`), one at least unless there is none.
pub(crate) async fn next_batch(pool: &PgPool, after: LogPosition, limit: usize) -> Result<Batch, sqlx::Error> {
    let sql = format!("select {EVENT_COLUMNS}, pg_postmaster_start_time() as server from log.events e {NEXT}");
    let mut rows = sqlx::query(&sql)
        .bind(after.generation)
        .bind(after.transaction_id.to_string())
        .bind(after.position)
        .bind(i64::try_from(limit.max(1)).unwrap_or(i64::MAX))
        .fetch(pool);
    let mut server = None;
    let mut events = Vec::new();
    let mut bytes = 0;
    while bytes < MAX_BYTES
        && let Some(row) = rows.try_next().await?
    {
        if server.is_none() {
            server = Some(row.try_get("server")?);
        }
        let event = event_of(&row)?;
        bytes += weight(&event);
        events.push(Arc::new(event));
    }
    drop(rows);
    match server {
        Some(server) => Ok(Batch { server, events, held: false }),
        None => {
            let (server, held) = probe(pool, after).await?;
            Ok(Batch { server, events, held })
        }
    }
}

/// Which server answers, and whether anything is committed after `after`, readable yet or not.
pub(crate) async fn probe(pool: &PgPool, after: LogPosition) -> Result<(Server, bool), sqlx::Error> {
    // Not `exists`, for which the planner likes to look through the whole table.
    sqlx::query_as(
        "select pg_postmaster_start_time(), coalesce((select true from log.events e
           where (e.generation, e.transaction_id, e.position) > ($1, $2::text::xid8, $3)
           order by e.generation, e.transaction_id, e.position limit 1), false)",
    )
    .bind(after.generation)
    .bind(after.transaction_id.to_string())
    .bind(after.position)
    .fetch_one(pool)
    .await
}

/// Bytes that an event holds in memory, about.
pub(crate) fn weight(event: &RecordedEvent) -> usize {
    320 + event.payload.len() + event.metadata.len()
}

/// The event at a place of the log.
pub async fn read_event(executor: impl PgExecutor<'_>, at: LogPosition) -> Result<Option<RecordedEvent>, sqlx::Error> {
    let row = sqlx::query(&format!(
        "select {EVENT_COLUMNS}
           from log.events e
          where e.generation = $1 and e.transaction_id = $2::text::xid8 and e.position = $3",
    ))
    .bind(at.generation)
    .bind(at.transaction_id.to_string())
    .bind(at.position)
    .fetch_optional(executor)
    .await?;
    row.as_ref().map(event_of).transpose()
}

/// One stream from its first event; at most `limit`.
pub async fn read_stream(
    executor: impl PgExecutor<'_>,
    aggregate_id: Uuid,
    limit: i64,
) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    let rows = sqlx::query(&format!(
        "select {EVENT_COLUMNS}
           from log.events e
          where e.aggregate_type = any($1) and e.aggregate_id = $2
          order by e.aggregate_type, e.sequence limit $3",
    ))
    .bind(aggregate_types())
    .bind(aggregate_id)
    .bind(limit)
    .fetch_all(executor)
    .await?;
    rows.iter().map(event_of).collect()
}

fn aggregate_types() -> Vec<&'static str> {
    let mut types: Vec<_> = domain::catalogue::all().into_iter().map(|(aggregate, _, _)| aggregate).collect();
    types.dedup();
    types
}

/// A row that begins with `EVENT_COLUMNS`; by place, because looking names up costs as much as all the rest.
///
/// Transaction ids and JSON are taken as Postgres sends them in binary: eight bytes, and the stored text. Asking the
/// server for texts would cost it, and this reader, a copy of each.
pub fn event_of(row: &PgRow) -> Result<RecordedEvent, sqlx::Error> {
    let transaction: i64 = row.try_get_unchecked(1)?;
    Ok(RecordedEvent {
        at: LogPosition {
            generation: row.try_get(0)?,
            transaction_id: transaction.cast_unsigned(),
            position: row.try_get(2)?,
        },
        workspace_id: row.try_get(3)?,
        aggregate_type: row.try_get(4)?,
        aggregate_id: row.try_get(5)?,
        sequence: row.try_get(6)?,
        event_type: row.try_get(7)?,
        event_version: row.try_get(8)?,
        payload: row.try_get_unchecked(9)?,
        metadata: row.try_get_unchecked(10)?,
        event_id: row.try_get(11)?,
        recorded_at: row.try_get(12)?,
    })
}
