//! Runs exactly the plan that was shown.

use chrono::{DateTime, Utc};
use domain::{
    error::{Code, Rejection},
    ids::{ExecutionId, PlanId, WorkflowId},
    plan::{Plan, PlanCommand},
    workflow::{Workflow, WorkflowCommand},
};
use serde_json::{Value, json};

use super::plan::{PlanRequest, definition_of, plan};
use crate::{
    App, Context, Failure, Outcome,
    execution::stage_start,
    unit::{self, Unit, fresh},
    workflow,
};

#[derive(Debug, Clone)]
pub struct PlanExecuted {
    pub execution_id: ExecutionId,
    pub workflow_id: WorkflowId,
    pub started_at: DateTime<Utc>,
}

/// `plan_hash` is what the person saw: another plan is refused.
pub async fn execute(app: &App, context: &Context, id: PlanId, plan_hash: &str, input: Value) -> Outcome<PlanExecuted> {
    let workspace = context.actor.workspace;
    let mut loaded = unit::owned::<Plan>(app, workspace, id.0, Code::PlanNotFound, "plan").await?;
    let Some(sealed) = loaded.state.workflow.clone() else {
        return Err(Rejection::not_found(Code::PlanNotFound, "plan").into());
    };
    if loaded.state.plan_hash != plan_hash {
        return Err(Failure::rejected(
            Code::Conflict,
            "planHash is not the hash of this plan: look at the plan again and confirm what it says now.",
        ));
    }
    let drafted = app.vault().open_sealed(workspace, "plan.workflow", &sealed).await?;
    let saved = workflow::save(app, workspace, None, &definition_of(&drafted)).await?;
    let name = drafted.get("name").and_then(Value::as_str).unwrap_or("Planned workflow").to_owned();
    let workflow_id: WorkflowId = app.new_id();
    let mut new = fresh::<Workflow>(workflow_id.0);
    let mut unit = Unit::new(app, context).await?;
    let create = WorkflowCommand::Create {
        name,
        description: Some(format!("From plan {id}.")),
        definition_hash: saved.definition_hash,
        step_count: saved.step_count,
    };
    unit.stage(&mut new, create)?;
    let started = stage_start(app, context, &mut unit, &new, input, "chat").await?;
    let execute =
        PlanCommand::Execute { plan_hash: plan_hash.to_owned(), workflow: workflow_id, execution: started.id };
    unit.stage(&mut loaded, execute)?;
    unit.commit(PlanExecuted { execution_id: started.id, workflow_id, started_at: started.started_at }).await
}

/// Plans and runs at once, if nothing is written; else the plan comes back for confirmation.
pub async fn plan_and_execute(app: &App, context: &Context, message: String, input: Value) -> Outcome<PlanExecuted> {
    // The key belongs to the execution, not to the draft that leads to it.
    let mut drafting = context.clone();
    drafting.request.idempotency = None;
    let planned = plan(app, &drafting, PlanRequest { message, previous: vec![] }).await?.value;
    if planned.writes {
        let mut rejection = Rejection::new(
            Code::ConfirmationRequired,
            "The plan writes or cannot run yet: look at it and confirm it with planId and planHash.",
        );
        rejection.data = Some(Box::new(json!({
            "planId": planned.plan_id,
            "planHash": planned.plan_hash,
            "workflow": planned.workflow,
            "explanation": planned.explanation,
            "confidence": planned.confidence,
            "planner": planned.planner,
            "candidates": planned.candidates,
            "warnings": planned.warnings,
            "questions": planned.questions,
        })));
        return Err(rejection.into());
    }
    execute(app, context, planned.plan_id, &planned.plan_hash, input).await
}
