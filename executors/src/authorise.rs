//! Puts a credential on a request: the only place where plaintext meets a request.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{connection::AuthScheme, operation::ParameterLocation};
use integrations::egress::OutboundRequest;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// Adds the header, query parameter or cookie that the scheme asks for.
pub(crate) fn authorise(mut request: OutboundRequest, auth: &AuthScheme, secret: &SecretString) -> OutboundRequest {
    let value = secret.expose_secret();
    match auth {
        AuthScheme::None => request,
        AuthScheme::Bearer => request.sensitive_header("Authorization", format!("Bearer {value}")),
        AuthScheme::Basic => request.sensitive_header("Authorization", format!("Basic {}", STANDARD.encode(value))),
        AuthScheme::ApiKey { location: ParameterLocation::Query, name } => {
            if let Ok(mut url) = Url::parse(&request.url) {
                url.query_pairs_mut().append_pair(name, value);
                request.url = url.into();
            }
            request
        }
        AuthScheme::ApiKey { location: ParameterLocation::Cookie, name } => add_cookie(request, name, value),
        AuthScheme::ApiKey { name, .. } => request.sensitive_header(name.as_str(), value.to_owned()),
    }
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

/// Scheme, host and port: what a credential is bound to.
pub(crate) fn same_origin(a: &str, b: &str) -> bool {
    match (Url::parse(a), Url::parse(b)) {
        (Ok(a), Ok(b)) => a.origin() == b.origin(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(request: &'a OutboundRequest, name: &str) -> Option<&'a str> {
        request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    #[test]
    fn each_scheme_travels_where_it_belongs() {
        let request = || OutboundRequest::get("https://api.test/x?a=1");
        let secret = SecretString::from("s3 &".to_owned());
        let key = |location| AuthScheme::ApiKey { location, name: "k".into() };
        assert_eq!(header(&authorise(request(), &AuthScheme::Bearer, &secret), "authorization"), Some("Bearer s3 &"));
        assert_eq!(
            authorise(request(), &key(ParameterLocation::Query), &secret).url,
            "https://api.test/x?a=1&k=s3+%26"
        );
        assert_eq!(header(&authorise(request(), &key(ParameterLocation::Header), &secret), "k"), Some("s3 &"));
        let with_cookie = add_cookie(request(), "a", "b");
        assert_eq!(
            header(&authorise(with_cookie, &key(ParameterLocation::Cookie), &secret), "cookie"),
            Some("a=b; k=s3 &")
        );
        let basic = authorise(request(), &AuthScheme::Basic, &"u:p".to_owned().into());
        assert_eq!(header(&basic, "authorization"), Some("Basic dTpw"));
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        assert!(same_origin("https://a.test/x", "https://A.test:443/y"));
        assert!(!same_origin("https://a.test", "http://a.test"));
        assert!(!same_origin("https://a.test", "https://a.test:8443"));
        assert!(!same_origin("https://a.test", "https://a.test.evil.test"));
    }
}
