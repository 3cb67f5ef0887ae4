//! Changes of a connection's own fields.

use domain::{
    connection::{AuthScheme, Connection, ConnectionCommand, ConnectionPatch},
    ids::ConnectionId,
};

use super::{approval::gate, check_address, target};
use crate::{App, Context, Outcome, unit::change};

pub async fn update(
    app: &App,
    context: &Context,
    id: ConnectionId,
    expected_version: Option<i64>,
    mut patch: ConnectionPatch,
) -> Outcome<()> {
    check_address(app, "baseUrl", patch.base_url.as_deref())?;
    if let Some(AuthScheme::Oauth2 { client }) = &patch.auth {
        crate::oauth::check_client(app, client)?;
    }
    if let Some(base) = &patch.base_url {
        patch.gate = gate(app, context.actor.workspace, &[Some(base)]).await?;
    }
    let command = |_: &Connection| Ok(ConnectionCommand::Update(patch.clone()));
    Ok(change(app, context, target(id), expected_version, command).await?.map(|_| ()))
}
