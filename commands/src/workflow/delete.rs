//! Deletes a workflow; its executions run on, pinned to their version.

use domain::{
    ids::WorkflowId,
    workflow::{Workflow, WorkflowCommand},
};

use super::target;
use crate::{App, Context, Outcome, unit::change};

pub async fn delete(app: &App, context: &Context, id: WorkflowId) -> Outcome<()> {
    Ok(change::<Workflow>(app, context, target(id), None, |_| Ok(WorkflowCommand::Delete)).await?.map(|_| ()))
}
