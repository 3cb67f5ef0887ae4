//! Gives a grant back: at the provider, and here. What is left is the client's secret, where the connection has one.

use domain::{
    connection::{Connection, ConnectionCommand, OauthCommand},
    credential::{Credential, CredentialCommand},
    error::{Code, Rejection},
    ids::{ConnectionId, CredentialId},
    oauth::FaultKind,
};

use super::{authorize::client_of, failure, sentence, tokens};
use crate::{
    App, Context, Done, Failure, Outcome, connection, ports::OauthParty, secret, stored_credential, unit::Unit,
};

const RACES: usize = 8;

#[derive(Debug, Clone)]
pub struct Revoked {
    /// The provider knows.
    pub at_provider: bool,
    /// What it did not do, in words.
    pub note: Option<String>,
}

/// `force`: the tokens are forgotten here even though the provider does not answer.
pub async fn revoke(app: &App, context: &Context, id: ConnectionId, force: bool) -> Outcome<Revoked> {
    let workspace = context.actor.workspace;
    let state = connection::load(app, workspace, id).await?.state;
    let client = client_of(&state)?;
    if state.grant.is_none() {
        return Err(Rejection::new(Code::Conflict, "This connection has no grant to give back.").into());
    }
    let told = tell(app, context, id, client).await;
    let note = match told {
        Ok(true) => None,
        Ok(false) => Some("The provider has no revocation endpoint: end the access in its own settings.".to_owned()),
        Err(Refusal { words, .. }) if force => Some(format!("{words} End the access in its own settings.")),
        Err(Refusal { failure, .. }) => return Err(failure),
    };
    let revoked = Revoked { at_provider: note.is_none(), note: note.clone() };
    let (secret_left, versions) = clean(app, context, id, note).await?;
    let context = context.without_claim();
    let at = match (state.credential, secret_left) {
        (Some(credential), false) => secret::delete(app, &context, credential, true).await?.at,
        (Some(credential), true) => {
            destroy(app, &context, credential, versions.value).await?;
            versions.at
        }
        (None, _) => versions.at,
    };
    Ok(Done { value: revoked, at: at.max(versions.at) })
}

struct Refusal {
    words: String,
    failure: Failure,
}

/// Tells the provider.
async fn tell(
    app: &App,
    context: &Context,
    id: ConnectionId,
    client: &domain::oauth::OauthClient,
) -> Result<bool, Refusal> {
    let title = super::authorize::titled(client);
    let internal = |failure: Failure| Refusal { words: "The tokens could not be opened.".into(), failure };
    let refusal = |title: &str, fault: domain::oauth::Fault| {
        let mut told = failure(title, &fault);
        if let (Failure::Rejected(rejection), true) = (&mut told, fault.kind != FaultKind::Settings) {
            rejection.message.push_str(" Nothing was changed; with force: true the tokens are forgotten here anyway.");
        }
        Refusal { words: sentence(title, &fault), failure: told }
    };
    let endpoints = app.ports().oauth.endpoints(context.actor.workspace, client).await;
    let endpoints = endpoints.map_err(|fault| refusal(&title, fault))?;
    let url = endpoints.revocation.clone().unwrap_or_default();
    let context = context.without_claim();
    let (values, _) = tokens::read(app, &context, id, "oauth_revoke", &url).await.map_err(internal)?;
    let Some(access) = &values.access else { return Ok(true) };
    let party = OauthParty {
        workspace: context.actor.workspace,
        client,
        endpoints: &endpoints,
        secret: values.client_secret.as_ref(),
    };
    let revoked = app.ports().oauth.revoke(party, access, values.refresh.as_ref()).await;
    revoked.map_err(|fault| refusal(&endpoints.title, fault))
}

/// The grant ends; the credential keeps the client's secret alone. Gives whether there is one, and the version of it.
async fn clean(
    app: &App,
    context: &Context,
    id: ConnectionId,
    note: Option<String>,
) -> Result<(bool, Done<i32>), Failure> {
    let workspace = context.actor.workspace;
    let (values, _) = tokens::read(app, &context.without_claim(), id, "oauth_revoke", "").await?;
    let left = tokens::Values { access: None, refresh: None, ..values };
    let kept = left.client_secret.is_some();
    let text = left.text()?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut target = connection::load(app, workspace, id).await?;
        let command = OauthCommand::Revoke { note: note.clone(), now: app.now() };
        let revoke = ConnectionCommand::Oauth(command);
        let outcome = match target.state.credential.filter(|_| kept) {
            None => {
                let mut unit = Unit::new(app, context).await?;
                unit.stage::<Connection>(&mut target, revoke)?;
                unit.commit(0).await
            }
            Some(id) => {
                let mut stored = app.store().load::<Credential>(id.0).await?;
                let value = stored_credential::store(app, workspace, id, stored.state.version, &text).await?;
                let version = value.version;
                let outcome = async {
                    let mut unit = Unit::new(app, context).await?;
                    unit.stage::<Connection>(&mut target, revoke)?;
                    unit.stage(&mut stored, CredentialCommand::Rotate { value })?;
                    unit.commit(version).await
                };
                stored_credential::settle(app, workspace, id, version, outcome.await).await
            }
        };
        match outcome {
            Err(failure) if failure.is_conflict() && attempt < RACES => continue,
            other => return other.map(|done| (kept, done)),
        }
    }
}

/// Every version before this one held tokens.
async fn destroy(app: &App, context: &Context, credential: CredentialId, version: i32) -> Result<(), Failure> {
    let destroyed = app.store().load::<Credential>(credential.0).await?.state.destroyed_versions;
    for old in (1..version).filter(|old| !destroyed.contains(old)) {
        match secret::destroy_version(app, context, credential, old).await {
            // Numbers may have gaps.
            Ok(_) | Err(Failure::Rejected(_)) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}
