//! Operations of connections' documents: all rows of a connection are replaced at each refresh.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use domain::{
    connection::ConnectionEvent,
    ids::{ConnectionId, EndpointId, WorkspaceId},
    operation::{Operation, SpecSummary},
};
use event_store::read_blob;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    fault::Fault,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
    read::{QueryError, ReadModels},
    row::{Key, Row, id, row},
    table::upsert,
    view::{Fact, Item, Schema, View},
};

row! {
    pub struct OperationView in "operations" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: EndpointId,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        #[serde(with = "id")]
        pub connection_id: ConnectionId,
        /// Place in the document, from 0.
        pub ordinal: u32,
        pub method: String,
        pub path: String,
        pub operation_id: Option<String>,
        pub summary: Option<String>,
        pub description: Option<String>,
        pub tags: Vec<String>,
        pub deprecated: bool,
        /// All of it.
        pub detail: Operation,
    }
}

/// The same for the same connection, method and path, however often the document changes.
pub fn endpoint_id(connection: ConnectionId, method: &str, path: &str) -> EndpointId {
    EndpointId(Uuid::new_v5(&connection.0, format!("{method} {path}").as_bytes()))
}

const LIST: ListSpec = ListSpec {
    order: Order::Ordinal("ordinal"),
    filters: &[
        ("connectionId", "connection_id", Kind::Id("conn")),
        ("method", "method", Kind::Text),
        ("tag", "tags", Kind::Element),
        ("operationId", "operation_id", Kind::Text),
        ("path", "path", Kind::Text),
    ],
    sorts: &[("path", "path"), ("method", "method"), ("operationId", "operation_id")],
    search: &["path", "summary", "operation_id", "description"],
};

impl ReadModels {
    /// Operations of the workspace. Filters: `connectionId`, `method` (upper case), `tag`, `operationId`, `path`.
    /// Sorts: `path`, `method`, `operationId`. Search: path, summary, operationId, description.
    pub async fn operations(
        &self,
        workspace: WorkspaceId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<OperationView>, QueryError> {
        self.list(workspace, &LIST, filter, page).await
    }

    /// Operations of one connection, in document order.
    pub async fn operations_of(
        &self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<OperationView>, QueryError> {
        let filter = filter.clone().with("connectionId", Some(connection.to_string()));
        self.operations(workspace, &filter, page).await
    }

    pub async fn operation(&self, workspace: WorkspaceId, id: EndpointId) -> Result<Option<OperationView>, QueryError> {
        self.get(workspace, id.0).await
    }
}

/// What becomes of one connection's rows.
enum Replacement {
    /// The blob of the newest document of the batch; read by `load`.
    Wanted {
        workspace: WorkspaceId,
        hash: String,
    },
    Rows(Vec<OperationView>),
    None,
}

#[derive(Default)]
pub(crate) struct Operations {
    connections: BTreeMap<ConnectionId, Replacement>,
}

#[async_trait]
impl View for Operations {
    fn name(&self) -> &'static str {
        "operations"
    }

    fn events(&self) -> &'static [&'static str] {
        &["connection.spec_refreshed", "connection.deleted"]
    }

    /// Only the last word of a batch on a connection counts.
    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        let connection = ConnectionId(item.recorded.aggregate_id);
        match item.fact()? {
            Fact::Connection(ConnectionEvent::SpecRefreshed { facts, .. }) => {
                let (workspace, hash) = (WorkspaceId(item.recorded.workspace_id), facts.operations_hash.clone());
                self.connections.insert(connection, Replacement::Wanted { workspace, hash });
            }
            Fact::Connection(ConnectionEvent::Deleted {}) => {
                self.connections.insert(connection, Replacement::None);
            }
            _ => {}
        }
        Ok(())
    }

    async fn load(&mut self, db: &mut PgConnection, _: Schema) -> Result<(), Fault> {
        for (connection, replacement) in &mut self.connections {
            if let Replacement::Wanted { workspace, hash } = replacement {
                let bytes = read_blob(&mut *db, hash).await?;
                let summary: SpecSummary = serde_json::from_slice(&bytes)
                    .map_err(|e| Fault::Event(format!("the operations in blob {hash} cannot be read: {e}")))?;
                *replacement = Replacement::Rows(rows_of(*workspace, *connection, summary));
            }
        }
        Ok(())
    }

    fn fold(&mut self, _: &Item) -> Result<(), Fault> {
        Ok(())
    }

    async fn store(&mut self, db: &mut PgConnection, schema: Schema) -> Result<(), Fault> {
        if self.connections.is_empty() {
            return Ok(());
        }
        let replaced: Vec<Uuid> = self.connections.keys().map(|c| c.0).collect();
        let sql = format!("delete from {schema}.{} where connection_id = any($1)", OperationView::TABLE);
        sqlx::query(&sql).bind(replaced).execute(&mut *db).await?;
        let rows =
            self.connections.values().filter_map(|r| if let Replacement::Rows(rows) = r { Some(rows) } else { None });
        let all: Vec<&OperationView> = rows.flatten().collect();
        // Parts of a few megabytes: one huge parameter would be copied several times over.
        for part in all.chunks(250) {
            upsert(db, schema, part).await?;
        }
        Ok(())
    }
}

fn rows_of(workspace: WorkspaceId, connection: ConnectionId, summary: SpecSummary) -> Vec<OperationView> {
    let mut seen = HashSet::new();
    let mut rows = Vec::with_capacity(summary.operations.len());
    for (ordinal, operation) in (0u32..).zip(summary.operations) {
        let id = endpoint_id(connection, &operation.method, &operation.path);
        // A document may name the same operation twice; the first counts.
        if !seen.insert(id) {
            continue;
        }
        rows.push(OperationView {
            id,
            workspace_id: workspace,
            connection_id: connection,
            ordinal,
            method: operation.method.clone(),
            path: operation.path.clone(),
            operation_id: operation.operation_id.clone(),
            summary: operation.summary.clone(),
            description: operation.description.clone(),
            tags: operation.tags.clone(),
            deprecated: operation.deprecated,
            detail: operation,
        });
    }
    rows
}
