//! What the ingester records: begun, done, failed.

use domain::{
    connection::{Connection, ConnectionCommand, ConnectionEvent, SpecChanges, SpecFacts},
    ids::ConnectionId,
    operation::SpecProblem,
};

use super::target;
use crate::{App, Context, Failure, unit::change};

/// `false`: there is nothing to ingest (any more).
pub async fn start_ingestion(app: &App, context: &Context, id: ConnectionId) -> Result<bool, Failure> {
    let executor = context.actor.id.clone();
    let command = |_: &Connection| Ok(ConnectionCommand::StartIngestion { executor: executor.clone() });
    let done = change(app, context, target(id), None, command).await?;
    Ok(done.value.iter().any(|e| matches!(e, ConnectionEvent::IngestionStarted { .. })))
}

/// Records a document whose blobs are stored.
pub async fn record_spec(
    app: &App,
    context: &Context,
    id: ConnectionId,
    facts: SpecFacts,
    changes: SpecChanges,
) -> Result<(), Failure> {
    let command = |_: &Connection| Ok(ConnectionCommand::RecordSpec { facts: facts.clone(), changes: changes.clone() });
    change(app, context, target(id), None, command).await.map(|_| ())
}

pub async fn record_failure(
    app: &App,
    context: &Context,
    id: ConnectionId,
    errors: Vec<SpecProblem>,
) -> Result<(), Failure> {
    let command = |_: &Connection| Ok(ConnectionCommand::FailIngestion { errors: errors.clone() });
    change(app, context, target(id), None, command).await.map(|_| ())
}
