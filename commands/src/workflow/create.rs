//! A new workflow: version 1.

use domain::{
    error::FieldError,
    ids::WorkflowId,
    workflow::{Workflow, WorkflowCommand},
};
use serde_json::Value;

use super::save;
use crate::{
    App, Context, Outcome,
    unit::{Unit, fresh},
};

#[derive(Debug)]
pub struct CreateWorkflow {
    pub name: String,
    pub description: Option<String>,
    /// `{inputSchema?, steps, output?}`.
    pub definition: Value,
}

/// With what can be saved, but will not work as it is.
pub async fn create(app: &App, context: &Context, input: CreateWorkflow) -> Outcome<(WorkflowId, Vec<FieldError>)> {
    let saved = save(app, context.actor.workspace, Some(&input.name), &input.definition).await?;
    let id: WorkflowId = app.new_id();
    let mut unit = Unit::new(app, context).await?;
    let command = WorkflowCommand::Create {
        name: input.name,
        description: input.description,
        definition_hash: saved.definition_hash,
        step_count: saved.step_count,
    };
    unit.stage(&mut fresh::<Workflow>(id.0), command)?;
    unit.commit((id, saved.warnings)).await
}
