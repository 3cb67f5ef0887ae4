//! Changes of a workflow; other steps are a new version.

use domain::{
    error::FieldError,
    ids::WorkflowId,
    workflow::{Status, Workflow, WorkflowCommand, WorkflowPatch},
};
use serde_json::Value;

use super::{save, target};
use crate::{App, Context, Outcome, unit::change};

#[derive(Debug, Default)]
pub struct UpdateWorkflow {
    pub name: Option<String>,
    pub description: Option<String>,
    pub definition: Option<Value>,
    pub status: Option<Status>,
}

/// Gives what can be saved, but will not work as it is.
pub async fn update(
    app: &App,
    context: &Context,
    id: WorkflowId,
    expected_version: Option<i64>,
    input: UpdateWorkflow,
) -> Outcome<Vec<FieldError>> {
    let mut warnings = Vec::new();
    let definition = match &input.definition {
        Some(definition) => {
            let saved = save(app, context.actor.workspace, input.name.as_deref(), definition).await?;
            warnings = saved.warnings;
            Some((saved.definition_hash, saved.step_count))
        }
        None => None,
    };
    let patch = WorkflowPatch { name: input.name, description: input.description, definition, status: input.status };
    let command = |_: &Workflow| Ok(WorkflowCommand::Update(patch.clone()));
    Ok(change(app, context, target(id), expected_version, command).await?.map(|_| warnings))
}
