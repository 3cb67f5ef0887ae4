//! OAuth 2.0 for connections: providers, a person's way to one and back, tokens.

mod browser;
mod page;
mod view;

use browser::{Came, Cookie, Leaf, LinkQuery, Posted, Shown, To};
use commands::oauth::{self as use_cases, Authorize, Callback};
use domain::{
    error::{Code, Faults},
    ids::ConnectionId,
    oauth::Because,
    policy::Permission,
};
use page::Page;
use poem_openapi::{Object, OpenApi, param::Path};
use secrecy::ExposeSecret;
use view::{BegunJson, ConnectedJson, ProviderJson, ProvidersJson, RefreshedJson, RevokedJson, TokenJson};
pub use view::{OauthJson, oauth_of};

use super::{Tag, connections::ClientParts};
use crate::{
    answer::Answer,
    auth::{
        Guest, Permit,
        grant::{CredentialReveal, CredentialWrite},
    },
    body::Body,
    problem::Problem,
    query::{Asked, Params, QuerySet},
    types::{Id, Secret, Segment},
};

pub struct OauthApi;

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct AuthorizeBody {
    connection_id: Id<ConnectionId>,
    /// What is asked for; the connection's, else the provider's usual ones, when absent.
    scopes: Option<Vec<String>>,
    /// One of the provider's redirect URIs, to the letter; its own when absent.
    #[oai(validator(max_length = 2048))]
    redirect_uri: Option<String>,
    /// Sets the connection's client before: a provider that `GET /oauth/providers` lists.
    provider: Option<String>,
    /// Sets the connection's client before, as `authConfig` does.
    issuer: Option<String>,
    authorization_url: Option<String>,
    token_url: Option<String>,
    revocation_url: Option<String>,
    client_id: Option<String>,
    /// Goes to the vault.
    client_secret: Option<Secret>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct RefreshTokenBody {
    connection_id: Id<ConnectionId>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct RevokeGrantBody {
    connection_id: Id<ConnectionId>,
    /// Forget the tokens here though the provider does not answer.
    force: Option<bool>,
}

/// What `GET /oauth/authorize` takes: everything but the client, which is the stored one.
struct AuthorizeQuery {
    connection: Option<ConnectionId>,
    scopes: Option<Vec<String>>,
    redirect_uri: Option<String>,
}

fn connection(params: &mut Params) -> Option<ConnectionId> {
    let text = params.text("connectionId");
    match text.as_deref().map(str::parse) {
        Some(Ok(id)) => Some(id),
        Some(Err(error)) => {
            let error: domain::ids::IdError = error;
            params.faults.add("connectionId", error.to_string());
            None
        }
        None => {
            params.faults.add("connectionId", "is required");
            None
        }
    }
}

impl QuerySet for AuthorizeQuery {
    const NOTES: &'static [&'static str] = &[
        "query|connectionId|id:conn|Which connection.",
        "query|scopes|string|What is asked for, by spaces.",
        "query|redirectUri|string|One of the provider's redirect URIs, to the letter.",
    ];

    fn read(params: &mut Params) -> Self {
        for name in ["clientSecret", "client_secret"] {
            if params.text(name).is_some() {
                let message = "must not stand in a URL, which ends up in logs and histories: send it by POST, and as it \
                               has been shown now, let the provider make another one";
                params.faults.add(name, message);
            }
        }
        Self {
            connection: connection(params),
            scopes: params.text("scopes").map(|text| domain::oauth::scope::parse(&text)),
            redirect_uri: params.text("redirectUri"),
        }
    }
}

struct TokenQuery(Option<ConnectionId>);

impl QuerySet for TokenQuery {
    const NOTES: &'static [&'static str] = &["query|connectionId|id:conn|Which connection."];

    fn read(params: &mut Params) -> Self {
        Self(connection(params))
    }
}

fn required(id: Option<ConnectionId>) -> Result<ConnectionId, Problem> {
    id.ok_or_else(|| Problem::field("connectionId", "is required"))
}

#[OpenApi(tag = "Tag::Oauth")]
impl OauthApi {
    /// List OAuth providers
    ///
    /// Those that are built in and those that the operator has set up. `ready` ones need no client of your own.
    /// `redirectUri` is what to register with the provider.
    #[oai(path = "/oauth/providers", method = "get", operation_id = "listOauthProviders")]
    async fn providers(&self, guest: Guest) -> Result<Answer<ProvidersJson>, Problem> {
        let app = guest.state.app();
        let providers: Vec<ProviderJson> =
            use_cases::providers(app).into_iter().map(|known| ProviderJson::of(app, known)).collect();
        Ok(Answer::new(ProvidersJson { count: providers.len(), providers }))
    }

    /// Begin an authorization
    ///
    /// Gives `connectUrl`: open it in a browser, go on, agree at the provider, and the connection is authorized. It is good once,
    /// for ten minutes. `authorizationUrl` is for the browser that keeps this answer's cookie. With a client in the body
    /// it becomes the connection's own, and its secret goes to the vault.
    #[oai(path = "/oauth/authorize", method = "post", operation_id = "beginAuthorization")]
    async fn begin(
        &self,
        permit: Permit<CredentialWrite>,
        body: Body<AuthorizeBody>,
    ) -> Result<Cookie<Answer<BegunJson>>, Problem> {
        let AuthorizeBody { connection_id, scopes, redirect_uri, client_secret, .. } = &body.0;
        let connection = connection_id.typed("connectionId")?;
        let input = Authorize { connection, scopes: scopes.clone(), redirect_uri: redirect_uri.clone() };
        let (parts, secret) = (body.0.client(), client_secret.clone());
        if !parts.is_empty() || secret.is_some() {
            permit.require(Permission::ConnectionWrite).await?;
            let context = permit.context_without_claim();
            let present = commands::connection::load(permit.app(), permit.workspace(), connection).await?.state;
            let client = parts.over(&present.auth);
            let mut faults = Faults::default();
            client.check(&mut faults);
            faults.0.iter_mut().for_each(|fault| fault.field = fault.field.replace("authConfig.", ""));
            faults.into_result()?;
            use_cases::set_client(permit.app(), &context, connection, client, secret.map(|secret| secret.0)).await?;
        }
        let done = use_cases::authorize(permit.app(), permit.context(), input).await?;
        permit.wrote(done.at);
        let cookie = browser::kept(permit.app(), done.value.flow, &done.value.browser);
        let answer = Answer::new(BegunJson::of(done.value, connection)).at(done.at).shown_once("connectUrl");
        Ok(Cookie { answer, cookie })
    }

    /// Go to the provider
    ///
    /// For a connection whose client is stored: redirects to the provider, and keeps a cookie until the way back.
    #[oai(path = "/oauth/authorize", method = "get", operation_id = "goToProvider")]
    async fn go(&self, permit: Permit<CredentialWrite>, asked: Asked<AuthorizeQuery>) -> Result<To, Problem> {
        let AuthorizeQuery { connection, scopes, redirect_uri } = asked.0;
        let input = Authorize { connection: required(connection)?, scopes, redirect_uri };
        let done = use_cases::authorize(permit.app(), permit.context(), input).await?;
        permit.wrote(done.at);
        let cookie = browser::kept(permit.app(), done.value.flow, &done.value.browser);
        Ok(To { url: done.value.authorization_url, cookie })
    }

    /// Look at a connect link
    ///
    /// The `connectUrl` of an authorization that was begun: a page that says who began it, for which connection, and what
    /// will be asked for where, with a button that goes on. Nothing is changed before.
    #[oai(path = "/oauth/connect", method = "get", operation_id = "showConnectLink")]
    async fn connect(&self, guest: Guest, came: Came<LinkQuery>) -> Result<Leaf, Problem> {
        let app = guest.state.app();
        let link = came.text("link").unwrap_or_default();
        let offer = match link.is_empty() {
            true => Err(Problem::field("link", "is required")),
            false => use_cases::offer(app, &guest.request, &link.clone().into()).await.map_err(Problem::from),
        };
        came.leaf(offer.map(|offer| {
            let token = offer.token.expose_secret();
            let mut page = view::question(&offer);
            page.form("connect", &[("link", &link), ("token", token)], &format!("Go on to {}", offer.provider));
            Leaf { page, cookies: vec![browser::connect_cookie(app, offer.flow, token)] }
        }))
    }

    /// Open a connect link
    ///
    /// What the button of that page sends. The first browser that does so is the one that the authorization is bound to;
    /// it goes on to the provider. `token` is the one of the page's cookie: forms of other sites do not count.
    #[oai(path = "/oauth/connect", method = "post", operation_id = "openConnectLink")]
    async fn open(&self, guest: Guest, posted: Posted) -> Result<Leaf, Problem> {
        let app = guest.state.app();
        let opened = match posted.link() {
            Some(link) => use_cases::open_link(app, &guest.request, &link).await.map_err(Problem::from),
            None => {
                let message = "This did not come from the page of the link: open the link again, and go on from there.";
                Err(Problem::new(Code::Oauth2Error, message))
            }
        };
        posted.0.leaf(opened.map(|opened| {
            let mut page = Page::new(200, "Connect");
            page.go_on(&opened.authorization_url, "Go on to the provider");
            let kept = browser::kept(app, opened.flow, &opened.browser);
            Leaf { page, cookies: vec![kept, browser::connect_cookie(app, opened.flow, "")] }
        }))
    }

    /// Come back from a provider
    ///
    /// Where providers that say in each answer who they are (RFC 9207) may send people back to; see the next route.
    #[oai(path = "/oauth/callback", method = "get", operation_id = "comeBack")]
    async fn callback(
        &self,
        guest: Guest,
        came: Came<browser::AnswerQuery>,
    ) -> Result<Shown<Cookie<Answer<ConnectedJson>>>, Problem> {
        self.taken(guest, came).await
    }

    /// Come back from this provider
    ///
    /// Takes the answer once, in the browser that began, exchanges its code and stores the tokens. Browsers get a page
    /// that says what was granted, others JSON.
    #[oai(path = "/oauth/callback/:provider", method = "get", operation_id = "comeBackFromProvider")]
    async fn callback_of(
        &self,
        guest: Guest,
        provider: Path<Segment>,
        came: Came<browser::AnswerQuery>,
    ) -> Result<Shown<Cookie<Answer<ConnectedJson>>>, Problem> {
        // The whole path is compared with the one that was asked for, and this with it.
        drop(provider);
        self.taken(guest, came).await
    }

    /// Renew an access token
    ///
    /// With the refresh token, now. Usually nobody has to: tokens are renewed before they end.
    #[oai(path = "/oauth/refresh", method = "post", operation_id = "refreshAccessToken")]
    async fn refresh(
        &self,
        permit: Permit<CredentialWrite>,
        body: Body<RefreshTokenBody>,
    ) -> Result<Answer<RefreshedJson>, Problem> {
        let id = body.0.connection_id.typed("connectionId")?;
        let context = permit.context_without_claim();
        let before = commands::connection::load(permit.app(), permit.workspace(), id).await?.state;
        let seen = before.grant.as_ref().map(|grant| grant.version);
        if let Some(grant) = before.grant.as_ref().filter(|grant| !grant.refreshable && grant.lost.is_none()) {
            let message = format!("{} gave no refresh token: there is nothing to renew with.", grant.provider);
            return Err(Problem::new(Code::Oauth2Error, message));
        }
        let standing = use_cases::fresh(permit.app(), &context, id, Because::Asked, seen).await?;
        if let Some((word, message)) = standing.fault() {
            let code = if word == "OAUTH_REFRESH_FAILED" { Code::IntegrationError } else { Code::Oauth2Error };
            return Err(Problem::new(code, message));
        }
        let after = commands::connection::load(permit.app(), permit.workspace(), id).await?.state;
        let refreshed = RefreshedJson::of(id, after.grant.as_ref(), seen)?;
        Ok(Answer::new(refreshed).message("The access token is renewed."))
    }

    /// Get an access token
    ///
    /// For calls that APIQ does not make. It is renewed first where it is about to end. Each time is in the log before
    /// (`credential.read`).
    #[oai(path = "/oauth/token", method = "get", operation_id = "getAccessToken")]
    async fn token(
        &self,
        permit: Permit<CredentialReveal>,
        asked: Asked<TokenQuery>,
    ) -> Result<Answer<TokenJson>, Problem> {
        let id = required(asked.0.0)?;
        let token = use_cases::token(permit.app(), permit.context(), id).await?;
        Ok(Answer::new(TokenJson {
            connection_id: id.to_string(),
            access_token: token.access.expose_secret().to_owned(),
            token_type: "Bearer".into(),
            scopes: token.scopes,
            expires_at: token.expires_at.map(Into::into),
            credential_version: token.version,
        }))
    }

    /// Give a grant back
    ///
    /// Tells the provider (RFC 7009, or as it wants it), and destroys the tokens here. The connection's client stays.
    #[oai(path = "/oauth/revoke", method = "post", operation_id = "revokeGrant")]
    async fn revoke(
        &self,
        permit: Permit<CredentialWrite>,
        body: Body<RevokeGrantBody>,
    ) -> Result<Answer<RevokedJson>, Problem> {
        let id = body.0.connection_id.typed("connectionId")?;
        let force = body.0.force.unwrap_or(false);
        let done = use_cases::revoke(permit.app(), permit.context(), id, force).await?;
        permit.wrote(done.at);
        let revoked = RevokedJson {
            connection_id: id.to_string(),
            revoked: true,
            revoked_at_provider: done.value.at_provider,
            note: done.value.note,
        };
        Ok(Answer::new(revoked).message("The grant is given back.").at(done.at))
    }
}

impl OauthApi {
    async fn taken(
        &self,
        guest: Guest,
        came: Came<browser::AnswerQuery>,
    ) -> Result<Shown<Cookie<Answer<ConnectedJson>>>, Problem> {
        let state: Option<secrecy::SecretString> = came.text("state").map(Into::into);
        let flow = state.as_ref().and_then(use_cases::flow_of);
        let input = Callback {
            browser: flow.and_then(|flow| came.cookie(flow)).map(Into::into),
            code: came.text("code").map(Into::into),
            error: came.text("error"),
            issuer: came.text("iss"),
            path: came.path.clone(),
            state,
        };
        let app = guest.state.app();
        let done = use_cases::callback(app, &guest.request, input).await;
        if let Ok(done) = &done {
            // Whoever began it sees it.
            guest.note_write_of(&done.value.actor_id, done.at);
        }
        let cookie = flow.map(|flow| browser::forgotten(app, flow)).unwrap_or_default();
        came.shown(done.map_err(Problem::from).map(|done| {
            let answer =
                Answer::new(ConnectedJson::from(done.value)).at(done.at).message("The connection is authorized.");
            Cookie { answer, cookie }
        }))
    }
}

impl AuthorizeBody {
    fn client(&self) -> ClientParts {
        ClientParts {
            provider: self.provider.clone(),
            issuer: self.issuer.clone(),
            authorization_url: self.authorization_url.clone(),
            token_url: self.token_url.clone(),
            revocation_url: self.revocation_url.clone(),
            client_id: self.client_id.clone(),
            scopes: None,
        }
    }
}
