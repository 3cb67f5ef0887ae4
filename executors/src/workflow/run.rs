//! An execution in memory: folded state, opened values, and the pinned version.

use std::{collections::BTreeSet, sync::Arc};

use commands::{App, Context, Failure, open, workflow::Pinned};
use domain::{
    execution::{Effect, Execution, Run, StepStatus, next_effects},
    expression::Values,
    ids::{ExecutionId, WorkspaceId},
};
use event_store::Loaded;

use crate::Liveness;

#[derive(Clone)]
pub(super) struct Memory {
    pub id: ExecutionId,
    pub workspace: WorkspaceId,
    pub loaded: Loaded<Execution>,
    pub values: Values,
    pub pinned: Arc<Pinned>,
}

impl Memory {
    /// `None`: there is no such execution.
    pub async fn load(app: &App, id: ExecutionId) -> Result<Option<Self>, Failure> {
        let loaded = app.store().load::<Execution>(id.0).await?;
        let (Some(workspace), Some(input)) = (loaded.workspace, &loaded.state.input) else { return Ok(None) };
        let workspace = WorkspaceId(workspace);
        let pinned = commands::workflow::pinned(app, &loaded.state.definition_hash).await?;
        let input = open::stored_value(app, workspace, "execution.input", input).await?;
        let mut values = Values::new(&input);
        for (key, step) in &loaded.state.steps {
            if let (StepStatus::Completed, Some(output)) = (step.status, &step.output) {
                values.set(key, &open::stored_value(app, workspace, "step.output", output).await?);
            }
        }
        Ok(Some(Self { id, workspace, loaded, values, pinned }))
    }

    pub fn context(&self, liveness: &Liveness) -> Context {
        let state = &self.loaded.state;
        let mut context = Context::system(liveness.name(), self.workspace, state.correlation_id);
        context.request.traceparent.clone_from(&state.traceparent);
        context
    }

    /// Running attempts whose executor is gone: none of ours, lease over or owner dead.
    pub async fn abandoned(&self, app: &App, liveness: &Liveness, ours: &BTreeSet<String>) -> BTreeSet<String> {
        let now = app.now();
        let mut abandoned = BTreeSet::new();
        for (key, step) in &self.loaded.state.steps {
            if step.status != StepStatus::Running || ours.contains(key) {
                continue;
            }
            let expired = step.lease_until.is_none_or(|at| at <= now);
            // Ours by name but not under way here: an earlier drive of this process ended in between.
            if expired || step.executor == liveness.name() || liveness.is_gone(&step.executor).await {
                abandoned.insert(key.clone());
            }
        }
        abandoned
    }

    pub fn effects(&self, app: &App, abandoned: &BTreeSet<String>) -> Vec<Effect> {
        next_effects(&Run {
            id: self.id,
            definition: &self.pinned.definition,
            bindings: &self.pinned.bindings,
            state: &self.loaded.state,
            values: &self.values,
            abandoned,
            now: app.now(),
        })
    }
}
