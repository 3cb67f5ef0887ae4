//! Operations of connections' documents: all rows of a connection are replaced at each refresh.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use async_trait::async_trait;
use domain::{
    connection::ConnectionEvent,
    ids::{ConnectionId, EndpointId, WorkspaceId},
    operation::{Operation, SpecSummary},
};
use event_store::read_blob;
use uuid::Uuid;

use crate::{
    cells::Columns,
    fault::Fault,
    fold::Reader,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
    read::{QueryError, ReadModels},
    row::{Key, Row, id, row},
    statement::Statement,
    table::Rows,
    view::{Fact, Item, View},
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

/// Rows written in a transaction of their own, ahead of the batch's: a document of thousands must not hold one for long.
const AHEAD: usize = 200;

#[derive(Default)]
pub(crate) struct Operations {
    /// Connections whose rows are replaced, each with its newest document's rows; none when it was deleted.
    replaced: Replaced,
    /// Documents that a batch names, by the blob's hash. All are read, not only the last
    /// of each connection: whether an event can be taken must not depend on how the log is cut into batches.
    wanted: Vec<Wanted>,
    /// By event. Each is taken out when it is folded: a large document must not stay here until the next one comes.
    read: HashMap<Uuid, Result<Vec<OperationView>, String>>,
}

struct Wanted {
    event: Uuid,
    connection: ConnectionId,
    workspace: WorkspaceId,
    hash: String,
}

#[derive(Default)]
struct Replaced {
    keep: BTreeMap<ConnectionId, Vec<EndpointId>>,
    rows: VecDeque<OperationView>,
}

impl Rows for Replaced {
    fn load(&mut self, _: &mut Statement) -> Result<(), Fault> {
        Ok(())
    }

    fn take(&mut self, _: &str, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    fn store(&mut self, statement: &mut Statement, most: usize) -> Result<usize, Fault> {
        let mut count = most.min(self.rows.len());
        if count > 0 {
            let mut columns = Columns::new(&statement.types, OperationView::TABLE, OperationView::COLUMNS);
            for row in self.rows.drain(..count) {
                columns.push(&row).map_err(|e| Fault::Event(e.to_string()))?;
            }
            statement.insert(OperationView::TABLE, OperationView::KEY, &columns, true)?;
        }
        if self.rows.is_empty() && !self.keep.is_empty() {
            // What the new document does not name: no row that this statement writes.
            let connections: Vec<Uuid> = self.keep.keys().map(|c| c.0).collect();
            let kept: Vec<Uuid> = std::mem::take(&mut self.keep).into_values().flatten().map(|id| id.0).collect();
            count += 1;
            let (connections, kept) = (statement.bind(connections)?, statement.bind(kept)?);
            let (schema, table) = (statement.schema, OperationView::TABLE);
            statement.part(format!(
                "delete from {schema}.{table} where connection_id = any({connections}) and id <> all({kept})"
            ));
        }
        Ok(count)
    }

    fn store_ahead(&mut self, statement: &mut Statement) -> Result<usize, Fault> {
        match self.rows.len() > AHEAD {
            true => self.store(statement, AHEAD),
            false => Ok(0),
        }
    }

    fn keep(&mut self, _: usize) {
        self.clear();
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[async_trait]
impl View for Operations {
    fn name(&self) -> &'static str {
        "operations"
    }

    fn events(&self) -> &'static [&'static str] {
        &["connection.spec_refreshed", "connection.deleted"]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        if let Fact::Connection(ConnectionEvent::SpecRefreshed { facts, .. }) = item.fact()? {
            let recorded = &item.recorded;
            let (connection, workspace) = (recorded.aggregate_id.into(), recorded.workspace_id.into());
            let (event, hash) = (recorded.event_id, facts.operations_hash.clone());
            self.wanted.push(Wanted { event, connection, workspace, hash });
        }
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.replaced]
    }

    async fn read(&mut self, db: &mut dyn Reader) -> Result<(), Fault> {
        self.read.clear();
        for Wanted { event, connection, workspace, hash } in std::mem::take(&mut self.wanted) {
            let rows = match read_blob(db.connection().await?, &hash).await.map_err(Fault::from) {
                Ok(bytes) => serde_json::from_slice(&bytes)
                    .map(|summary| rows_of(workspace, connection, summary))
                    .map_err(|e| format!("the operations in blob {hash} cannot be read: {e}")),
                Err(Fault::Event(reason)) => Err(reason),
                Err(other) => return Err(other),
            };
            self.read.insert(event, rows);
        }
        Ok(())
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        let connection = ConnectionId(item.recorded.aggregate_id);
        let rows = match item.fact()? {
            Fact::Connection(ConnectionEvent::SpecRefreshed { facts, .. }) => {
                match self.read.remove(&item.recorded.event_id) {
                    Some(Ok(rows)) => rows,
                    Some(Err(reason)) => return Err(Fault::Event(reason)),
                    None => return Err(Fault::Event(format!("blob {} was not read", facts.operations_hash))),
                }
            }
            Fact::Connection(ConnectionEvent::Deleted {}) => vec![],
            _ => return Ok(()),
        };
        self.replaced.rows.retain(|row| row.connection_id != connection);
        self.replaced.keep.insert(connection, rows.iter().map(|row| row.id).collect());
        self.replaced.rows.extend(rows);
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
