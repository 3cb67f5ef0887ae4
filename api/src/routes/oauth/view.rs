//! OAuth as clients see it: never a secret, and a token only where it was asked for by its own route.

use commands::{
    App,
    oauth::{Begun, Connected, Offer, redirect_uri},
    ports::KnownProvider,
};
use domain::{ids::ConnectionId, oauth::Grant};
use poem_openapi::Object;
use projections::ConnectionView;
use secrecy::ExposeSecret;

use super::page::Page;
use crate::{problem::Problem, types::Time};

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct ProviderJson {
    name: String,
    display_name: String,
    issuer: Option<String>,
    authorization_url: Option<String>,
    token_url: Option<String>,
    /// Asked for where nothing else is.
    scopes: Vec<String>,
    /// What to register with the provider.
    redirect_uri: Option<String>,
    /// The operator has set up a client: connections need none of their own.
    ready: bool,
}

impl ProviderJson {
    pub fn of(app: &App, known: KnownProvider) -> Self {
        let provider = known.provider;
        Self {
            redirect_uri: redirect_uri(app, &provider.name),
            name: provider.name,
            display_name: provider.title,
            issuer: provider.issuer,
            authorization_url: provider.authorization_url,
            token_url: provider.token_url,
            scopes: provider.scopes,
            ready: known.ready,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct ProvidersJson {
    pub providers: Vec<ProviderJson>,
    pub count: usize,
}

/// An authorization that was begun.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct BegunJson {
    authorization_id: String,
    connection_id: String,
    /// Open it in a browser: it says what it is for, and leads through the provider and back. Good once.
    connect_url: String,
    /// For the browser that keeps this answer's cookie.
    authorization_url: String,
    provider: String,
    /// What the provider will send people back to: register it there.
    redirect_uri: String,
    scopes: Vec<String>,
    expires_at: Time,
}

impl BegunJson {
    pub fn of(begun: Begun, connection: ConnectionId) -> Self {
        Self {
            authorization_id: begun.flow.to_string(),
            connection_id: connection.to_string(),
            connect_url: begun.connect_url.expose_secret().to_owned(),
            authorization_url: begun.authorization_url,
            provider: begun.provider,
            redirect_uri: begun.redirect_uri,
            scopes: begun.scopes,
            expires_at: begun.expires_at.into(),
        }
    }
}

/// What a person is asked before they go to the provider.
pub fn question(offer: &Offer) -> Page {
    let mut page = Page::new(200, "Connect");
    page.say(
        "You are about to give a connection access to your account at a provider. Go on only if you know who asks.",
    );
    page.line("Begun by", &offer.begun_by);
    page.line("Workspace", &offer.workspace);
    page.line("Connection", &offer.connection);
    if let Some(api) = &offer.api {
        page.line("The access is used at", api);
    }
    page.line("Provider", &format!("{} ({})", offer.provider, offer.hosts.join(", ")));
    let scopes = if offer.scopes.is_empty() { "the provider's usual ones".into() } else { offer.scopes.join(", ") };
    page.line("Asked for", &scopes);
    page
}

/// What was granted.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct ConnectedJson {
    connection_id: String,
    connection_name: String,
    provider: String,
    scopes: Vec<String>,
    /// Asked for and not granted.
    refused_scopes: Vec<String>,
    /// Of the access token.
    expires_at: Option<Time>,
    /// It is renewed by itself.
    refreshable: bool,
}

impl From<Connected> for ConnectedJson {
    fn from(connected: Connected) -> Self {
        Self {
            connection_id: connected.connection.to_string(),
            connection_name: connected.name,
            provider: connected.provider,
            scopes: connected.scopes,
            refused_scopes: connected.refused,
            expires_at: connected.expires_at.map(Into::into),
            refreshable: connected.refreshable,
        }
    }
}

impl ConnectedJson {
    pub fn page(&self) -> Page {
        let list =
            |scopes: &[String]| if scopes.is_empty() { "nothing in particular".into() } else { scopes.join(", ") };
        let mut page = Page::new(200, "Connected");
        page.line("Connection", &self.connection_name);
        page.line("Provider", &self.provider);
        page.line("Granted", &list(&self.scopes));
        if !self.refused_scopes.is_empty() {
            page.line("Asked for and not granted", &list(&self.refused_scopes));
        }
        let life = match (&self.expires_at, self.refreshable) {
            (_, true) => "It is renewed by itself.".to_owned(),
            (Some(at), false) => {
                format!("It ends at {}; then connect again.", at.0.format("%Y-%m-%d %H:%M UTC"))
            }
            (None, false) => "The provider does not say when it ends.".to_owned(),
        };
        page.line("Access", &life);
        page.say("You can close this page.");
        page
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct RefreshedJson {
    connection_id: String,
    scopes: Vec<String>,
    expires_at: Option<Time>,
    refreshable: bool,
    /// Of the credential that holds the tokens.
    credential_version: i32,
    /// `false`: somebody else had just done it.
    renewed: bool,
}

impl RefreshedJson {
    pub fn of(id: ConnectionId, grant: Option<&Grant>, seen: Option<i32>) -> Result<Self, Problem> {
        let grant = grant.ok_or_else(|| Problem::internal("a grant that is gone"))?;
        Ok(Self {
            connection_id: id.to_string(),
            scopes: grant.scopes.clone(),
            expires_at: grant.expires_at.map(Into::into),
            refreshable: grant.refreshable,
            credential_version: grant.version,
            renewed: seen.is_none_or(|seen| seen < grant.version),
        })
    }
}

/// The token itself.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct TokenJson {
    pub connection_id: String,
    pub access_token: String,
    pub token_type: String,
    pub scopes: Vec<String>,
    pub expires_at: Option<Time>,
    pub credential_version: i32,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct RevokedJson {
    pub connection_id: String,
    pub revoked: bool,
    /// The provider knows.
    pub revoked_at_provider: bool,
    /// What it did not do.
    pub note: Option<String>,
}

/// How a connection's authorization stands.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct OauthJson {
    /// The provider's name, when it is one of the installation's.
    provider: Option<String>,
    issuer: Option<String>,
    authorization_url: Option<String>,
    token_url: Option<String>,
    revocation_url: Option<String>,
    /// Its own client's; absent: the installation's is used.
    client_id: Option<String>,
    /// What is asked for.
    scopes: Vec<String>,
    /// `not_connected`, `connected` or `lost`.
    status: String,
    granted_scopes: Option<Vec<String>>,
    expires_at: Option<Time>,
    refreshable: Option<bool>,
    /// Why it is lost, and what to do.
    reason: Option<String>,
}

pub fn oauth_of(view: &ConnectionView) -> Option<OauthJson> {
    let domain::connection::AuthScheme::Oauth2 { client } = view.auth.clone() else { return None };
    let grant = view.oauth_grant.as_ref();
    let status = match grant {
        None => "not_connected",
        Some(Grant { lost: Some(_), .. }) => "lost",
        Some(_) => "connected",
    };
    Some(OauthJson {
        provider: client.provider,
        issuer: client.issuer,
        authorization_url: client.authorization_url,
        token_url: client.token_url,
        revocation_url: client.revocation_url,
        client_id: client.client_id,
        scopes: client.scopes,
        status: status.to_owned(),
        granted_scopes: grant.map(|grant| grant.scopes.clone()),
        expires_at: grant.and_then(|grant| grant.expires_at).map(Into::into),
        refreshable: grant.map(|grant| grant.refreshable),
        reason: grant.and_then(|grant| grant.lost.clone()),
    })
}
