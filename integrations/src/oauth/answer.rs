//! A token endpoint's answer, in whatever form, as the standard's: JSON with `access_token` and what belongs to it; or
//! what is wrong with it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::oauth::{Dialect, Endpoints, Fault, FaultKind, scope};
use serde_json::{Map, Value, json};

use super::words::{error_code, sentence};
use crate::egress::OutboundResponse;

/// Longer ones do not fit into a header.
const MOST_TOKEN: usize = 12 * 1024;
/// Seconds; what lives longer does not end.
const LONGEST_LIFE: u64 = 10 * 365 * 86_400;

/// `secrets`: what must not be in words. `nonce`: what an ID token must repeat.
pub fn read(
    answer: &OutboundResponse,
    endpoints: &Endpoints,
    secrets: &[&str],
    nonce: Option<&str>,
) -> Result<Vec<u8>, Fault> {
    let fields = fields(answer)?;
    if let Some(fault) = refusal(answer.status, &fields, endpoints.dialect, secrets) {
        return Err(fault);
    }
    let unreadable = |words: &str| Fault::new(FaultKind::Unreadable, words);
    // A Slack app that asked for rights of a person only has its token there.
    let person = fields.get("authed_user").and_then(Value::as_object).filter(|_| endpoints.dialect == Dialect::Slack);
    let own = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let field = |name: &str| match own("access_token") {
        Some(_) => own(name),
        None => person.and_then(|person| person.get(name)).or_else(|| own(name)),
    };
    let access = field("access_token").and_then(Value::as_str).unwrap_or_default();
    if access.is_empty() {
        return Err(Fault::new(FaultKind::Unreadable, format!("answers {} without an access token", answer.status)));
    }
    let is_sendable = |token: &str| token.len() <= MOST_TOKEN && token.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if !is_sendable(access) {
        return Err(unreadable("gives an access token that cannot be sent in a header"));
    }
    let kind = field("token_type").and_then(Value::as_str).unwrap_or("bearer").to_ascii_lowercase();
    if !["bearer", "bot", "user", "token"].contains(&kind.as_str()) {
        let words = format!("gives tokens of the type {}, and only bearer tokens can be sent", error_code(&kind));
        return Err(Fault::new(FaultKind::Unreadable, words));
    }
    if let (Some(token), Some(nonce)) = (own("id_token").and_then(Value::as_str), nonce) {
        check_identity(token, endpoints, nonce)?;
    }
    let mut clean = Map::new();
    clean.insert("access_token".into(), json!(access));
    clean.insert("token_type".into(), json!("bearer"));
    if let Some(refresh) = field("refresh_token").and_then(Value::as_str).filter(|token| is_sendable(token)) {
        clean.insert("refresh_token".into(), json!(refresh));
    }
    if let Some(seconds) = field("expires_in").and_then(seconds) {
        clean.insert("expires_in".into(), json!(seconds));
    }
    if let Some(scopes) = field("scope").and_then(scopes) {
        clean.insert("scope".into(), json!(scopes.join(" ")));
    }
    serde_json::to_vec(&clean).map_err(|error| unreadable(&error.to_string()))
}

/// The body's fields: JSON, or a form as GitHub's is where it is not asked for JSON.
fn fields(answer: &OutboundResponse) -> Result<Map<String, Value>, Fault> {
    let status = answer.status;
    let wrong = |words: String| {
        let kind = if status >= 500 || status == 429 { FaultKind::Unreachable } else { FaultKind::Unreadable };
        Err(Fault::new(kind, words))
    };
    if (300..400).contains(&status) {
        return wrong(format!("answers {status}, a redirect, which is not followed with a secret: is tokenUrl right?"));
    }
    let body = answer.body.trim_ascii();
    if body.is_empty() {
        return wrong(format!("answers {status} with nothing"));
    }
    let kind = answer.header("content-type").unwrap_or_default().to_ascii_lowercase();
    if kind.contains("html") || body.starts_with(b"<") {
        return wrong(format!("answers {status} with a web page in place of a token: is tokenUrl right?"));
    }
    if let Ok(Value::Object(fields)) = serde_json::from_slice(body) {
        return Ok(fields);
    }
    let form = kind.contains("form-urlencoded") || kind.contains("text/plain");
    let text = std::str::from_utf8(body).unwrap_or_default();
    if form && ["access_token=", "error="].iter().any(|name| text.contains(name)) {
        let pairs = url::form_urlencoded::parse(body);
        return Ok(pairs.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect());
    }
    wrong(format!("answers {status} with something that is neither JSON nor a form"))
}

/// An error, whatever status it comes with.
fn refusal(status: u16, fields: &Map<String, Value>, dialect: Dialect, secrets: &[&str]) -> Option<Fault> {
    let not_ok = fields.get("ok") == Some(&Value::Bool(false));
    let code = match fields.get("error") {
        Some(Value::String(code)) if !code.is_empty() => Some(code.as_str()),
        Some(Value::Object(inner)) => {
            let name = inner.get("code").or_else(|| inner.get("type")).and_then(Value::as_str);
            Some(name.unwrap_or_default())
        }
        _ => not_ok.then_some(""),
    };
    let Some(code) = code else {
        let words = format!("answers {status} without saying why");
        return match status {
            500.. | 429 => Some(Fault::new(FaultKind::Unreachable, words)),
            400.. => Some(Fault::new(FaultKind::Refused, words)),
            _ => None,
        };
    };
    let kind = match code {
        "invalid_grant" => FaultKind::GrantGone,
        "bad_refresh_token" if dialect == Dialect::Github => FaultKind::GrantGone,
        "invalid_refresh_token" | "token_revoked" | "token_expired" | "account_inactive" | "invalid_auth"
            if dialect == Dialect::Slack =>
        {
            FaultKind::GrantGone
        }
        "temporarily_unavailable" | "server_error" | "slow_down" | "ratelimited" => FaultKind::Unreachable,
        _ if status >= 500 || status == 429 => FaultKind::Unreachable,
        _ => FaultKind::Refused,
    };
    let more = fields.get("error_description").and_then(Value::as_str).map(|text| sentence(text, secrets));
    // A code could be made of what we sent.
    let code = sentence(error_code(code), secrets);
    let more = more.filter(|more| !more.is_empty()).map(|more| format!(": {more}")).unwrap_or_default();
    Some(Fault::new(kind, format!("answers {status} {code}{more}")))
}

/// A whole number from 1, also as a text; anything else says nothing.
fn seconds(value: &Value) -> Option<u64> {
    let number = value.as_u64().or_else(|| value.as_f64().map(|float| float as u64));
    let number = number.or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
    number.filter(|seconds| (1..LONGEST_LIFE).contains(seconds))
}

fn scopes(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(scope::parse(text)),
        Value::Array(items) => {
            Some(items.iter().filter_map(Value::as_str).filter(|s| scope::is_token(s)).map(str::to_owned).collect())
        }
        _ => None,
    }
}

/// The ID token is about this very authorization. It came from the token endpoint itself, so its signature is not needed
/// (OpenID Connect Core, 3.1.3.7); nothing else of it is used.
fn check_identity(token: &str, endpoints: &Endpoints, nonce: &str) -> Result<(), Fault> {
    let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = payload.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let wrong = |words: &str| Err(Fault::new(FaultKind::Unreadable, format!("gives an ID token {words}")));
    let Some(claims) = claims else { return wrong("that cannot be read") };
    if claims.get("nonce").and_then(Value::as_str) != Some(nonce) {
        return wrong("of another authorization: its nonce is not ours");
    }
    if let (Some(said), Some(issuer)) = (claims.get("iss").and_then(Value::as_str), &endpoints.issuer)
        && said != issuer
    {
        return wrong("of another issuer");
    }
    let ours = |value: &Value| value.as_str() == Some(endpoints.client_id.as_str());
    match claims.get("aud") {
        Some(Value::Array(several)) if !several.iter().any(ours) => wrong("for another client"),
        Some(one @ Value::String(_)) if !ours(one) => wrong("for another client"),
        _ => Ok(()),
    }
}
