//! What a refresh changed, and whom it concerns: workflows and running executions that call what is different now.

use std::time::Duration;

use commands::{App, Failure};
use domain::{
    connection::{AffectedWorkflow, SpecChanges},
    drift::{self, Drift},
    event::LogPosition,
    ids::{ConnectionId, WorkspaceId},
    operation::SpecSummary,
};
use projections::SystemReads;

/// Events name this many of everything; the rest is counted.
const SHOWN: usize = 50;
/// How long to wait until the read models show what was saved before the ingestion began.
const CATCH_UP: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// What a first document brings.
pub(crate) fn first(new: &SpecSummary) -> SpecChanges {
    SpecChanges { added: count(new.operations.len()), ..SpecChanges::default() }
}

pub(crate) struct Compared<'a> {
    pub app: &'a App,
    pub reads: &'a SystemReads,
    pub workspace: WorkspaceId,
    pub connection: ConnectionId,
    /// Where in the log the ingestion began.
    pub since: LogPosition,
}

impl Compared<'_> {
    /// Compares with the operations before, and asks the read models who calls what has changed.
    pub async fn changes(
        &self,
        operations_hash: &str,
        new: SpecSummary,
    ) -> Result<(SpecChanges, SpecSummary), Failure> {
        let old = self.app.spec(operations_hash).await?;
        let compared = tokio::task::spawn_blocking(move || (drift::compare(&old, &new), new)).await;
        let (drift, new) = compared.map_err(|e| Failure::Internal(e.to_string()))?;
        let touched = drift.touched.clone();
        let mut changes = short(drift);
        if touched.is_empty() {
            return Ok((changes, new));
        }
        let callers = self.callers(&touched).await.map_err(Failure::from)?;
        changes.workflow_count = count(usize::try_from(callers.workflow_count).unwrap_or(0));
        changes.execution_count = count(usize::try_from(callers.execution_count).unwrap_or(0));
        changes.executions = callers.executions;
        changes.workflows = callers
            .workflows
            .into_iter()
            .map(|w| AffectedWorkflow {
                workflow_id: w.id.into(),
                name: w.name,
                version: w.version,
                operations: w.operations.into_iter().take(SHOWN).collect(),
            })
            .collect();
        Ok((changes, new))
    }

    async fn callers(&self, operations: &[String]) -> Result<projections::Callers, event_store::DatabaseError> {
        let deadline = tokio::time::Instant::now() + CATCH_UP;
        while !self.reads.shows(self.since).await? {
            if tokio::time::Instant::now() >= deadline {
                tracing::warn!(connection = %self.connection, "the read models lag: affected workflows may be missing");
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.reads.callers(self.workspace, self.connection, operations, SHOWN as i64).await
    }
}

fn short(drift: Drift) -> SpecChanges {
    let breaking = drift.details.iter().filter(|d| d.breaking).take(SHOWN).map(ToString::to_string).collect();
    SpecChanges {
        added: count(drift.added.len()),
        removed: count(drift.removed.len()),
        changed: count(drift.changed.len()),
        breaking,
        breaking_count: count(drift.breaking_count),
        detail_count: count(drift.detail_count),
        details: drift.details.into_iter().take(SHOWN).collect(),
        ..SpecChanges::default()
    }
}

pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
