//! Giving a grant back: RFC 7009, and what GitHub and Slack have in its place.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::oauth::{ClientAuth, Dialect, Fault, FaultKind};
use http::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::{MOST_BYTES, Party, TIMEOUT, endpoint, words};
use crate::egress::OutboundRequest;

/// `Ok(false)`: the provider has no way to do so. What it does not know any more counts as given back.
pub async fn revoke(party: &Party<'_>, access: &SecretString, refresh: Option<&SecretString>) -> Result<bool, Fault> {
    let Some(url) = &party.endpoints.revocation else { return Ok(false) };
    endpoint::check(party.egress, url).await?;
    match party.endpoints.dialect {
        Dialect::Github => github(party, url, access).await?,
        Dialect::Slack => slack(party, url, access).await?,
        Dialect::Standard | Dialect::Google => {
            // The refresh token first: with it most providers end all that was made of it.
            if let Some(refresh) = refresh {
                standard(party, url, refresh, "refresh_token").await?;
            }
            standard(party, url, access, "access_token").await?;
        }
    }
    Ok(true)
}

/// By hand: the `oauth2` crate takes no endpoint without https, and this machine's own may be one.
async fn standard(party: &Party<'_>, url: &str, token: &SecretString, hint: &str) -> Result<(), Fault> {
    let mut fields = vec![("token", token.expose_secret()), ("token_type_hint", hint)];
    let mut request = OutboundRequest::new(Method::POST, url);
    match (party.secret, party.endpoints.client_auth) {
        (Some(secret), ClientAuth::Basic) => {
            request = request.sensitive_header("Authorization", basic(&party.endpoints.client_id, secret));
        }
        (secret, _) => {
            fields.push(("client_id", &party.endpoints.client_id));
            fields.extend(secret.map(|secret| ("client_secret", secret.expose_secret())));
        }
    }
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(form);
    let (status, answer) = send(party, request).await?;
    match (status, answer.get("error").and_then(Value::as_str)) {
        (200..300, _) => Ok(()),
        // Google's word for a token that is gone already.
        (_, Some("invalid_token")) => Ok(()),
        (_, code) => Err(refused(status, code)),
    }
}

/// The whole grant of this person to this app.
async fn github(party: &Party<'_>, url: &str, access: &SecretString) -> Result<(), Fault> {
    let wrong = || Fault::new(FaultKind::Settings, "has a revocation URL that is none");
    let mut at = Url::parse(url).map_err(|_| wrong())?;
    at.path_segments_mut().map_err(|()| wrong())?.push(&party.endpoints.client_id).push("grant");
    let secret = party.secret.ok_or_else(|| Fault::new(FaultKind::Settings, "wants the client's secret for that"))?;
    let body = json!({ "access_token": access.expose_secret() }).to_string();
    let request = OutboundRequest::new(Method::DELETE, at)
        .sensitive_header("Authorization", basic(&party.endpoints.client_id, secret))
        .header("Content-Type", "application/json")
        .body(body);
    match send(party, request).await? {
        (200..300 | 404, _) => Ok(()),
        (status, _) => Err(refused(status, None)),
    }
}

async fn slack(party: &Party<'_>, url: &str, access: &SecretString) -> Result<(), Fault> {
    let request = OutboundRequest::new(Method::POST, url)
        .sensitive_header("Authorization", format!("Bearer {}", access.expose_secret()));
    let (status, answer) = send(party, request).await?;
    let code = answer.get("error").and_then(Value::as_str);
    let gone = ["token_revoked", "invalid_auth", "token_expired", "account_inactive"];
    match answer.get("ok") {
        Some(Value::Bool(true)) => Ok(()),
        _ if code.is_some_and(|code| gone.contains(&code)) => Ok(()),
        _ => Err(refused(status, code)),
    }
}

fn basic(id: &str, secret: &SecretString) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret.expose_secret()))))
}

async fn send(party: &Party<'_>, request: OutboundRequest) -> Result<(u16, Value), Fault> {
    let request = request
        .timeout(TIMEOUT)
        .max_response_bytes(MOST_BYTES)
        .follow_redirects(false)
        .scope(party.scope)
        .header("Accept", "application/json")
        .header("User-Agent", concat!("apiq/", env!("CARGO_PKG_VERSION")));
    let answer = party.egress.send(request).await.map_err(|error| words::unreachable(&error))?;
    Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null)))
}

fn refused(status: u16, code: Option<&str>) -> Fault {
    let kind = if status >= 500 || status == 429 { FaultKind::Unreachable } else { FaultKind::Refused };
    let code = code.map(|code| format!(" {}", words::error_code(code))).unwrap_or_default();
    Fault::new(kind, format!("answers {status}{code} to the revocation"))
}
