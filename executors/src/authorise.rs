//! Puts a credential on a request: the only place where plaintext meets a request.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    call::without_secret,
    connection::{AuthScheme, Certificate, HeaderTemplate, Part, template},
    ids::CredentialId,
    operation::ParameterLocation,
};
use integrations::egress::{ClientIdentity, OutboundRequest};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// A value of the vault, with the version it is of.
pub(crate) struct Opened {
    pub credential: CredentialId,
    pub version: i32,
    pub value: SecretString,
}

/// Why a credential cannot be put on a request, in words without a value.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("The stored credential was made for another authType: store it again.")]
    OtherShape,
    #[error("The credential does not fit: {0}. Store it again.")]
    Missing(String),
    #[error("A client certificate is shown in a TLS handshake only: the base URL must be https.")]
    NeedsTls,
}

/// Adds each part's header, query parameter, cookie or client certificate.
pub(crate) fn authorise(
    mut request: OutboundRequest,
    parts: &[Part],
    opened: &Opened,
) -> Result<OutboundRequest, Unusable> {
    let whole = opened.value.expose_secret();
    // Some APIs take the key in the path, and their users write it there.
    if without_secret(&request.url, whole) != request.url {
        request = request.credential_in_url();
    }
    let mut several: Option<BTreeMap<String, String>> = None;
    for part in parts {
        request = match &part.slot {
            None => put(request, &part.auth, whole, opened)?,
            Some(slot) => {
                let values = match &mut several {
                    Some(values) => values,
                    empty => empty.insert(named(whole)?),
                };
                let value = values.get(slot).ok_or_else(|| Unusable::Missing(format!("it has no value for {slot}")))?;
                put(request, &part.auth, value, opened)?
            }
        };
    }
    Ok(request)
}

fn put(
    mut request: OutboundRequest,
    auth: &AuthScheme,
    value: &str,
    opened: &Opened,
) -> Result<OutboundRequest, Unusable> {
    Ok(match auth {
        AuthScheme::None => request,
        AuthScheme::Bearer => request.sensitive_header("Authorization", format!("Bearer {value}")),
        AuthScheme::Basic => request.sensitive_header("Authorization", format!("Basic {}", STANDARD.encode(value))),
        AuthScheme::ApiKey { location: ParameterLocation::Query, name } => {
            if let Ok(mut url) = Url::parse(&request.url) {
                url.query_pairs_mut().append_pair(name, value);
                request.url = url.into();
            }
            request.credential_in_url()
        }
        AuthScheme::ApiKey { location: ParameterLocation::Cookie, name } => add_cookie(request, name, value),
        AuthScheme::ApiKey { name, .. } => request.sensitive_header(name.as_str(), value.to_owned()),
        AuthScheme::Mtls => identify(request, value, opened)?,
        AuthScheme::Custom { headers } => fill(request, headers, value)?,
        // Each of theirs is a part of its own, or not decided.
        AuthScheme::ApiKeys { .. }
        | AuthScheme::Document { .. }
        | AuthScheme::Oauth2 { .. }
        | AuthScheme::FromDocument { .. } => return Err(Unusable::OtherShape),
    })
}

fn named(whole: &str) -> Result<BTreeMap<String, String>, Unusable> {
    serde_json::from_str(whole).map_err(|_| Unusable::OtherShape)
}

fn fill(mut request: OutboundRequest, headers: &[HeaderTemplate], value: &str) -> Result<OutboundRequest, Unusable> {
    let secrets = named(value)?;
    for header in headers {
        let filled = template::fill(&header.template, &secrets).map_err(Unusable::Missing)?;
        // The template's word counts, not the step's.
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(&header.name));
        request = request.sensitive_header(header.name.as_str(), filled);
    }
    Ok(request)
}

fn identify(request: OutboundRequest, value: &str, opened: &Opened) -> Result<OutboundRequest, Unusable> {
    if !request.url.starts_with("https://") {
        return Err(Unusable::NeedsTls);
    }
    let Certificate { certificate, private_key } = serde_json::from_str(value).map_err(|_| Unusable::OtherShape)?;
    let key = format!("{}/{}", opened.credential, opened.version);
    Ok(request.identity(ClientIdentity { key, certificate, private_key: private_key.into() }))
}

/// One `Cookie` header, however many cookies.
pub(crate) fn add_cookie(mut request: OutboundRequest, name: &str, value: &str) -> OutboundRequest {
    let pair = format!("{name}={value}");
    match request.headers.iter_mut().find(|(header, _)| header.eq_ignore_ascii_case("cookie")) {
        Some((_, cookies)) => {
            cookies.push_str("; ");
            cookies.push_str(&pair);
            request
        }
        None => request.sensitive_header("Cookie", pair),
    }
}

#[cfg(test)]
mod tests {
    use domain::connection::KeyPlace;

    use super::*;

    fn header<'a>(request: &'a OutboundRequest, name: &str) -> Option<&'a str> {
        request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    fn sent(request: OutboundRequest, auth: &AuthScheme, secret: &str) -> Result<OutboundRequest, Unusable> {
        let value = SecretString::from(secret.to_owned());
        authorise(request, &auth.parts(), &Opened { credential: CredentialId::default(), version: 3, value })
    }

    fn key(location: ParameterLocation) -> AuthScheme {
        AuthScheme::ApiKey { location, name: "k".into() }
    }

    #[test]
    fn each_scheme_travels_where_it_belongs() {
        let request = || OutboundRequest::get("https://api.test/x?a=1");
        let of = |auth: AuthScheme| sent(request(), &auth, "s3 &").unwrap();
        assert_eq!(header(&of(AuthScheme::Bearer), "authorization"), Some("Bearer s3 &"));
        assert_eq!(of(key(ParameterLocation::Query)).url, "https://api.test/x?a=1&k=s3+%26");
        assert!(of(key(ParameterLocation::Query)).credential_in_url && !of(AuthScheme::Bearer).credential_in_url);
        let in_path =
            sent(OutboundRequest::get("https://api.test/bot12%3Aab/x"), &AuthScheme::Bearer, "12:ab").unwrap();
        assert!(in_path.credential_in_url, "no redirect takes it elsewhere");
        assert_eq!(header(&of(key(ParameterLocation::Header)), "k"), Some("s3 &"));
        let with_cookie = sent(add_cookie(request(), "a", "b"), &key(ParameterLocation::Cookie), "s3 &").unwrap();
        assert_eq!(header(&with_cookie, "cookie"), Some("a=b; k=s3 &"));
        let basic = sent(request(), &AuthScheme::Basic, "u:p").unwrap();
        assert_eq!(header(&basic, "authorization"), Some("Basic dTpw"));
    }

    #[test]
    fn several_keys_travel_together() {
        let place = |location, name: &str| KeyPlace { location, name: name.into() };
        let keys = vec![
            place(ParameterLocation::Header, "X-App"),
            place(ParameterLocation::Query, "key"),
            place(ParameterLocation::Cookie, "sid"),
        ];
        let auth = AuthScheme::ApiKeys { keys };
        let request = || OutboundRequest::get("https://api.test/x");
        let all = sent(request(), &auth, r#"{"header x-app":"one","query key":"two","cookie sid":"three"}"#).unwrap();
        assert_eq!(header(&all, "x-app"), Some("one"));
        assert_eq!(all.url, "https://api.test/x?key=two");
        assert_eq!(header(&all, "cookie"), Some("sid=three"));
        assert!(all.sensitive_headers.contains(&"X-App".to_owned()));
        let short = sent(request(), &auth, r#"{"header x-app":"one"}"#).unwrap_err();
        assert_eq!(short.to_string(), "The credential does not fit: it has no value for query key. Store it again.");
        assert_eq!(sent(request(), &auth, "one").unwrap_err(), Unusable::OtherShape);
    }

    #[test]
    fn templates_are_filled_and_count_more_than_the_steps_headers() {
        let headers =
            vec![HeaderTemplate { name: "X-Auth".into(), template: "id={{ secret.ID }};k={{ secret.K }}".into() }];
        let auth = AuthScheme::Custom { headers };
        let request = || OutboundRequest::get("https://api.test/x").header("x-auth", "of the step");
        let filled = sent(request(), &auth, r#"{"ID":"7","K":"{{ secret.ID }}"}"#).unwrap();
        assert_eq!(filled.headers, [("X-Auth".to_owned(), "id=7;k={{ secret.ID }}".to_owned())]);
        assert!(filled.sensitive_headers.contains(&"X-Auth".to_owned()));
        let short = sent(request(), &auth, r#"{"ID":"7"}"#).unwrap_err();
        assert!(short.to_string().contains("secret.K") && !short.to_string().contains('7'), "{short}");
    }

    #[test]
    fn a_certificate_is_shown_over_tls_only() {
        let pair = r#"{"certificate":"C","privateKey":"K"}"#;
        let shown = sent(OutboundRequest::get("https://api.test/"), &AuthScheme::Mtls, pair).unwrap();
        let identity = shown.identity.unwrap();
        assert!(identity.key.ends_with("/3") && identity.certificate == "C");
        let plain = sent(OutboundRequest::get("http://api.test/"), &AuthScheme::Mtls, pair);
        assert_eq!(plain.unwrap_err(), Unusable::NeedsTls);
        let other = sent(OutboundRequest::get("https://api.test/"), &AuthScheme::Mtls, "token");
        assert_eq!(other.unwrap_err(), Unusable::OtherShape);
    }
}
