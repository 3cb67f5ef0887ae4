//! OAuth 2.0 as a client: the address a person is sent to, codes and refresh tokens for access tokens, revocation.
//!
//! Requests are built by the `oauth2` crate and sent through the egress guard; redirects are not followed, for they would
//! take a secret along. What providers do otherwise than the standard is read by [`answer`] into its one form.

mod answer;
mod endpoint;
mod metadata;
mod revoke;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use domain::oauth::{ClientAuth, Dialect, Endpoints, Fault, FaultKind};
use futures::future::BoxFuture;
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope as OauthScope, TokenResponse, TokenUrl,
    basic::{BasicClient, BasicTokenResponse},
};
use secrecy::{ExposeSecret, SecretString};

use crate::egress::{Egress, OutboundRequest, Scope};

pub use endpoint::check as check_endpoint;
pub use metadata::{Metadata, discover};

/// To the last byte of an answer; whoever waits for a renewal waits longer.
pub const TIMEOUT: Duration = Duration::from_secs(10);
const MOST_BYTES: u64 = 256 * 1024;

/// What a provider gave.
pub struct Tokens {
    pub access: SecretString,
    /// Absent: there is none, or the one before goes on.
    pub refresh: Option<SecretString>,
    /// Absent: those that were asked for.
    pub scopes: Option<Vec<String>>,
    /// Seconds; absent: it does not say.
    pub expires_in: Option<i64>,
}

/// The provider, our client there, and on whose behalf.
pub struct Party<'a> {
    pub egress: &'a Egress,
    pub endpoints: &'a Endpoints,
    pub secret: Option<&'a SecretString>,
    pub scope: Scope,
}

type Client = BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// Where a person is sent, and what proves afterwards that we sent them (PKCE, S256).
pub fn authorization(
    endpoints: &Endpoints,
    redirect_uri: &str,
    scopes: &[String],
    state: &SecretString,
    nonce: &str,
) -> Result<(String, SecretString), Fault> {
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let client = client(endpoints, None)?;
    let redirect = RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| settings("the redirect URI is no URL"))?;
    let request = client.authorize_url(|| CsrfToken::new(state.expose_secret().to_owned()));
    let mut request = request.set_pkce_challenge(challenge).set_redirect_uri(std::borrow::Cow::Owned(redirect));
    request = match endpoints.dialect {
        // One parameter with commas; the crate would write spaces.
        Dialect::Slack => request.add_extra_param("scope", scopes.join(",")),
        Dialect::Google => request
            .add_scopes(scopes.iter().cloned().map(OauthScope::new))
            .add_extra_param("access_type", "offline")
            // Without being asked again a person who agreed before gets no refresh token.
            .add_extra_param("prompt", "consent"),
        _ => request.add_scopes(scopes.iter().cloned().map(OauthScope::new)),
    };
    if scopes.iter().any(|scope| scope == "openid") {
        request = request.add_extra_param("nonce", nonce.to_owned());
    }
    if scopes.iter().any(|scope| scope == "offline_access") {
        // OpenID Connect Core, 11: without it the scope is ignored.
        request = request.add_extra_param("prompt", "consent");
    }
    Ok((request.url().0.into(), verifier.secret().clone().into()))
}

/// A code for tokens. `nonce`: what an ID token must repeat, where one was asked for.
pub async fn exchange(
    party: &Party<'_>,
    code: &SecretString,
    verifier: &SecretString,
    redirect_uri: &str,
    nonce: Option<&str>,
) -> Result<Tokens, Fault> {
    let client = client(party.endpoints, party.secret)?;
    let redirect = RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| settings("the redirect URI is no URL"))?;
    let known = [code.expose_secret(), verifier.expose_secret()];
    let request = client.exchange_code(AuthorizationCode::new(code.expose_secret().to_owned()));
    let request = request
        .set_redirect_uri(std::borrow::Cow::Owned(redirect))
        .set_pkce_verifier(PkceCodeVerifier::new(verifier.expose_secret().to_owned()));
    outcome(request.request_async(&Through { party, known: &known, nonce }).await)
}

/// New tokens for a refresh token.
pub async fn refresh(party: &Party<'_>, token: &SecretString) -> Result<Tokens, Fault> {
    let client = client(party.endpoints, party.secret)?;
    let presented = RefreshToken::new(token.expose_secret().to_owned());
    let request = client.exchange_refresh_token(&presented);
    let known = [token.expose_secret()];
    outcome(request.request_async(&Through { party, known: &known, nonce: None }).await)
}

pub use revoke::revoke;

fn client(endpoints: &Endpoints, secret: Option<&SecretString>) -> Result<Client, Fault> {
    let authorization =
        AuthUrl::new(endpoints.authorization.clone()).map_err(|_| settings("has a URL that is none"))?;
    let token = TokenUrl::new(endpoints.token.clone()).map_err(|_| settings("has a URL that is none"))?;
    let mut client = BasicClient::new(ClientId::new(endpoints.client_id.clone()));
    if let Some(secret) = secret {
        client = client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
    }
    client = client.set_auth_type(match endpoints.client_auth {
        ClientAuth::Basic => AuthType::BasicAuth,
        ClientAuth::Body => AuthType::RequestBody,
    });
    Ok(client.set_auth_uri(authorization).set_token_uri(token))
}

fn settings(words: &str) -> Fault {
    Fault::new(FaultKind::Settings, words)
}

/// The crate's way out: ours.
struct Through<'a> {
    party: &'a Party<'a>,
    known: &'a [&'a str],
    nonce: Option<&'a str>,
}

impl<'c> AsyncHttpClient<'c> for Through<'_> {
    type Error = Fault;
    type Future = BoxFuture<'c, Result<HttpResponse, Fault>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(send(self.party, request, self.known, self.nonce))
    }
}

/// The one way out. `known`: what must not come back in words.
async fn send(
    party: &Party<'_>,
    request: HttpRequest,
    known: &[&str],
    nonce: Option<&str>,
) -> Result<HttpResponse, Fault> {
    let (parts, body) = request.into_parts();
    endpoint::check(party.egress, &party.endpoints.token).await?;
    let mut outbound = OutboundRequest::new(parts.method, parts.uri.to_string())
        .timeout(TIMEOUT)
        .max_response_bytes(MOST_BYTES)
        .follow_redirects(false)
        .scope(party.scope)
        .header("User-Agent", concat!("apiq/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &parts.headers {
        let value = value.to_str().map_err(|_| settings("has a client whose id cannot be sent"))?;
        outbound = outbound.sensitive_header(name.as_str(), value);
    }
    let sent = party.egress.send(outbound.body(body)).await;
    let answer = sent.map_err(|error| words::unreachable(&error))?;
    let secrets: Vec<&str> = known.iter().copied().chain(party.secret.map(ExposeSecret::expose_secret)).collect();
    let body = answer::read(&answer, party.endpoints, &secrets, nonce)?;
    // In the form that the crate reads.
    let response = http::Response::builder().status(200).header("content-type", "application/json");
    response.body(body).map_err(|error| Fault::new(FaultKind::Unreadable, error.to_string()))
}

fn outcome<E: oauth2::ErrorResponse>(
    result: Result<BasicTokenResponse, RequestTokenError<Fault, E>>,
) -> Result<Tokens, Fault> {
    match result {
        Ok(response) => Ok(Tokens {
            access: response.access_token().secret().clone().into(),
            refresh: response.refresh_token().map(|token| token.secret().clone().into()),
            scopes: response.scopes().map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect()),
            expires_in: response.expires_in().map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX)),
        }),
        Err(RequestTokenError::Request(fault)) => Err(fault),
        // `answer` lets nothing through that the crate cannot read.
        Err(_) => Err(Fault::new(FaultKind::Unreadable, "answers with something that is no token")),
    }
}
