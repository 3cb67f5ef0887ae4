//! Waits until a connection's document is read.

use std::time::Duration;

use domain::{
    connection::IngestionStatus,
    ids::{ConnectionId, WorkspaceId},
    operation::SpecProblem,
};

use super::load;
use crate::{App, Failure, waiters::Look};

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
    let look = || async move {
        let state = load(app, workspace, id).await?.state;
        let (status, errors, unreachable) = (state.ingestion, state.errors, state.unreachable);
        let ingested = Ingested { status, refreshes: state.refreshes, errors, unreachable };
        Ok(if ingested.is_over() { Look::Over(ingested) } else { Look::Open(ingested) })
    };
    app.waiters().until(id.0, limit, look).await
}
