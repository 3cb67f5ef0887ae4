//! Asks for the document again, or for a new one.

use domain::{
    connection::{Connection, ConnectionCommand},
    ids::ConnectionId,
};

use super::{Upload, create::store, target};
use crate::{App, Context, Outcome, unit::change};

pub async fn refresh(app: &App, context: &Context, id: ConnectionId, spec: Option<Upload>) -> Outcome<()> {
    let source = match spec {
        Some(upload) => Some(store(app, context, upload).await?),
        None => None,
    };
    let command = |_: &Connection| Ok(ConnectionCommand::Refresh { source: source.clone() });
    Ok(change(app, context, target(id), None, command).await?.map(|_| ()))
}
