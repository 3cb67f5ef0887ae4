//! What the ingester records: begun, done, failed.

use domain::{
    connection::{Connection, ConnectionCommand, ConnectionEvent, SpecChanges, SpecFacts},
    ids::ConnectionId,
    operation::SpecProblem,
};

use super::target;
use crate::{App, Context, Failure, unit::change};

/// The ingestion's number, by which its outcome is recorded. `None`: there is nothing to ingest (any more).
pub async fn start_ingestion(app: &App, context: &Context, id: ConnectionId) -> Result<Option<u32>, Failure> {
    let executor = context.actor.id.clone();
    let command = |_: &Connection| Ok(ConnectionCommand::StartIngestion { executor: executor.clone() });
    let done = change(app, context, target(id), None, command).await?;
    Ok(done.value.iter().find_map(|event| match event {
        ConnectionEvent::IngestionStarted { number, .. } => Some(*number),
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
) -> Result<(), Failure> {
    let command =
        |_: &Connection| Ok(ConnectionCommand::RecordSpec { number, facts: facts.clone(), changes: changes.clone() });
    change(app, context, target(id), None, command).await.map(|_| ())
}

pub async fn record_failure(
    app: &App,
    context: &Context,
    id: ConnectionId,
    number: u32,
    errors: Vec<SpecProblem>,
) -> Result<(), Failure> {
    let command = |_: &Connection| Ok(ConnectionCommand::FailIngestion { number, errors: errors.clone() });
    change(app, context, target(id), None, command).await.map(|_| ())
}
