//! Asks for the document again, or for a new one; by a person or by the schedule.

use domain::{
    connection::{Connection, ConnectionCommand},
    ids::ConnectionId,
};

use super::{Upload, create::store, target};
use crate::{App, Context, Failure, Outcome, unit::change};

pub async fn refresh(app: &App, context: &Context, id: ConnectionId, spec: Option<Upload>) -> Outcome<()> {
    let source = match spec {
        Some(upload) => Some(store(app, context, upload).await?),
        None => None,
    };
    let command = |_: &Connection| Ok(ConnectionCommand::Refresh { source: source.clone() });
    Ok(change(app, context, target(id), None, command).await?.map(|_| ()))
}

/// The schedule's refresh, if nobody asked for one since `after` of them; the append decides between nodes.
pub async fn refresh_due(app: &App, context: &Context, id: ConnectionId, after: u32) -> Result<bool, Failure> {
    let command = |_: &Connection| Ok(ConnectionCommand::RefreshDue { after });
    Ok(!change(app, context, target(id), None, command).await?.value.is_empty())
}
