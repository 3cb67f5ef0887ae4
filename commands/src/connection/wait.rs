//! Waits until a connection's document is read.

use std::time::Duration;

use domain::{
    connection::IngestionStatus,
    ids::{ConnectionId, WorkspaceId},
    operation::SpecProblem,
};
use tokio::time::{Instant, timeout_at};

use super::load;
use crate::{App, Failure};

/// The log is looked at this often, should the ingester work on another node.
const LOOK: Duration = Duration::from_millis(200);

/// How an ingestion stands.
#[derive(Debug, Clone)]
pub struct Ingested {
    pub status: IngestionStatus,
    /// How many refreshes had been asked for.
    pub refreshes: u32,
    pub errors: Vec<SpecProblem>,
    /// Failed because there was no document to read.
    pub unreachable: bool,
}

impl Ingested {
    pub fn is_over(&self) -> bool {
        matches!(self.status, IngestionStatus::Succeeded | IngestionStatus::Failed)
    }
}

/// How it stands at its end, or when time is up.
pub async fn wait(app: &App, workspace: WorkspaceId, id: ConnectionId, limit: Duration) -> Result<Ingested, Failure> {
    let deadline = Instant::now() + limit;
    let notify = app.waiters().register(id.0);
    let _leave = Leave { app, id };
    loop {
        // Registered before the look: an end in between is not missed.
        let mut notified = std::pin::pin!(notify.notified());
        notified.as_mut().enable();
        let state = load(app, workspace, id).await?.state;
        let (status, errors, unreachable) = (state.ingestion, state.errors, state.unreachable);
        let ingested = Ingested { status, refreshes: state.refreshes, errors, unreachable };
        let now = Instant::now();
        if ingested.is_over() || now >= deadline {
            return Ok(ingested);
        }
        let _ = timeout_at(deadline.min(now + LOOK), notified).await;
    }
}

struct Leave<'a> {
    app: &'a App,
    id: ConnectionId,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.app.waiters().leave(self.id.0);
    }
}
