//! Executions: where each stands, and when a sweep should look at it again.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    execution::{ExecutionEvent, ExecutionStatus, StepError, StepStatus},
    ids::{ExecutionId, WorkflowId, WorkspaceId},
    sealed::Stored,
};

use crate::{
    fault::Fault,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
    read::{QueryError, ReadModels},
    row::{Key, id, row},
    steps::{self, ExecutionStepView},
    table::{Rows, Table},
    view::{Fact, Item, View},
};

/// After an event that another one should follow at once: how long until a sweep looks whether it did.
const FOLLOW_UP: TimeDelta = TimeDelta::seconds(2);

row! {
    pub struct ExecutionView in "executions" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: ExecutionId,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        #[serde(with = "id")]
        pub workflow_id: WorkflowId,
        pub workflow_version: i32,
        pub status: ExecutionStatus,
        pub trigger: String,
        /// The actor's id as text.
        pub started_by: String,
        pub input: Stored,
        pub output: Option<Stored>,
        pub error: Option<StepError>,
        /// Key of the step that failed the execution.
        pub failed_step: Option<String>,
        /// Step instances seen so far (not those of the definition: see the workflow version's `step_count`).
        pub step_count: i32,
        pub completed_step_count: i32,
        pub unknown_step_count: i32,
        pub started_at: DateTime<Utc>,
        pub ended_at: Option<DateTime<Utc>>,
        /// When a sweep should look again; absent when nothing happens by itself.
        pub wake_at: Option<DateTime<Utc>>,
        /// The stream's last sequence.
        pub version: i64,
    }
}

const LIST: ListSpec = ListSpec {
    order: Order::Time("started_at"),
    filters: &[
        ("status", "status", Kind::Text),
        ("workflowId", "workflow_id", Kind::Id("wf")),
        ("trigger", "trigger", Kind::Text),
        ("startedBy", "started_by", Kind::Text),
    ],
    sorts: &[("startedAt", "started_at"), ("createdAt", "started_at"), ("endedAt", "ended_at"), ("status", "status")],
    search: &[],
};

impl ReadModels {
    /// Filters: `status`, `workflowId`, `trigger`, `startedBy`; created times are start times.
    /// Sorts: `startedAt`, `createdAt`, `endedAt`, `status`.
    pub async fn executions(
        &self,
        workspace: WorkspaceId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<ExecutionView>, QueryError> {
        self.list(workspace, &LIST, filter, page).await
    }

    pub async fn execution(
        &self,
        workspace: WorkspaceId,
        id: ExecutionId,
    ) -> Result<Option<ExecutionView>, QueryError> {
        self.get(workspace, id.0).await
    }

    /// The first 1,000 step instances, in the order in which they began.
    pub async fn steps(
        &self,
        workspace: WorkspaceId,
        execution: ExecutionId,
    ) -> Result<Vec<ExecutionStepView>, QueryError> {
        self.all(workspace, "t.execution_id = $1 order by t.ordinal limit 1000", execution.0).await
    }
}

#[derive(Default)]
pub(crate) struct Executions {
    executions: Table<ExecutionView>,
    steps: Table<ExecutionStepView>,
}

impl View for Executions {
    fn name(&self) -> &'static str {
        "executions"
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "execution.started",
            "execution.step_started",
            "execution.step_completed",
            "execution.step_failed",
            "execution.step_outcome_unknown",
            "execution.step_skipped",
            "execution.step_entered",
            "execution.completed",
            "execution.failed",
            "execution.cancelled",
        ]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        let id = item.recorded.aggregate_id;
        self.executions.want_own(&item.recorded);
        if item.recorded.sequence == 1 {
            self.steps.born(id);
        }
        if let Fact::Execution(event) = item.fact()?
            && let Some((key, _)) = steps::step_of(event)
        {
            self.steps.want(Key::pair(id, key));
        }
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.executions, &mut self.steps]
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        let recorded = &item.recorded;
        let Fact::Execution(event) = item.fact()? else { return Ok(()) };
        if let ExecutionEvent::Started { .. } = event {
            let started_by = item.metadata()?.actor_id.clone();
            if let Some(row) = started(item, event, started_by) {
                self.executions.put(row);
            }
            return Ok(());
        }
        let step = self.fold_step(item, event);
        let Some(row) = self.executions.change(&Key::of(recorded.aggregate_id)) else { return Ok(()) };
        if let Some((before, after)) = step {
            count(row, before, after);
        }
        conclude(row, event);
        row.wake_at = wake_at(row, event, recorded.recorded_at);
        row.version = recorded.sequence;
        Ok(())
    }
}

impl Executions {
    /// The step's status before (`None`: it is new) and after.
    fn fold_step(&mut self, item: &Item, event: &ExecutionEvent) -> Option<(Option<StepStatus>, StepStatus)> {
        let (key, step_id) = steps::step_of(event)?;
        let at = Key::pair(item.recorded.aggregate_id, key);
        let before = self.steps.get(&at).map(|s| s.status);
        if before.is_none() {
            self.steps.put(steps::unborn(&item.recorded, key, step_id));
        }
        let step = self.steps.change(&at)?;
        steps::fold(step, event, item.recorded.recorded_at);
        Some((before, step.status))
    }
}

fn started(item: &Item, event: &ExecutionEvent, started_by: String) -> Option<ExecutionView> {
    let ExecutionEvent::Started { workflow_id, workflow_version, input, trigger, started_at, .. } = event else {
        return None;
    };
    Some(ExecutionView {
        id: ExecutionId(item.recorded.aggregate_id),
        workspace_id: WorkspaceId(item.recorded.workspace_id),
        workflow_id: *workflow_id,
        workflow_version: *workflow_version,
        status: ExecutionStatus::Running,
        trigger: trigger.clone(),
        started_by,
        input: input.clone(),
        output: None,
        error: None,
        failed_step: None,
        step_count: 0,
        completed_step_count: 0,
        unknown_step_count: 0,
        started_at: *started_at,
        ended_at: None,
        wake_at: Some(item.recorded.recorded_at + FOLLOW_UP),
        version: item.recorded.sequence,
    })
}

fn count(row: &mut ExecutionView, before: Option<StepStatus>, after: StepStatus) {
    let change = |status| i32::from(after == status) - i32::from(before == Some(status));
    row.step_count += i32::from(before.is_none());
    row.completed_step_count += change(StepStatus::Completed);
    row.unknown_step_count += change(StepStatus::OutcomeUnknown);
    // As in the domain: a person resolved the last unknown outcome, the execution runs on; what a cancelled one's last
    // call came to changes nothing.
    if row.status.is_terminal() {
        return;
    }
    if row.unknown_step_count > 0 {
        row.status = ExecutionStatus::OutcomeUnknown;
    } else if row.status == ExecutionStatus::OutcomeUnknown {
        row.status = ExecutionStatus::Running;
    }
}

fn conclude(row: &mut ExecutionView, event: &ExecutionEvent) {
    match event {
        ExecutionEvent::Completed { output, completed_at } => {
            row.status = ExecutionStatus::Completed;
            row.output = Some(output.clone());
            row.ended_at = Some(*completed_at);
        }
        ExecutionEvent::Failed { key, error, failed_at } => {
            row.status = ExecutionStatus::Failed;
            row.failed_step = key.clone();
            row.error = Some(error.clone());
            row.ended_at = Some(*failed_at);
        }
        ExecutionEvent::Cancelled { cancelled_at } => {
            row.status = ExecutionStatus::Cancelled;
            row.ended_at = Some(*cancelled_at);
        }
        _ => {}
    }
}

fn wake_at(row: &ExecutionView, event: &ExecutionEvent, recorded_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if row.status != ExecutionStatus::Running {
        return None;
    }
    Some(match event {
        ExecutionEvent::StepStarted { lease_until, .. } => *lease_until,
        ExecutionEvent::StepFailed { retry_at: Some(at), .. } => *at,
        _ => recorded_at + FOLLOW_UP,
    })
}
