//! Workflows and their versions; how often and when they last ran.

use chrono::{DateTime, Utc};
use domain::{
    execution::ExecutionEvent,
    ids::{WorkflowId, WorkspaceId},
    workflow::{Status, WorkflowEvent},
};

use crate::{
    fault::Fault,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
    read::{QueryError, ReadModels},
    row::{Key, id, row},
    table::{Rows, Table},
    view::{Fact, Item, View},
};

row! {
    pub struct WorkflowView in "workflows" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: WorkflowId,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        pub name: String,
        pub description: Option<String>,
        pub status: Status,
        pub current_version: i32,
        /// The current version's blob.
        pub definition_hash: String,
        pub step_count: u32,
        pub execution_count: i64,
        pub last_execution_at: Option<DateTime<Utc>>,
        pub created_at: DateTime<Utc>,
        pub updated_at: DateTime<Utc>,
        /// The stream's last sequence; executions do not count.
        pub version: i64,
    }
}

row! {
    /// One immutable version. Kept when its workflow is deleted: executions are pinned to it.
    pub struct WorkflowVersionView in "workflow_versions" by ["workflow_id", "version"]
        = |row| Key::pair(row.workflow_id, row.version.to_string());
    {
        #[serde(with = "id")]
        pub workflow_id: WorkflowId,
        pub version: i32,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        pub definition_hash: String,
        pub step_count: u32,
        pub created_by: String,
        pub created_at: DateTime<Utc>,
    }
}

const LIST: ListSpec = ListSpec {
    order: Order::Time("created_at"),
    filters: &[("status", "status", Kind::Text)],
    sorts: &[
        ("createdAt", "created_at"),
        ("updatedAt", "updated_at"),
        ("name", "name"),
        ("lastExecutionAt", "last_execution_at"),
        ("executionCount", "execution_count"),
    ],
    search: &["name", "description"],
};

impl ReadModels {
    /// Filters: `status`. Sorts: `createdAt`, `updatedAt`, `name`, `lastExecutionAt`, `executionCount`.
    pub async fn workflows(
        &self,
        workspace: WorkspaceId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<WorkflowView>, QueryError> {
        self.list(workspace, &LIST, filter, page).await
    }

    pub async fn workflow(&self, workspace: WorkspaceId, id: WorkflowId) -> Result<Option<WorkflowView>, QueryError> {
        self.get(workspace, id.0).await
    }

    /// The newest 1,000 versions, newest first.
    pub async fn workflow_versions(
        &self,
        workspace: WorkspaceId,
        id: WorkflowId,
    ) -> Result<Vec<WorkflowVersionView>, QueryError> {
        self.all(workspace, "t.workflow_id = $1 order by t.version desc limit 1000", id.0).await
    }

    /// One version: of any workflow that was ever here, deleted ones too.
    pub async fn workflow_version(
        &self,
        workspace: WorkspaceId,
        id: WorkflowId,
        version: i32,
    ) -> Result<Option<WorkflowVersionView>, QueryError> {
        let mut tx = self.of(workspace).await?;
        let text: Option<String> = sqlx::query_scalar(
            "select row_to_json(t)::text from read_models.workflow_versions t where t.workflow_id = $1 and t.version = $2",
        )
        .bind(id.0)
        .bind(version)
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        text.map(|t| serde_json::from_str(&t).map_err(|e| QueryError::corrupt("workflow_versions", e))).transpose()
    }
}

#[derive(Default)]
pub(crate) struct Workflows {
    workflows: Table<WorkflowView>,
    versions: Table<WorkflowVersionView>,
}

impl View for Workflows {
    fn name(&self) -> &'static str {
        "workflows"
    }

    fn events(&self) -> &'static [&'static str] {
        &["workflow.created", "workflow.updated", "workflow.status_changed", "workflow.deleted", "execution.started"]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        match item.fact()? {
            Fact::Workflow(_) => self.workflows.want_own(&item.recorded),
            Fact::Execution(ExecutionEvent::Started { workflow_id, .. }) => self.workflows.want(Key::of(*workflow_id)),
            _ => {}
        }
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.workflows, &mut self.versions]
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        match item.fact()? {
            Fact::Workflow(event) => self.fold_own(item, event)?,
            Fact::Execution(ExecutionEvent::Started { workflow_id, .. }) => {
                if let Some(row) = self.workflows.change(&Key::of(*workflow_id)) {
                    row.execution_count += 1;
                    row.last_execution_at = Some(item.recorded.recorded_at);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Workflows {
    fn fold_own(&mut self, item: &Item, event: &WorkflowEvent) -> Result<(), Fault> {
        let recorded = &item.recorded;
        let key = Key::of(recorded.aggregate_id);
        match event {
            WorkflowEvent::Created { name, description, version, definition_hash, step_count } => {
                self.workflows.put(WorkflowView {
                    id: WorkflowId(recorded.aggregate_id),
                    workspace_id: WorkspaceId(recorded.workspace_id),
                    name: name.clone(),
                    description: description.clone(),
                    status: Status::default(),
                    current_version: *version,
                    definition_hash: definition_hash.clone(),
                    step_count: *step_count,
                    execution_count: 0,
                    last_execution_at: None,
                    created_at: recorded.recorded_at,
                    updated_at: recorded.recorded_at,
                    version: recorded.sequence,
                });
                self.add_version(item, *version, definition_hash, *step_count)?;
            }
            WorkflowEvent::Updated { name, description, version, definition_hash, step_count } => {
                let Some(row) = self.workflows.change(&key) else { return Ok(()) };
                row.name = name.clone().unwrap_or_else(|| std::mem::take(&mut row.name));
                row.description = description.clone().or(row.description.take());
                row.updated_at = recorded.recorded_at;
                row.version = recorded.sequence;
                if let (Some(version), Some(hash)) = (version, definition_hash) {
                    row.current_version = *version;
                    row.definition_hash = hash.clone();
                    row.step_count = step_count.unwrap_or(row.step_count);
                    let steps = row.step_count;
                    self.add_version(item, *version, hash, steps)?;
                }
            }
            WorkflowEvent::StatusChanged { status } => {
                if let Some(row) = self.workflows.change(&key) {
                    row.status = *status;
                    row.updated_at = recorded.recorded_at;
                    row.version = recorded.sequence;
                }
            }
            WorkflowEvent::Deleted {} => self.workflows.remove(&key),
        }
        Ok(())
    }

    fn add_version(&mut self, item: &Item, version: i32, hash: &str, steps: u32) -> Result<(), Fault> {
        self.versions.put(WorkflowVersionView {
            workflow_id: WorkflowId(item.recorded.aggregate_id),
            version,
            workspace_id: WorkspaceId(item.recorded.workspace_id),
            definition_hash: hash.to_owned(),
            step_count: steps,
            created_by: item.metadata()?.actor_id.clone(),
            created_at: item.recorded.recorded_at,
        });
        Ok(())
    }
}
