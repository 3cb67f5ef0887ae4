//! What the ingester records: begun, done, failed.

use domain::{
    connection::{Connection, ConnectionCommand, ConnectionEvent, DocumentVia, SpecChanges, SpecFacts},
    event::LogPosition,
    ids::ConnectionId,
    operation::SpecProblem,
};

use super::target;
use crate::{App, Context, Failure, unit::change};

/// Where in the log it began; `None`: there is nothing to ingest (any more).
pub async fn start_ingestion(app: &App, context: &Context, id: ConnectionId) -> Result<Option<LogPosition>, Failure> {
    let executor = context.actor.id.clone();
    let command = |_: &Connection| Ok(ConnectionCommand::StartIngestion { executor: executor.clone() });
    let done = change(app, context, target(id), None, command).await?;
    let begun = done.value.iter().any(|e| matches!(e, ConnectionEvent::IngestionStarted { .. }));
    Ok(begun.then_some(done.at))
}

/// Records a document whose blobs are stored.
pub async fn record_spec(
    app: &App,
    context: &Context,
    id: ConnectionId,
    facts: SpecFacts,
    changes: SpecChanges,
    via: DocumentVia,
) -> Result<(), Failure> {
    let command =
        |_: &Connection| Ok(ConnectionCommand::RecordSpec { facts: facts.clone(), changes: changes.clone(), via });
    change(app, context, target(id), None, command).await?;
    app.waiters().ended(id.0);
    Ok(())
}

pub async fn record_failure(
    app: &App,
    context: &Context,
    id: ConnectionId,
    errors: Vec<SpecProblem>,
    unreachable: bool,
) -> Result<(), Failure> {
    let command = |_: &Connection| Ok(ConnectionCommand::FailIngestion { errors: errors.clone(), unreachable });
    change(app, context, target(id), None, command).await?;
    app.waiters().ended(id.0);
    Ok(())
}
