//! A person says what became of a step whose outcome is unknown.

use domain::{
    execution::{Execution, ExecutionCommand},
    ids::ExecutionId,
};
use serde_json::{Value, json};

use super::target;
use crate::{App, Context, Outcome, store_value, unit::change};

#[derive(Debug, Clone)]
pub enum Resolution {
    /// It took place, with this output.
    Completed(Value),
    /// It did not.
    Failed,
}

pub async fn resolve(
    app: &App,
    context: &Context,
    id: ExecutionId,
    key: String,
    resolution: Resolution,
) -> Outcome<()> {
    let output = match resolution {
        Resolution::Completed(output) => {
            let value = json!({ "output": output });
            Some(store_value(app, context.actor.workspace, "step.output", &value).await?)
        }
        Resolution::Failed => None,
    };
    let command =
        |_: &Execution| Ok(ExecutionCommand::ResolveStep { key: key.clone(), output: output.clone(), now: app.now() });
    Ok(change(app, context, target(id), None, command).await?.map(|_| ()))
}
