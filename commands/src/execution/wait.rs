//! Waits for an execution's end.

use std::time::Duration;

use domain::{
    execution::{Execution, ExecutionStatus},
    ids::ExecutionId,
};
use tokio::time::{Instant, timeout_at};

use crate::{App, Failure};

/// The log is looked at this often, should the executor work on another node.
const LOOK: Duration = Duration::from_millis(200);

/// `true` when it has ended or waits for a person; `false` when time is up.
pub async fn wait(app: &App, id: ExecutionId, limit: Duration) -> Result<bool, Failure> {
    let deadline = Instant::now() + limit;
    let notify = app.waiters().register(id.0);
    let _leave = Leave { app, id };
    loop {
        // Registered before the look: an end in between is not missed.
        let mut notified = std::pin::pin!(notify.notified());
        notified.as_mut().enable();
        let status = app.store().load::<Execution>(id.0).await?.state.status;
        if status.is_terminal() || status == ExecutionStatus::OutcomeUnknown {
            return Ok(true);
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok(false);
        }
        let _ = timeout_at(deadline.min(now + LOOK), notified).await;
    }
}

struct Leave<'a> {
    app: &'a App,
    id: ExecutionId,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.app.waiters().leave(self.id.0);
    }
}
