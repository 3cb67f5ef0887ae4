//! Plans: which planner drafted them, what came of them. The proposed workflow itself stays sealed in the log.

use chrono::{DateTime, Utc};
use domain::{
    ids::{ExecutionId, PlanId, WorkflowId, WorkspaceId},
    plan::PlanEvent,
};

use crate::{
    fault::Fault,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
    read::{QueryError, ReadModels},
    row::{Key, id, optional_id, row},
    table::{Rows, Table},
    view::{Fact, Item, View},
};

row! {
    pub struct PlanView in "plans" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: PlanId,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        /// `llm` or `offline`.
        pub planner: String,
        pub plan_hash: String,
        /// 0 to 1.
        pub confidence: f32,
        /// Does a step change something outside?
        pub writes: bool,
        /// What the last confirmation started.
        #[serde(with = "optional_id")]
        pub workflow_id: Option<WorkflowId>,
        #[serde(with = "optional_id")]
        pub execution_id: Option<ExecutionId>,
        pub created_by: String,
        pub created_at: DateTime<Utc>,
    }
}

const LIST: ListSpec = ListSpec {
    order: Order::Time("created_at"),
    filters: &[("planner", "planner", Kind::Text)],
    sorts: &[("createdAt", "created_at"), ("confidence", "confidence")],
    search: &[],
};

impl ReadModels {
    /// Filters: `planner`. Sorts: `createdAt`, `confidence`.
    pub async fn plans(
        &self,
        workspace: WorkspaceId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<PlanView>, QueryError> {
        self.list(workspace, &LIST, filter, page).await
    }

    pub async fn plan(&self, workspace: WorkspaceId, id: PlanId) -> Result<Option<PlanView>, QueryError> {
        self.get(workspace, id.0).await
    }
}

#[derive(Default)]
pub(crate) struct Plans {
    plans: Table<PlanView>,
}

impl View for Plans {
    fn name(&self) -> &'static str {
        "plans"
    }

    fn events(&self) -> &'static [&'static str] {
        &["plan.drafted", "plan.executed"]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        self.plans.want_own(&item.recorded);
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.plans]
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        let recorded = &item.recorded;
        let Fact::Plan(event) = item.fact()? else { return Ok(()) };
        match event {
            PlanEvent::Drafted { planner, plan_hash, confidence, writes, .. } => self.plans.put(PlanView {
                id: PlanId(recorded.aggregate_id),
                workspace_id: WorkspaceId(recorded.workspace_id),
                planner: planner.clone(),
                plan_hash: plan_hash.clone(),
                confidence: *confidence,
                writes: *writes,
                workflow_id: None,
                execution_id: None,
                created_by: item.metadata()?.actor_id.clone(),
                created_at: recorded.recorded_at,
            }),
            PlanEvent::Executed { workflow_id, execution_id, .. } => {
                if let Some(plan) = self.plans.change(&Key::of(recorded.aggregate_id)) {
                    plan.workflow_id = Some(*workflow_id);
                    plan.execution_id = Some(*execution_id);
                }
            }
        }
        Ok(())
    }
}
