//! Events that a view could not take: set aside with their place and the reason, one by one, in order.
//!
//! What follows in the same stream is set aside for that view too: folding it onto a row that lacks its predecessor
//! would show something that never was. Other streams and other views go on. An event that this build cannot read at all
//! is set aside for every view (`read_models`). The audit log shows events themselves and has no order to keep: it
//! takes everything.
//!
//! The way out is a rebuild by a build that can take the events (`apiq admin rebuild`): it folds from the first
//! event, and what it could not take replaces this list. Nothing is folded later in place, because other streams' rows
//! may have been folded without it (a workflow counts its executions).

use std::collections::{HashMap, HashSet};

use domain::event::{LogPosition, RecordedEvent};
use sqlx::PgConnection;
use uuid::Uuid;

/// Stands for every view that keeps rows of an aggregate.
pub(crate) const EVERY_VIEW: &str = "read_models";

/// An event that a view could not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The view's name; `read_models` when no view could read the event.
    pub view: &'static str,
    pub event_id: Uuid,
    pub at: LogPosition,
    pub reason: String,
}

impl Quarantined {
    pub(crate) fn new(view: &'static str, event: &RecordedEvent, reason: String) -> Self {
        Self { view, event_id: event.event_id, at: event.at, reason }
    }

    pub(crate) fn follows(view: &'static str, event: &RecordedEvent, first: Uuid) -> Self {
        Self::new(view, event, format!("follows quarantined event {first} of the same {}", event.aggregate_type))
    }
}

/// Streams that a view must not go on with, and the first event of each that it could not take.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocked(HashMap<(Uuid, String), HashMap<String, Uuid>>);

impl Blocked {
    /// As the quarantine has it.
    pub async fn read(db: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let found: Vec<(String, Uuid, String, Uuid)> = sqlx::query_as(
            "select q.projection, e.aggregate_id, e.aggregate_type, q.event_id from log.quarantine q
               join log.events e on (e.generation, e.transaction_id, e.position)
                                  = (q.generation, q.transaction_id, q.position)
              order by q.generation, q.transaction_id, q.position",
        )
        .fetch_all(db)
        .await?;
        let mut blocked = Self::default();
        for (view, id, kind, event) in found {
            blocked.0.entry((id, kind)).or_default().entry(view).or_insert(event);
        }
        Ok(blocked)
    }

    pub fn block(&mut self, view: &str, event: &RecordedEvent) {
        let stream = (event.aggregate_id, event.aggregate_type.clone());
        self.0.entry(stream).or_default().entry(view.to_owned()).or_insert(event.event_id);
    }

    /// The first event of this stream that the view could not take.
    pub fn first(&self, view: &str, event: &RecordedEvent) -> Option<Uuid> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(event.aggregate_id, event.aggregate_type.clone()))?.get(view).copied()
    }
}

/// An entry of the quarantine, as an operator reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineEntry {
    pub view: String,
    pub event_id: Uuid,
    pub event_type: String,
    pub aggregate_type: String,
    pub aggregate_id: Uuid,
    pub at: LogPosition,
    pub reason: String,
    /// This build can read the event: a rebuild may well take it.
    pub readable: bool,
}

/// The first `limit` entries in the log's order.
pub async fn quarantine(db: &mut PgConnection, limit: i64) -> Result<Vec<QuarantineEntry>, sqlx::Error> {
    let rows: Vec<(String, String, i32, String, i64)> = sqlx::query_as(
        "select projection, reason, generation, transaction_id::text, position from log.quarantine q
          order by q.generation, q.transaction_id, q.position, projection limit $1",
    )
    .bind(limit)
    .fetch_all(&mut *db)
    .await?;
    let mut entries = Vec::new();
    for (view, reason, generation, transaction, position) in rows {
        let transaction_id = transaction.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
        let at = LogPosition { generation, transaction_id, position };
        let Some(event) = event_store::read_event(&mut *db, at).await? else { continue };
        let readable = crate::view::decode_fault(&event).is_none();
        entries.push(QuarantineEntry {
            view,
            event_id: event.event_id,
            event_type: event.event_type,
            aggregate_type: event.aggregate_type,
            aggregate_id: event.aggregate_id,
            at,
            reason,
            readable,
        });
    }
    Ok(entries)
}

/// Does the quarantine hold events that no view could read, and that this build can? Then another build set them aside,
/// and a rebuild is due.
pub(crate) async fn healable(db: &mut PgConnection) -> Result<usize, sqlx::Error> {
    let entries = quarantine(db, 1_000).await?;
    let ids: HashSet<Uuid> = entries
        .iter()
        .filter(|e| e.view == EVERY_VIEW && e.readable && !e.reason.starts_with("follows "))
        .map(|e| e.event_id)
        .collect();
    Ok(ids.len())
}
