//! Loading an aggregate: its stream, folded.

use domain::{
    aggregate::Decider,
    event::{DecodeError, EventSet},
};
use sqlx::Row;
use uuid::Uuid;

use crate::EventStore;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the log cannot be read: {0}")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("the stream {aggregate_type} {aggregate_id} has a gap before {sequence}")]
    Gap { aggregate_type: &'static str, aggregate_id: Uuid, sequence: i64 },
}

/// A folded stream. `sequence` 0 and no workspace: it does not exist.
#[derive(Debug, Clone)]
pub struct Loaded<A> {
    pub id: Uuid,
    pub state: A,
    pub sequence: i64,
    pub workspace: Option<Uuid>,
}

impl EventStore {
    /// Folds a stream from its first event.
    pub async fn load<A: Decider>(&self, id: Uuid) -> Result<Loaded<A>, LoadError> {
        let rows = sqlx::query(
            "select workspace_id, sequence, event_type, event_version, payload::text as payload from log.events
              where aggregate_type = $1 and aggregate_id = $2 order by sequence",
        )
        .bind(A::TYPE)
        .bind(id)
        .fetch_all(self.pool())
        .await?;
        let mut loaded = Loaded { id, state: A::default(), sequence: 0, workspace: None };
        for row in rows {
            let sequence: i64 = row.try_get("sequence")?;
            if sequence != loaded.sequence + 1 {
                return Err(LoadError::Gap { aggregate_type: A::TYPE, aggregate_id: id, sequence });
            }
            let event =
                A::Event::decode(row.try_get("event_type")?, row.try_get("event_version")?, row.try_get("payload")?)?;
            loaded.state.apply(event);
            loaded.sequence = sequence;
            loaded.workspace = Some(row.try_get("workspace_id")?);
        }
        Ok(loaded)
    }
}
