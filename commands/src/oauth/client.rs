//! Gives a connection the client that it authorizes with, and stores its secret.

use domain::{
    connection::{AuthScheme, ConnectionPatch},
    credential::name,
    error::Rejection,
    ids::ConnectionId,
    oauth::OauthClient,
};
use secrecy::SecretString;

use crate::{
    App, Context, Failure, connection,
    credential::{self, CreateCredential},
};

/// Refuses URLs that will never be called, and providers that nobody here knows or has a client of.
pub(crate) fn check(app: &App, client: &OauthClient) -> Result<(), Failure> {
    for (field, url) in client.urls() {
        connection::check_address(app, field, url)?;
    }
    let Some(name) = &client.provider else { return Ok(()) };
    let known = app.ports().oauth.known();
    match known.iter().find(|known| known.provider.name == *name) {
        None => {
            let names: Vec<&str> = known.iter().map(|known| known.provider.name.as_str()).collect();
            let message = format!("must be one of {}; or give issuer, or the endpoints", names.join(", "));
            Err(Rejection::field("authConfig.provider", message).into())
        }
        Some(known) if !known.ready && client.client_id.is_none() => {
            let message = "is required: the operator has set up no client with this provider";
            Err(Rejection::field("authConfig.clientId", message).into())
        }
        Some(_) => Ok(()),
    }
}

/// The connection's `authType` becomes `oauth2` with this client. Where its id or provider is another one, the secret that
/// was stored goes nowhere any more.
pub async fn set_client(
    app: &App,
    context: &Context,
    id: ConnectionId,
    client: OauthClient,
    secret: Option<SecretString>,
) -> Result<(), Failure> {
    let auth = AuthScheme::Oauth2 { client };
    let kind = auth.credential_kind();
    let present = connection::load(app, context.actor.workspace, id).await?.state;
    let same_kind = present.auth.credential_kind() == kind;
    if present.auth != auth {
        let patch = ConnectionPatch { auth: Some(auth), ..ConnectionPatch::default() };
        connection::update(app, context, id, None, patch).await?;
    }
    let Some(secret) = secret else { return Ok(()) };
    // One that was for another client, or another provider, is gone by now.
    let stored = connection::load(app, context.actor.workspace, id).await?.state.credential;
    let text = super::tokens::Values { client_secret: Some(secret), ..Default::default() }.text()?;
    match stored.filter(|_| same_kind) {
        Some(credential) => drop(credential::rotate(app, context, credential, text).await?),
        None => {
            let name = name::derived(&present.name, "credential");
            let input = CreateCredential { name, kind: kind.to_owned(), connection: Some(id), value: text };
            credential::create(app, context, input).await?;
        }
    }
    Ok(())
}
