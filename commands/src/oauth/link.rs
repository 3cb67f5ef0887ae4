//! The link that begins an authorization in a browser: what it is for, and its opening. A link can be sent to anybody, so
//! that looking at it changes nothing: whoever opens it is told first whose connection gets access.

use domain::{
    actor::ActorKind,
    connection::{Connection, host_of},
    error::{Code, Rejection},
    ids::{OauthFlowId, WorkspaceId},
    oauth::{OauthFlow, flow::OauthFlowCommand},
    workspace::Workspace,
};
use secrecy::{ExposeSecret, SecretString};
use vault::{OpaqueKind, OpaqueToken};

use super::{
    authorize::{VERIFIER, nonce},
    callback::context_of,
    failure,
};
use crate::{App, Failure, RequestInfo, auth, unit::Unit};

/// What a person agrees to who goes on.
#[derive(Debug, Clone)]
pub struct Offer {
    pub flow: OauthFlowId,
    pub workspace: String,
    pub connection: String,
    /// Where the tokens will be sent.
    pub api: Option<String>,
    pub provider: String,
    /// Where the person logs in, and where the code is exchanged.
    pub hosts: Vec<String>,
    pub scopes: Vec<String>,
    pub begun_by: String,
    /// Of the page that asks.
    pub token: SecretString,
}

/// The authorization that a link belongs to.
pub fn flow_of_link(link: &SecretString) -> Option<OauthFlowId> {
    OpaqueToken::parse(OpaqueKind::OauthLink, link).map(|token| OauthFlowId(token.id))
}

/// Looks at a link; nothing is changed.
pub async fn offer(app: &App, request: &RequestInfo, link: &SecretString) -> Result<Offer, Failure> {
    let unknown = || Rejection::new(Code::Oauth2Error, "This link is not known here; begin again.");
    let parsed = OpaqueToken::parse(OpaqueKind::OauthLink, link).ok_or_else(unknown)?;
    let loaded = app.store().load::<OauthFlow>(parsed.id).await?;
    let context = context_of(&loaded, request).ok_or_else(unknown)?;
    loaded.state.check_link(&parsed.hash, app.now())?;
    let OauthFlow { connection, endpoints, scopes, target, actor_kind, .. } = loaded.state;
    let WorkspaceId(workspace) = context.actor.workspace;
    let workspace = app.store().load::<Workspace>(workspace).await?.state.name;
    let connection = connection.ok_or_else(unknown)?;
    let connection = app.store().load::<Connection>(connection.0).await?.state;
    if !connection.is_live() {
        return Err(Rejection::not_found(Code::ConnectionNotFound, "connection").into());
    }
    let begun_by = match actor_kind {
        Some(ActorKind::User) => {
            let profile = auth::me(app, &context).await?;
            let named = [profile.name, profile.email].into_iter().flatten().collect::<Vec<_>>().join(", ");
            if named.is_empty() { context.actor.id.clone() } else { named }
        }
        _ => format!("the API key {}", context.actor.id),
    };
    let mut hosts: Vec<String> =
        [&endpoints.authorization, &endpoints.token].into_iter().filter_map(|u| host_of(u)).collect();
    hosts.dedup();
    let (provider, flow) = (endpoints.title, OauthFlowId(parsed.id));
    let token = hex::encode(rand::random::<[u8; 32]>()).into();
    Ok(Offer { flow, workspace, connection: connection.name, api: target, provider, hosts, scopes, begun_by, token })
}

/// A link that was opened: where to go, and what the browser keeps.
pub struct Opened {
    pub flow: OauthFlowId,
    pub authorization_url: String,
    pub browser: SecretString,
}

/// Binds the browser in which a person has agreed to it. The address at the provider is made anew, for its state was never kept.
pub async fn open_link(app: &App, request: &RequestInfo, link: &SecretString) -> Result<Opened, Failure> {
    let unknown = || Rejection::new(Code::Oauth2Error, "This link is not known here; begin again.");
    let parsed = OpaqueToken::parse(OpaqueKind::OauthLink, link).ok_or_else(unknown)?;
    let mut loaded = app.store().load::<OauthFlow>(parsed.id).await?;
    let context = context_of(&loaded, request).ok_or_else(unknown)?;
    let (browser, browser_token, _) = OpaqueToken::generate(OpaqueKind::OauthBrowser, parsed.id);
    let (travelling, state_token, _) = OpaqueToken::generate(OpaqueKind::OauthState, parsed.id);
    let OauthFlow { endpoints, redirect_uri, scopes, .. } = &loaded.state;
    let ask = app.ports().oauth.authorization(endpoints, redirect_uri, scopes, &travelling, &nonce(&travelling));
    let (authorization_url, verifier) = ask.map_err(|fault| failure(&endpoints.title, &fault))?;
    let command = OauthFlowCommand::OpenLink {
        link_hash: parsed.hash,
        browser_hash: browser_token.hash,
        state_hash: state_token.hash,
        verifier: app.vault().seal(context.actor.workspace, VERIFIER, verifier.expose_secret()).await?,
        now: app.now(),
    };
    let mut unit = Unit::new(app, &context).await?;
    unit.stage(&mut loaded, command)?;
    let opened = Opened { flow: OauthFlowId(parsed.id), authorization_url, browser };
    match unit.commit(opened).await {
        // Another browser was faster.
        Err(failure) if failure.is_conflict() => {
            Err(Rejection::new(Code::Oauth2Error, "This link was opened before; begin again.").into())
        }
        other => other.map(|done| done.value),
    }
}
