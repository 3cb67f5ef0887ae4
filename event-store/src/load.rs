//! Loading an aggregate: its stream, folded.

use std::sync::Arc;

use domain::{
    aggregate::Decider,
    event::{DecodeError, EventSet},
};
use uuid::Uuid;

use crate::EventStore;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the log cannot be read: {0}")]
    Database(#[from] Arc<sqlx::Error>),
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
        let rows = self.inner.gather.stream((A::TYPE, id), 1).await?;
        let mut loaded = Loaded { id, state: A::default(), sequence: 0, workspace: None };
        for row in rows {
            let sequence = row.sequence;
            if sequence != loaded.sequence + 1 {
                return Err(LoadError::Gap { aggregate_type: A::TYPE, aggregate_id: id, sequence });
            }
            loaded.state.apply(A::Event::decode(&row.event_type, &row.event_version, &row.payload)?);
            loaded.sequence = sequence;
            loaded.workspace = Some(row.workspace_id);
        }
        Ok(loaded)
    }
}
