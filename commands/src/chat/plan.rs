//! Drafts a plan. Nothing of it runs; what is shown is what a confirmation will be bound to.

use domain::{
    error::{Code, Faults},
    ids::PlanId,
    plan::{self, PlanCommand},
};
use serde_json::{Value, json};

use crate::{
    App, Context, Failure, Outcome,
    ports::{PlanAsk, PlanFailure},
    unit::{Unit, fresh},
    workflow,
};

#[derive(Debug, Clone)]
pub struct PlanRequest {
    pub message: String,
    /// Earlier messages, oldest first: role and content.
    pub previous: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub struct Planned {
    pub plan_id: PlanId,
    pub plan_hash: String,
    /// `{name, steps, inputSchema?}`.
    pub workflow: Value,
    pub explanation: String,
    pub confidence: f64,
    pub planner: String,
    pub candidates: Vec<Value>,
    pub warnings: Vec<String>,
    pub questions: Vec<String>,
    pub writes: bool,
}

pub async fn plan(app: &App, context: &Context, request: PlanRequest) -> Outcome<Planned> {
    let mut faults = Faults::default();
    faults.length("message", &request.message, 1, 4_000);
    faults.into_result()?;
    let workspace = context.actor.workspace;
    let ask = PlanAsk { workspace, message: request.message.clone(), previous: request.previous };
    let proposal = app.ports().planner.plan(ask).await.map_err(|failure| match failure {
        PlanFailure::Nothing(sentence) => Failure::rejected(Code::AiServiceError, sentence),
        PlanFailure::Unavailable(reason) => {
            tracing::warn!(%reason, "the planner cannot be reached");
            Failure::rejected(Code::AiServiceError, "The planner cannot be reached; try again later.")
        }
    })?;
    let mut workflow = json!({ "name": proposal.name, "steps": proposal.steps });
    if let Some(schema) = proposal.input_schema {
        workflow["inputSchema"] = schema;
    }
    let mut warnings = proposal.warnings;
    let writes = match workflow::save::checked(app, workspace, &definition_of(&workflow)).await? {
        Ok(checked) => checked.version.bindings.values().any(|b| !domain::operation::is_safe_method(&b.method)),
        Err(faults) => {
            // A draft that would not be accepted is shown as such, never as if it could run.
            warnings.extend(faults.into_iter().map(|f| format!("not runnable yet: {}: {}", f.field, f.message)));
            true
        }
    };
    let planned = Planned {
        plan_id: app.new_id(),
        plan_hash: plan::hash(&workflow),
        workflow,
        explanation: proposal.explanation,
        confidence: proposal.confidence,
        planner: proposal.planner,
        candidates: proposal.candidates,
        warnings,
        questions: proposal.questions,
        writes,
    };
    record(app, context, &request.message, planned).await
}

async fn record(app: &App, context: &Context, message: &str, planned: Planned) -> Outcome<Planned> {
    let workspace = context.actor.workspace;
    let named = |c: &Value| {
        let text = |k: &str| c.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
        format!("{} {} {}", text("connectionId"), text("method"), text("endpoint"))
    };
    let command = PlanCommand::Draft {
        message: app.vault().seal(workspace, "plan.message", message).await?,
        planner: planned.planner.clone(),
        workflow: app.vault().seal(workspace, "plan.workflow", &planned.workflow).await?,
        plan_hash: planned.plan_hash.clone(),
        confidence: planned.confidence as f32,
        writes: planned.writes,
        candidates: planned.candidates.iter().map(named).collect(),
    };
    let mut unit = Unit::new(app, context).await?;
    unit.stage(&mut fresh::<plan::Plan>(planned.plan_id.0), command)?;
    unit.commit(planned).await
}

/// The part of a plan's workflow that is a definition.
pub(super) fn definition_of(workflow: &Value) -> Value {
    let mut definition = workflow.clone();
    if let Some(map) = definition.as_object_mut() {
        map.remove("name");
    }
    definition
}
