//! Begins an authorization: the address a person is sent to, bound to one connection and one browser.

use domain::{
    connection::Connection,
    error::{Code, Faults, Rejection},
    ids::{ConnectionId, OauthFlowId},
    oauth::{
        Endpoints, OauthClient, OauthFlow,
        flow::{LIFE, OauthFlowCommand, Start},
        scope,
    },
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use vault::{OpaqueKind, OpaqueToken};

use super::{CALLBACK, failure};
use crate::{
    App, Context, Failure, Outcome, connection,
    unit::{Unit, fresh},
};

#[derive(Debug, Clone)]
pub struct Authorize {
    pub connection: ConnectionId,
    /// Absent: the client's, else the provider's usual ones.
    pub scopes: Option<Vec<String>>,
    /// Absent: the provider's own.
    pub redirect_uri: Option<String>,
}

pub struct Begun {
    pub flow: OauthFlowId,
    /// At the provider; for the browser that keeps `browser`.
    pub authorization_url: String,
    /// One address that begins it in the first browser in which somebody agrees to that.
    pub connect_url: SecretString,
    /// For a cookie.
    pub browser: SecretString,
    pub provider: String,
    pub redirect_uri: String,
    pub scopes: Vec<String>,
    pub expires_at: chrono::DateTime<chrono::Utc>,
}

pub async fn authorize(app: &App, context: &Context, input: Authorize) -> Outcome<Begun> {
    let workspace = context.actor.workspace;
    let state = connection::load(app, workspace, input.connection).await?.state;
    let client = client_of(&state)?;
    let base = public_url(app)?;
    let endpoints = app.ports().oauth.endpoints(workspace, client).await;
    let endpoints = endpoints.map_err(|fault| failure(&titled(client), &fault))?;
    let scopes = input.scopes.filter(|scopes| !scopes.is_empty());
    let scopes = scopes.or_else(|| (!client.scopes.is_empty()).then(|| client.scopes.clone()));
    let scopes = scopes.unwrap_or_else(|| endpoints.scopes.clone());
    let redirect_uri = checked(base, &endpoints, &scopes, input.redirect_uri)?;

    let flow: OauthFlowId = app.new_id();
    let (travelling, state_token, _) = OpaqueToken::generate(OpaqueKind::OauthState, flow.0);
    let (link, link_token, _) = OpaqueToken::generate(OpaqueKind::OauthLink, flow.0);
    let (browser, browser_token, _) = OpaqueToken::generate(OpaqueKind::OauthBrowser, flow.0);
    let ask = app.ports().oauth.authorization(&endpoints, &redirect_uri, &scopes, &travelling, &nonce(&travelling));
    let (authorization_url, verifier) = ask.map_err(|fault| failure(&endpoints.title, &fault))?;
    let now = app.now();
    let start = Start {
        connection: input.connection,
        client: client.clone(),
        endpoints: endpoints.clone(),
        scopes: scopes.clone(),
        redirect_uri: redirect_uri.clone(),
        target: state.origin(),
        state_hash: state_token.hash,
        link_hash: link_token.hash,
        browser_hash: browser_token.hash,
        verifier: app.vault().seal(workspace, VERIFIER, verifier.expose_secret()).await?,
        actor_kind: context.actor.kind,
        actor_id: context.actor.id.clone(),
        now,
    };
    let mut unit = Unit::new(app, context).await?;
    unit.stage(&mut fresh::<OauthFlow>(flow.0), OauthFlowCommand::Start(Box::new(start)))?;
    let connect_url = format!("{base}/api/v1/oauth/connect?link={}", link.expose_secret()).into();
    let (provider, expires_at) = (endpoints.title, now + LIFE);
    unit.commit(Begun { flow, authorization_url, connect_url, browser, provider, redirect_uri, scopes, expires_at })
        .await
}

/// Field under which the verifier is sealed.
pub(super) const VERIFIER: &str = "oauth.verifier";

/// What an ID token must repeat: made of the state, so that it is good as often as that, once.
pub(super) fn nonce(state: &SecretString) -> String {
    hex::encode(Sha256::digest(format!("nonce|{}", state.expose_secret())))
}

pub(super) fn client_of(connection: &Connection) -> Result<&OauthClient, Failure> {
    connection.oauth_client().ok_or_else(|| {
        let message = format!("this connection's authType is {}: set oauth2 first", connection.auth.as_str());
        Rejection::field("connectionId", message).into()
    })
}

pub(super) fn titled(client: &OauthClient) -> String {
    client.provider.clone().or_else(|| client.host()).unwrap_or_default()
}

pub(super) fn public_url(app: &App) -> Result<&str, Failure> {
    let unset = || {
        let message = "This service does not know its own address, to which the provider sends people back: its \
                       operator must set APIQ_PUBLIC_URL.";
        Rejection::new(Code::Oauth2Error, message)
    };
    Ok(app.settings().public_url.as_deref().ok_or_else(unset)?)
}

/// The redirect URI: this provider's own, to the letter. The common one serves only providers that say in each answer who
/// they are: otherwise nobody could tell one provider's answer from another's.
fn checked(base: &str, endpoints: &Endpoints, scopes: &[String], wanted: Option<String>) -> Result<String, Failure> {
    let mut faults = Faults::default();
    if scopes.len() > 100 || scopes.iter().any(|scope| !scope::is_token(scope)) {
        faults.add("scopes", "must be at most 100 scopes, of printable characters without quotes");
    }
    let own = format!("{base}{CALLBACK}/{}", endpoints.key);
    let common = endpoints.names_itself.then(|| format!("{base}{CALLBACK}"));
    let wanted = wanted.unwrap_or_else(|| own.clone());
    if wanted != own && Some(&wanted) != common.as_ref() {
        let or = common.map(|common| format!(" or {common}")).unwrap_or_default();
        faults.add("redirectUri", format!("must be {own}{or}, to the letter"));
    }
    faults.into_result()?;
    Ok(wanted)
}
