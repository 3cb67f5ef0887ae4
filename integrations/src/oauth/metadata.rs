//! What an issuer says of itself: OpenID Connect Discovery, or RFC 8414.

use std::time::Duration;

use domain::oauth::{ClientAuth, Fault, FaultKind};
use serde::Deserialize;
use url::Url;

use super::{endpoint, words};
use crate::egress::{Egress, OutboundRequest, Scope};

const TIMEOUT: Duration = Duration::from_secs(10);
const MOST_BYTES: u64 = 512 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    pub authorization: String,
    pub token: String,
    pub revocation: Option<String>,
    pub client_auth: ClientAuth,
    /// It says `iss` in each answer (RFC 9207).
    pub names_itself: bool,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Reads an issuer's metadata from where either standard puts it.
pub async fn discover(egress: &Egress, scope: Scope, issuer: &str) -> Result<Metadata, Fault> {
    endpoint::check(egress, issuer).await?;
    let mut first = None;
    for url in places(issuer)? {
        match fetch(egress, scope, &url).await {
            Ok(document) => return read(document, issuer),
            Err(fault) => first = first.or(Some(fault)),
        }
    }
    Err(first.unwrap_or_else(|| Fault::new(FaultKind::Settings, "is no issuer's URL")))
}

fn places(issuer: &str) -> Result<[String; 2], Fault> {
    let wrong = || Fault::new(FaultKind::Settings, "is no issuer's URL");
    let url = Url::parse(issuer).map_err(|_| wrong())?;
    let path = url.path().trim_end_matches('/');
    let origin = url.origin().ascii_serialization();
    Ok([
        format!("{origin}{path}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
    ])
}

async fn fetch(egress: &Egress, scope: Scope, url: &str) -> Result<Document, Fault> {
    let request = OutboundRequest::get(url)
        .timeout(TIMEOUT)
        .max_response_bytes(MOST_BYTES)
        // What another host says of this issuer says nothing.
        .follow_redirects(false)
        .retries(1)
        .scope(scope)
        .header("Accept", "application/json");
    let answer = egress.send(request).await.map_err(|error| words::unreachable(&error))?;
    if answer.status >= 500 {
        return Err(Fault::new(FaultKind::Unreachable, format!("answers {} for its metadata", answer.status)));
    }
    let unreadable = |why: &str| Fault::new(FaultKind::Unreadable, format!("has no metadata that can be read: {why}"));
    if answer.status != 200 {
        return Err(unreadable(&format!(
            "{} at {}",
            answer.status,
            Url::parse(url).map(|u| u.path().to_owned()).unwrap_or_default()
        )));
    }
    serde_json::from_slice(&answer.body).map_err(|_| unreadable("it is no JSON of the standard's form"))
}

fn read(document: Document, issuer: &str) -> Result<Metadata, Fault> {
    let wrong = |words: &str| Fault::new(FaultKind::Settings, words.to_owned());
    if document.issuer != issuer {
        return Err(wrong("calls itself otherwise than its issuer's URL: write it exactly as its metadata does"));
    }
    let knows = |methods: &Vec<String>| methods.iter().any(|method| method == "S256");
    if !document.code_challenge_methods_supported.as_ref().is_none_or(knows) {
        return Err(wrong("does not know PKCE with S256"));
    }
    let methods = document.token_endpoint_auth_methods_supported;
    let has = |name: &str| methods.as_ref().is_some_and(|methods| methods.iter().any(|method| method == name));
    // Basic is what a list that is not there means.
    let by_body = has("client_secret_post") && !has("client_secret_basic");
    Ok(Metadata {
        authorization: document.authorization_endpoint.ok_or_else(|| wrong("names no authorization endpoint"))?,
        token: document.token_endpoint.ok_or_else(|| wrong("names no token endpoint"))?,
        revocation: document.revocation_endpoint,
        client_auth: if by_body { ClientAuth::Body } else { ClientAuth::Basic },
        names_itself: document.authorization_response_iss_parameter_supported,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Metadata, Fault> {
        read(serde_json::from_str(text).unwrap(), "https://a.test")
    }

    #[test]
    fn metadata_says_what_a_client_needs() {
        let read = of(
            r#"{"issuer":"https://a.test","authorization_endpoint":"https://a.test/a","token_endpoint":"https://a.test/t",
            "token_endpoint_auth_methods_supported":["client_secret_post"],"authorization_response_iss_parameter_supported":true}"#,
        );
        let read = read.unwrap();
        assert!(read.names_itself && read.client_auth == ClientAuth::Body && read.revocation.is_none());
    }

    #[test]
    fn another_issuer_and_plain_pkce_are_refused() {
        let other = of(r#"{"issuer":"https://a.test/","authorization_endpoint":"x","token_endpoint":"x"}"#);
        assert!(other.unwrap_err().words.contains("calls itself otherwise"));
        let plain = of(r#"{"issuer":"https://a.test","authorization_endpoint":"x","token_endpoint":"x",
            "code_challenge_methods_supported":["plain"]}"#);
        assert!(plain.unwrap_err().words.contains("S256"));
        assert!(of(r#"{"issuer":"https://a.test"}"#).is_err());
    }

    #[test]
    fn both_standards_places_are_looked_at() {
        let [first, second] = places("https://a.test/tenant/").unwrap();
        assert_eq!(first, "https://a.test/tenant/.well-known/openid-configuration");
        assert_eq!(second, "https://a.test/.well-known/oauth-authorization-server/tenant");
    }
}
