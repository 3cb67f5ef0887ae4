//! Reading the log in its one order.

use domain::event::{LogPosition, RecordedEvent};
use sqlx::{PgExecutor, Row, postgres::PgRow};
use uuid::Uuid;

/// What `event_of` reads, of a table or view `e` with the log's columns.
pub const EVENT_COLUMNS: &str = "e.generation, e.transaction_id::text as xid, e.position, e.workspace_id, \
     e.aggregate_type, e.aggregate_id, e.sequence, e.event_type, e.event_version, e.payload::text as payload, \
     e.metadata::text as metadata, e.event_id, e.recorded_at";

/// Up to `limit` events after `after`, in order, none of them still able to get a predecessor.
///
/// `generation` is the log's current one. Works on any pool whose role may read the log.
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
            and (e.generation < $4 or e.transaction_id < pg_snapshot_xmin(pg_current_snapshot()))
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

/// A row with `EVENT_COLUMNS`.
pub fn event_of(row: &PgRow) -> Result<RecordedEvent, sqlx::Error> {
    let xid: &str = row.try_get("xid")?;
    Ok(RecordedEvent {
        at: LogPosition {
            generation: row.try_get("generation")?,
            transaction_id: xid.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
            position: row.try_get("position")?,
        },
        workspace_id: row.try_get("workspace_id")?,
        aggregate_type: row.try_get("aggregate_type")?,
        aggregate_id: row.try_get("aggregate_id")?,
        sequence: row.try_get("sequence")?,
        event_type: row.try_get("event_type")?,
        event_version: row.try_get("event_version")?,
        payload: row.try_get("payload")?,
        metadata: row.try_get("metadata")?,
        event_id: row.try_get("event_id")?,
        recorded_at: row.try_get("recorded_at")?,
    })
}
