//! Which operations each version of a workflow calls: who is affected when a document changes.

use std::collections::HashMap;

use async_trait::async_trait;
use domain::{
    ids::{ConnectionId, ExecutionId, WorkflowId, WorkspaceId},
    workflow::{Binding, Version, WorkflowEvent},
};
use event_store::read_blobs;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    fault::Fault,
    fold::Reader,
    row::{Key, id, row},
    table::{Rows, Table},
    view::{Fact, Item, View},
};

row! {
    /// One call of one version. Kept when the workflow is deleted: executions are pinned to it.
    pub struct WorkflowOperationView in "workflow_operations" by ["workflow_id", "key"]
        = |row| Key::pair(row.workflow_id, row.key.as_str()); once true;
    {
        #[serde(with = "id")]
        pub workflow_id: WorkflowId,
        /// Version and step: `3 fetch`.
        pub key: String,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        pub version: i32,
        pub step_id: String,
        #[serde(with = "id")]
        pub connection_id: ConnectionId,
        /// `METHOD /path`
        pub operation: String,
    }
}

/// A workflow whose present version calls some operations.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct CallingWorkflow {
    pub id: Uuid,
    pub name: String,
    pub version: i32,
    pub operations: Vec<String>,
}

/// Who calls some operations of a connection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Callers {
    /// The oldest first.
    pub workflows: Vec<CallingWorkflow>,
    pub workflow_count: i64,
    /// Those that have not ended, of any version that calls them; the oldest first.
    pub executions: Vec<ExecutionId>,
    pub execution_count: i64,
}

/// Who calls any of `operations` (`METHOD /path`); at most `most` of each kind are named.
pub(crate) async fn callers(
    pool: &PgPool,
    workspace: WorkspaceId,
    connection: ConnectionId,
    operations: &[String],
    most: i64,
) -> Result<Callers, sqlx::Error> {
    const CALLS: &str = "o.workspace_id = $1 and o.connection_id = $2 and o.operation = any($3)";
    let calling = format!(
        "from read_models.workflow_operations o
           join read_models.workflows w on w.id = o.workflow_id and w.current_version = o.version
          where {CALLS}"
    );
    let running = format!(
        "from read_models.workflow_operations o
           join read_models.executions e on e.workflow_id = o.workflow_id and e.workflow_version = o.version
          where {CALLS} and e.status not in ('completed', 'failed', 'cancelled')"
    );
    let sql = format!(
        "select (select count(distinct w.id) {calling}) as workflows, (select count(distinct e.id) {running}) as executions"
    );
    let (workflow_count, execution_count): (i64, i64) =
        sqlx::query_as(&sql).bind(workspace.0).bind(connection.0).bind(operations).fetch_one(pool).await?;
    let sql = format!(
        "select w.id, w.name, w.current_version as version, array_agg(distinct o.operation) as operations
           {calling} group by w.id order by w.created_at, w.id limit $4"
    );
    let workflows: Vec<CallingWorkflow> =
        sqlx::query_as(&sql).bind(workspace.0).bind(connection.0).bind(operations).bind(most).fetch_all(pool).await?;
    let sql = format!("select distinct e.id, e.started_at {running} order by e.started_at, e.id limit $4");
    let executions: Vec<(Uuid, chrono::DateTime<chrono::Utc>)> =
        sqlx::query_as(&sql).bind(workspace.0).bind(connection.0).bind(operations).bind(most).fetch_all(pool).await?;
    let executions = executions.into_iter().map(|(id, _)| ExecutionId(id)).collect();
    Ok(Callers { workflows, workflow_count, executions, execution_count })
}

/// One call of a definition: its step, its connection, its operation.
type Call = (String, ConnectionId, String);

#[derive(Default)]
pub(crate) struct WorkflowOperations {
    operations: Table<WorkflowOperationView>,
    /// Definitions that a batch names.
    wanted: Vec<String>,
    read: HashMap<String, Result<Vec<Call>, String>>,
}

#[async_trait]
impl View for WorkflowOperations {
    fn name(&self) -> &'static str {
        "workflow_operations"
    }

    fn events(&self) -> &'static [&'static str] {
        &["workflow.created", "workflow.updated"]
    }

    /// Versions do not build on each other.
    fn in_order(&self) -> bool {
        false
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        self.wanted.extend(version_in(item)?.map(|(_, hash)| hash.to_owned()));
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.operations]
    }

    async fn read(&mut self, db: &mut dyn Reader) -> Result<(), Fault> {
        self.read.clear();
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(());
        }
        for (hash, bytes) in read_blobs(db.connection().await?, &wanted).await? {
            self.read.insert(hash, bytes.map_err(|e| e.to_string()).and_then(|bytes| calls(&bytes)));
        }
        Ok(())
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        let Some((version, hash)) = version_in(item)? else { return Ok(()) };
        let calls = match self.read.get(hash) {
            Some(Ok(calls)) => calls,
            Some(Err(reason)) => return Err(Fault::Event(reason.clone())),
            // A version whose blob is gone cannot be run, and so calls nothing.
            None => return Ok(()),
        };
        for (step_id, connection_id, operation) in calls {
            self.operations.put(WorkflowOperationView {
                workflow_id: WorkflowId(item.recorded.aggregate_id),
                key: format!("{version} {step_id}"),
                workspace_id: WorkspaceId(item.recorded.workspace_id),
                version,
                step_id: step_id.clone(),
                connection_id: *connection_id,
                operation: operation.clone(),
            });
        }
        Ok(())
    }
}

/// The version that an event brings, and its blob.
fn version_in(item: &Item) -> Result<Option<(i32, &str)>, Fault> {
    Ok(match item.fact()? {
        Fact::Workflow(WorkflowEvent::Created { version, definition_hash, .. }) => Some((*version, definition_hash)),
        Fact::Workflow(WorkflowEvent::Updated { version: Some(version), definition_hash: Some(hash), .. }) => {
            Some((*version, hash))
        }
        _ => None,
    })
}

fn calls(bytes: &[u8]) -> Result<Vec<Call>, String> {
    let version: Version = serde_json::from_slice(bytes).map_err(|e| format!("a definition cannot be read: {e}"))?;
    let mut calls = Vec::new();
    collect(&version.definition["steps"], &version.bindings, &mut calls);
    Ok(calls)
}

/// Whatever has an id with a binding and names a connection calls it: steps of every type, at any depth.
fn collect(value: &Value, bindings: &std::collections::BTreeMap<String, Binding>, calls: &mut Vec<Call>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, bindings, calls)),
        Value::Object(step) => {
            let text = |name: &str| step.get(name).and_then(Value::as_str);
            if let (Some(id), Some(connection)) = (text("id"), text("connectionId"))
                && let (Some(binding), Ok(connection)) = (bindings.get(id), connection.parse())
            {
                calls.push((id.to_owned(), connection, format!("{} {}", binding.method, binding.path)));
            }
            step.values().for_each(|value| collect(value, bindings, calls));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_are_found_at_any_depth_and_only_bound_ones() {
        let connection = ConnectionId::default();
        let step = |id: &str| json!({ "id": id, "type": "api_call", "connectionId": connection });
        let definition = json!({ "steps": [
            step("a"),
            { "id": "if", "type": "condition", "then": [step("b")], "else": [{ "id": "each", "steps": [step("c")] }] },
            { "id": "text", "type": "transform", "output": step("not bound") },
        ] });
        let binding = |path: &str| json!({ "method": "GET", "path": path });
        let bindings = json!({ "a": binding("/a"), "b": binding("/b"), "c": binding("/c/{id}") });
        let blob = json!({ "definition": definition, "bindings": bindings }).to_string();
        let found: Vec<String> = calls(blob.as_bytes()).unwrap().into_iter().map(|(_, _, call)| call).collect();
        assert_eq!(found.len(), 3);
        assert!(["GET /a", "GET /b", "GET /c/{id}"].iter().all(|call| found.iter().any(|f| f == call)), "{found:?}");
    }
}
