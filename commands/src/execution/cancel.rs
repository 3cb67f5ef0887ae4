//! Ends an execution; its executor notices at its next append.

use domain::{
    execution::{Execution, ExecutionCommand},
    ids::ExecutionId,
};

use super::target;
use crate::{App, Context, Outcome, unit::change};

pub async fn cancel(app: &App, context: &Context, id: ExecutionId) -> Outcome<()> {
    let command = |_: &Execution| Ok(ExecutionCommand::Cancel { now: app.now() });
    let done = change(app, context, target(id), None, command).await?;
    app.waiters().ended(id.0);
    Ok(done.map(|_| ()))
}
