//! Starts an execution of a workflow's current version.

use chrono::{DateTime, Utc};
use domain::{
    error::{Code, FieldError, Rejection},
    execution::{Execution, ExecutionCommand},
    ids::{ExecutionId, WorkflowId},
    workflow::{Status, Workflow, check_input},
};
use event_store::Loaded;
use serde_json::Value;

use crate::{
    App, Context, Failure, Outcome, store_value,
    unit::{self, Unit, fresh},
    workflow,
};

#[derive(Debug, Clone)]
pub struct Started {
    pub id: ExecutionId,
    pub started_at: DateTime<Utc>,
    /// Calls that need scopes which nobody has granted, in words.
    pub warnings: Vec<String>,
}

/// `trigger` says what started it: `manual`, `chat`.
pub async fn start(app: &App, context: &Context, id: WorkflowId, input: Value, trigger: &str) -> Outcome<Started> {
    let (code, noun) = (Code::WorkflowNotFound, "workflow");
    let workflow = unit::owned::<Workflow>(app, context.actor.workspace, id.0, code, noun).await?;
    if !workflow.state.is_live() {
        return Err(Rejection::not_found(code, noun).into());
    }
    if workflow.state.status != Status::Active {
        let message =
            format!("This workflow is {}; only an active one can be executed.", workflow.state.status.as_str());
        return Err(Failure::rejected(Code::Conflict, message));
    }
    let mut unit = Unit::new(app, context).await?;
    let started = stage_start(app, context, &mut unit, &workflow, input, trigger).await?;
    unit.commit(started).await
}

/// Adds the start to a unit: the plan that leads to it may stand in the same append.
pub(crate) async fn stage_start(
    app: &App,
    context: &Context,
    unit: &mut Unit<'_>,
    workflow: &Loaded<Workflow>,
    input: Value,
    trigger: &str,
) -> Result<Started, Failure> {
    let definition_hash = workflow.state.definition_hash().unwrap_or_default().to_owned();
    let version = workflow::version(app, &definition_hash).await?;
    let input = if input.is_null() { serde_json::json!({}) } else { input };
    let faults: Vec<FieldError> = match version.definition.get("inputSchema") {
        Some(schema) => check_input(schema, &input),
        None if input.is_object() => vec![],
        None => vec![FieldError::new("input", "must be an object")],
    };
    if !faults.is_empty() {
        return Err(Rejection::invalid(faults).into());
    }
    let stored = store_value(app, context.actor.workspace, "execution.input", &input).await?;
    let warnings = workflow::lacking_grants(app, context.actor.workspace, &version).await?;
    let started = Started { id: app.new_id(), started_at: app.now(), warnings };
    let command = ExecutionCommand::Start {
        workflow: WorkflowId(workflow.id),
        workflow_version: workflow.state.version,
        definition_hash,
        input: stored,
        trigger: trigger.to_owned(),
        correlation_id: context.correlation_id(),
        traceparent: context.request.traceparent.clone(),
        now: started.started_at,
    };
    unit.stage(&mut fresh::<Execution>(started.id.0), command)?;
    Ok(started)
}
