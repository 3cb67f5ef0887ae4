//! The credential of an authorized connection: opened against a recorded read, put together from a provider's answer.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    connection::{ACCESS_TOKEN, CLIENT_SECRET, Connection, ConnectionCommand, REFRESH_TOKEN, host_of},
    credential::Credential,
    event::LogPosition,
    ids::{ConnectionId, CredentialId, WorkspaceId},
};
use secrecy::{ExposeSecret, SecretString};
use vault::ReadReceipt;

use crate::{App, Context, Failure, connection, ports::OauthTokens, unit::change};

const RACES: usize = 8;

/// What a credential of `oauth2` holds.
#[derive(Default)]
pub(super) struct Values {
    pub access: Option<SecretString>,
    pub refresh: Option<SecretString>,
    pub client_secret: Option<SecretString>,
}

impl Values {
    fn of(text: &SecretString) -> Self {
        let mut values: BTreeMap<String, String> = serde_json::from_str(text.expose_secret()).unwrap_or_default();
        let mut take = |name: &str| values.remove(name).map(SecretString::from);
        Self { access: take(ACCESS_TOKEN), refresh: take(REFRESH_TOKEN), client_secret: take(CLIENT_SECRET) }
    }

    /// As it goes into the vault.
    pub fn text(&self) -> Result<SecretString, Failure> {
        let all = [(ACCESS_TOKEN, &self.access), (REFRESH_TOKEN, &self.refresh), (CLIENT_SECRET, &self.client_secret)];
        let given = all.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?.expose_secret())));
        let text = serde_json::to_string(&given.collect::<BTreeMap<_, _>>());
        text.map(SecretString::from).map_err(|error| Failure::Internal(error.to_string()))
    }

    /// The answer's tokens in place of these; a refresh token that is not given anew goes on.
    pub fn renewed(self, tokens: &OauthTokens) -> Self {
        Self {
            access: Some(tokens.access.clone()),
            refresh: tokens.refresh.clone().or(self.refresh),
            client_secret: self.client_secret,
        }
    }
}

pub(super) fn expires_at(tokens: &OauthTokens, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    now.checked_add_signed(TimeDelta::try_seconds(tokens.expires_in?)?)
}

/// Records the read in the connection's stream, then opens what it has: the tokens of its grant, and the client's secret
/// as it was stored last.
pub(super) async fn read(
    app: &App,
    context: &Context,
    id: ConnectionId,
    purpose: &str,
    url: &str,
) -> Result<(Values, i32), Failure> {
    let state = connection::load(app, context.actor.workspace, id).await?.state;
    let Some(credential) = state.credential else { return Ok((Values::default(), 0)) };
    let newest = app.store().load::<Credential>(credential.0).await?.state.version;
    let granted = state.grant.map_or(newest, |grant| grant.version);
    let mut values = version(app, context, id, (credential, granted), purpose, url).await?;
    if newest != granted {
        values.client_secret = version(app, context, id, (credential, newest), purpose, url).await?.client_secret;
    }
    Ok((values, granted))
}

/// One version, after its read is recorded.
pub(super) async fn version(
    app: &App,
    context: &Context,
    id: ConnectionId,
    (credential, version): (CredentialId, i32),
    purpose: &str,
    url: &str,
) -> Result<Values, Failure> {
    let text = reveal(app, context, id, (credential, version), purpose, host_of(url)).await?;
    Ok(Values::of(&text))
}

/// The credential's text in this version, after its read is recorded in the connection's stream.
pub async fn reveal(
    app: &App,
    context: &Context,
    id: ConnectionId,
    (credential, version): (CredentialId, i32),
    purpose: &str,
    host: Option<String>,
) -> Result<SecretString, Failure> {
    let command = |_: &Connection| {
        let (purpose, host) = (purpose.to_owned(), host.clone());
        Ok(ConnectionCommand::ReadCredential { credential, version, purpose, host })
    };
    let context = context.without_claim();
    let mut races = 0;
    let at = loop {
        match change(app, &context, connection::target(id), None, command).await {
            // Many read one connection's token at once, and other nodes' readers are not in this node's line.
            Err(failure) if failure.is_conflict() && races < RACES => races += 1,
            other => break other?.at,
        }
    };
    let receipt = ReadReceipt { committed_at: at, credential, version };
    Ok(app.vault().reveal(context.actor.workspace, &receipt).await?)
}

/// Opens a version whose read is in the log.
pub(super) async fn opened(
    app: &App,
    workspace: WorkspaceId,
    credential: CredentialId,
    version: i32,
    committed_at: LogPosition,
) -> Result<Values, Failure> {
    let receipt = ReadReceipt { committed_at, credential, version };
    Ok(Values::of(&app.vault().reveal(workspace, &receipt).await?))
}
