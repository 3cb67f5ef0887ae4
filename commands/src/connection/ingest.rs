//! What the ingester records: begun, done, failed.

use domain::{
    call::CallFacts,
    connection::{Connection, ConnectionCommand, ConnectionEvent, DocumentVia, SpecChanges, SpecFacts},
    event::LogPosition,
    ids::ConnectionId,
    operation::SpecProblem,
};

use super::{approval::gate, target};
use crate::{App, Context, Failure, unit::change};

/// An ingestion that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    /// By which its outcome is recorded.
    pub number: u32,
    /// Where in the log it began.
    pub at: LogPosition,
}

/// `None`: there is nothing to ingest (any more), or another one began since `after` of them.
pub async fn start_ingestion(
    app: &App,
    context: &Context,
    id: ConnectionId,
    after: u32,
) -> Result<Option<Begun>, Failure> {
    let executor = context.actor.id.clone();
    let command = |_: &Connection| Ok(ConnectionCommand::StartIngestion { executor: executor.clone(), after });
    let done = change(app, context, target(id), None, command).await?;
    Ok(done.value.iter().find_map(|event| match event {
        ConnectionEvent::IngestionStarted { number, .. } => Some(Begun { number: *number, at: done.at }),
        _ => None,
    }))
}

/// Records a document whose blobs are stored. When a later ingestion has begun, nothing is recorded.
pub async fn record_spec(
    app: &App,
    context: &Context,
    id: ConnectionId,
    number: u32,
    facts: SpecFacts,
    changes: SpecChanges,
    via: DocumentVia,
) -> Result<(), Failure> {
    let gate = gate(app, context.actor.workspace, &[]).await?;
    let command = |_: &Connection| {
        let (facts, changes, gate) = (facts.clone(), changes.clone(), gate.clone());
        Ok(ConnectionCommand::RecordSpec { number, facts, changes, via, gate })
    };
    change(app, context, target(id), None, command).await?;
    app.waiters().ended(id.0);
    Ok(())
}

/// Of an ingestion: its requests are in the log before what came of them.
pub async fn record_fetches(
    app: &App,
    context: &Context,
    id: ConnectionId,
    calls: Vec<CallFacts>,
) -> Result<(), Failure> {
    // An upload, or what the cache had: the stream need not be asked.
    if calls.is_empty() {
        return Ok(());
    }
    let command = |_: &Connection| Ok(ConnectionCommand::RecordFetches { calls: calls.clone() });
    change(app, context, target(id), None, command).await?;
    Ok(())
}

pub async fn record_failure(
    app: &App,
    context: &Context,
    id: ConnectionId,
    number: u32,
    errors: Vec<SpecProblem>,
    unreachable: bool,
) -> Result<(), Failure> {
    let command = |_: &Connection| Ok(ConnectionCommand::FailIngestion { number, errors: errors.clone(), unreachable });
    change(app, context, target(id), None, command).await?;
    app.waiters().ended(id.0);
    Ok(())
}
