//! What a credential's value must be like, by its kind: checked before it is sealed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::{
    connection::{AuthScheme, CLIENT_SECRET, Certificate},
    error::{Faults, Rejection},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::{App, Failure, connector::find_type};

const MAX_TEXT: usize = 16 * 1024;
/// A chain of certificates and a key.
const MAX_CERTIFICATE: usize = 64 * 1024;

/// `auth`: the connection's scheme, when the value is for one. `path` goes before each field (`authConfig.`). Gives the
/// time at which the value ends by itself, when it says so.
pub(crate) fn check(
    app: &App,
    auth: Option<&AuthScheme>,
    kind: &str,
    value: &SecretString,
    path: &str,
) -> Result<Option<DateTime<Utc>>, Failure> {
    let mut faults = Faults::default();
    let mut until = None;
    let text = value.expose_secret();
    match kind {
        _ if find_type(app, kind).is_some() => connector_data(app, kind, text, path, &mut faults),
        "api_keys" | "custom" | "document" => until = several(app, auth, kind, text, path, &mut faults),
        "oauth2" => client_secret(text, path, &mut faults),
        "mtls" => until = certificate(app, text, path, &mut faults),
        "bearer" if !path.is_empty() => plain(kind, text, &format!("{path}token"), &mut faults),
        "basic" if !path.is_empty() => plain(kind, text, &format!("{path}password"), &mut faults),
        _ => plain(kind, text, &format!("{path}value"), &mut faults),
    }
    faults.into_result()?;
    Ok(until)
}

/// What a type of connector wants, as JSON.
fn connector_data(app: &App, kind: &str, text: &str, path: &str, faults: &mut Faults) {
    let field = format!("{path}data");
    if text.len() > MAX_CERTIFICATE {
        faults.add(field, format!("must have at most {MAX_CERTIFICATE} bytes"));
        return;
    }
    match serde_json::from_str::<Value>(text) {
        Ok(data) if data.is_object() => {
            faults.0.extend(app.ports().connectors.check_credential(kind, &data, &field));
        }
        _ => faults.add(field, "must be a JSON object"),
    }
}

fn plain(kind: &str, text: &str, field: &str, faults: &mut Faults) {
    if text.is_empty() || text.len() > MAX_TEXT {
        faults.add(field, format!("must have 1 to {MAX_TEXT} bytes"));
    }
    // These end up in a header.
    if kind != "secret" && text.chars().any(char::is_control) {
        faults.add(field, "must not hold line breaks or other control characters");
    }
    if kind == "basic" && !text.contains(':') {
        faults.add(field, "must be username and password");
    }
}

/// What a person gives is the client's secret alone: tokens come from the provider.
fn client_secret(text: &str, path: &str, faults: &mut Faults) {
    let values = serde_json::from_str::<BTreeMap<String, String>>(text).unwrap_or_default();
    let fits =
        |secret: &String| !secret.is_empty() && secret.len() <= MAX_TEXT && !secret.chars().any(char::is_control);
    if values.len() != 1 || !values.get(CLIENT_SECRET).is_some_and(fits) {
        faults.add(format!("{path}{CLIENT_SECRET}"), format!("must have 1 to {MAX_TEXT} bytes, without line breaks"));
    }
}

/// Values beside each other; each goes into a header, query parameter or cookie.
fn several(
    app: &App,
    auth: Option<&AuthScheme>,
    kind: &str,
    text: &str,
    path: &str,
    faults: &mut Faults,
) -> Option<DateTime<Utc>> {
    let Ok(values) = serde_json::from_str::<BTreeMap<String, String>>(text) else {
        faults.add(format!("{path}value"), "must be a JSON object of texts");
        return None;
    };
    let field = |name: &str| match kind {
        "custom" => format!("{path}secrets.{name}"),
        "document" => format!("{path}schemes.{name}"),
        _ => format!("{path}keys"),
    };
    let limit = if kind == "document" { MAX_CERTIFICATE } else { MAX_TEXT };
    let mut until = None;
    if values.is_empty() || text.len() > limit {
        faults.add(field("*"), format!("must hold at least one value, and {limit} bytes at most"));
    }
    for (name, value) in &values {
        if value.is_empty() || value.chars().any(char::is_control) {
            let message = format!("the value of {name} is empty or holds line breaks or other control characters");
            faults.add(field(name), message);
        }
        if kind == "document" && serde_json::from_str::<Certificate>(value).is_ok() {
            let ends = certificate(app, value, &format!("{}.", field(name)), faults);
            until = until.into_iter().chain(ends).min();
        }
    }
    let Some(auth) = auth else { return until };
    let wanted = auth.slots();
    for name in wanted.iter().filter(|name| !values.contains_key(*name)) {
        faults.add(field(name), format!("has no value for {name}, which each request needs"));
    }
    for name in values.keys().filter(|name| !wanted.contains(name)) {
        faults.add(field(name), format!("nothing uses {name}"));
    }
    until
}

fn certificate(app: &App, text: &str, path: &str, faults: &mut Faults) -> Option<DateTime<Utc>> {
    let Ok(pair) = serde_json::from_str::<Certificate>(text) else {
        faults.add(format!("{path}certificate"), "give certificate and privateKey, each as a PEM text");
        return None;
    };
    if text.len() > MAX_CERTIFICATE {
        faults.add(format!("{path}certificate"), format!("must have at most {MAX_CERTIFICATE} bytes with its key"));
        return None;
    }
    match app.ports().certificates.check(&pair.certificate, &pair.private_key.into()) {
        Ok(facts) if facts.not_after <= app.now() => {
            let message = format!("has expired on {}", facts.not_after.format("%Y-%m-%d %H:%M UTC"));
            faults.add(format!("{path}certificate"), message);
            None
        }
        Ok(facts) => Some(facts.not_after),
        Err(found) => {
            found.into_iter().for_each(|fault| faults.add(format!("{path}{}", fault.field), fault.message));
            None
        }
    }
}

/// A value is for the scheme that its connection has.
pub(crate) fn check_kind(auth: &AuthScheme, kind: &str) -> Result<(), Failure> {
    if auth.credential_kind() == kind {
        return Ok(());
    }
    let message = format!("the connection's authType is {}, this credential is {kind}", auth.as_str());
    Err(Rejection::field("type", message).into())
}
