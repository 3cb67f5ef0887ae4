//! Waits for an execution's end.

use std::time::Duration;

use domain::{
    execution::{Execution, ExecutionStatus},
    ids::ExecutionId,
};

use crate::{App, Failure, waiters::Look};

/// `true` when it has ended or waits for a person; `false` when time is up.
pub async fn wait(app: &App, id: ExecutionId, limit: Duration) -> Result<bool, Failure> {
    let look = || async move {
        let status = app.store().load::<Execution>(id.0).await?.state.status;
        let over = status.is_terminal() || status == ExecutionStatus::OutcomeUnknown;
        Ok(if over { Look::Over(true) } else { Look::Open(false) })
    };
    app.waiters().until(id.0, limit, look).await
}
