//! The history of connections' documents: a row for each that differed from the one before.

use chrono::{DateTime, Utc};
use domain::{
    actor::ActorKind,
    connection::{ConnectionEvent, DocumentVia},
    ids::{ConnectionId, WorkspaceId},
};
use serde::{Deserialize, Serialize};

use crate::{
    connections::ConnectionView,
    fault::Fault,
    read::{QueryError, ReadModels},
    row::{Key, id, row},
    view::Item,
};

/// Who wanted a document to be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    pub kind: ActorKind,
    /// TypeID text of the user or key; the node's name for the schedule.
    pub id: String,
    /// By the connection's schedule.
    pub scheduled: bool,
    pub at: DateTime<Utc>,
}

impl Asked {
    pub(crate) fn of(item: &Item, scheduled: bool) -> Result<Self, Fault> {
        let metadata = item.metadata()?;
        let at = item.recorded.recorded_at;
        Ok(Self { kind: metadata.actor_kind, id: metadata.actor_id.clone(), scheduled, at })
    }
}

row! {
    /// One version of a connection's document. Kept when the connection is deleted.
    pub struct ConnectionSpecView in "connection_specs" by ["connection_id", "number"]
        = |row| Key::pair(row.connection_id, row.number.to_string()); once true;
    {
        #[serde(with = "id")]
        pub connection_id: ConnectionId,
        /// From 1.
        pub number: i32,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        /// The document's blob.
        pub spec_hash: String,
        /// The blob of its operations.
        pub operations_hash: String,
        /// Of the OpenAPI format.
        pub spec_version: String,
        pub title: String,
        pub api_version: String,
        pub format: String,
        pub size: u64,
        pub endpoint_count: u32,
        pub webhook_count: u32,
        /// Against the version before.
        pub added: u32,
        pub removed: u32,
        pub changed: u32,
        pub breaking: u32,
        pub via: Option<DocumentVia>,
        pub asked: Option<Asked>,
        pub created_at: DateTime<Utc>,
    }
}

/// The version that an event adds to a connection's history.
pub(crate) fn version_of(
    row: &ConnectionView,
    event: &ConnectionEvent,
    at: DateTime<Utc>,
) -> Option<ConnectionSpecView> {
    let ConnectionEvent::SpecRefreshed { facts, changes, via } = event else { return None };
    Some(ConnectionSpecView {
        connection_id: row.id,
        number: row.spec_number + 1,
        workspace_id: row.workspace_id,
        spec_hash: facts.spec_hash.clone(),
        operations_hash: facts.operations_hash.clone(),
        spec_version: facts.spec_version.clone(),
        title: facts.title.clone(),
        api_version: facts.api_version.clone(),
        format: facts.format.clone(),
        size: facts.size,
        endpoint_count: facts.endpoint_count,
        webhook_count: facts.webhook_count,
        added: changes.added,
        removed: changes.removed,
        changed: changes.changed,
        // Old events tell the first sentences only.
        breaking: changes.breaking_count.max(u32::try_from(changes.breaking.len()).unwrap_or(u32::MAX)),
        via: *via,
        asked: row.asked.clone(),
        created_at: at,
    })
}

impl ReadModels {
    /// The newest 1,000 versions of a connection's document, newest first.
    pub async fn connection_specs(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
    ) -> Result<Vec<ConnectionSpecView>, QueryError> {
        self.all(workspace, "t.connection_id = $1 order by t.number desc limit 1000", id.0).await
    }

    pub async fn connection_spec(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
        number: i32,
    ) -> Result<Option<ConnectionSpecView>, QueryError> {
        let mut tx = self.of(workspace).await?;
        let text: Option<String> = sqlx::query_scalar(
            "select row_to_json(t)::text from read_models.connection_specs t
              where t.connection_id = $1 and t.number = $2",
        )
        .bind(id.0)
        .bind(number)
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        text.map(|t| serde_json::from_str(&t).map_err(|e| QueryError::corrupt("connection_specs", e))).transpose()
    }
}
