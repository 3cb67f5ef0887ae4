//! Asks for the document again, or for a new one.

use domain::{
    connection::{Connection, ConnectionCommand, SpecSource},
    ids::ConnectionId,
};

use super::{create::upload, target};
use crate::{App, Context, Outcome, unit::change};

pub async fn refresh(app: &App, context: &Context, id: ConnectionId, spec: Option<String>) -> Outcome<()> {
    let source = match spec {
        Some(text) => Some(SpecSource::Upload { blob: upload(app, context, &text).await? }),
        None => None,
    };
    let command = |_: &Connection| Ok(ConnectionCommand::Refresh { source: source.clone() });
    Ok(change(app, context, target(id), None, command).await?.map(|_| ()))
}
