//! One hop of a request, and the pure decision what the next hop is when the server redirects.
//!
//! Methods change as in the WHATWG Fetch standard. Credentials stay with the scheme, host and port they were given for.

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use super::error::EgressError;
use super::identity::ClientIdentity;
use super::policy::{check_text, host_of, invalid};
use super::request::OutboundRequest;

/// What the client writes itself. A caller's value could make one message look like two, or address another host.
const FRAMING: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "proxy-connection",
    "proxy-authorization",
    "http2-settings",
];

/// Headers that describe a body; they go when the body goes.
const OF_BODY: [&str; 5] =
    ["content-type", "content-encoding", "content-language", "content-location", "content-disposition"];

/// One exchange: what is sent where.
#[derive(Clone)]
pub(super) struct Hop {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    /// Headers that belong to the first host alone.
    credentials: Vec<HeaderName>,
    /// Belongs to the first host alone, too.
    pub identity: Option<ClientIdentity>,
    /// The URL holds a credential, and a server that redirects likes to hand on path and query as they came.
    bound_to_origin: bool,
}

impl Hop {
    /// The first hop. `url` has passed the policy. The error names every wrong header at once.
    pub(super) fn first(request: &OutboundRequest, url: Url) -> Result<Self, EgressError> {
        let mut faults = Vec::new();
        let mut headers = HeaderMap::with_capacity(request.headers.len());
        if request.method == Method::CONNECT || request.method == Method::TRACE {
            faults.push(format!("method {} is not sent", request.method));
        }
        for (name, value) in &request.headers {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes())) {
                (Err(_), _) => faults.push(format!("{name:?} is not a header name")),
                (Ok(name), _) if FRAMING.contains(&name.as_str()) => {
                    faults.push(format!("header `{name}` is set by the client itself"));
                }
                (Ok(name), Err(_)) => faults.push(format!("header `{name}` has a value with control characters")),
                (Ok(name), Ok(value)) => _ = headers.append(name, value),
            }
        }
        let mut credentials = vec![AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
        for name in &request.sensitive_headers {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => credentials.push(name),
                Err(_) => faults.push(format!("{name:?} is not a header name")),
            }
        }
        if !faults.is_empty() {
            return Err(EgressError::InvalidRequest { reason: faults.join("; ") });
        }
        for name in &credentials {
            if let http::header::Entry::Occupied(mut values) = headers.entry(name) {
                values.iter_mut().for_each(|value| value.set_sensitive(true));
            }
        }
        let identity = request.identity.clone();
        if identity.is_some() && url.scheme() != "https" {
            return Err(EgressError::InvalidRequest { reason: "a client certificate needs https".into() });
        }
        let (method, body) = (request.method.clone(), request.body.clone());
        Ok(Self { method, url, headers, body, credentials, identity, bound_to_origin: request.credential_in_url })
    }

    /// The next hop for an answer with this status and `Location`; `None` if it is no redirect. Whether the target may
    /// be called is for the policy to say.
    pub(super) fn next(&self, status: u16, location: Option<&HeaderValue>) -> Result<Option<Self>, EgressError> {
        let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, location) else {
            return Ok(None);
        };
        let location = std::str::from_utf8(location.as_bytes()).map_err(|_| invalid("`Location` is not UTF-8"))?;
        check_text(location)?;
        let url = self.url.join(location).map_err(|error| invalid(&error.to_string()))?;
        let mut next = Self { url, ..self.clone() };
        if self.url.scheme() == "https" && next.url.scheme() == "http" {
            return Err(refused(&next.url, "it leads from https to http"));
        }
        let to_get = match status {
            301 | 302 => self.method == Method::POST,
            303 => self.method != Method::GET && self.method != Method::HEAD,
            _ => false,
        };
        if to_get {
            next.method = Method::GET;
            next.body = None;
            OF_BODY.iter().for_each(|name| _ = next.headers.remove(*name));
        }
        if self.url.origin() != next.url.origin() {
            if self.bound_to_origin {
                return Err(refused(&next.url, "it leads to another host, and the address holds a credential"));
            }
            let in_headers = self.credentials.iter().any(|name| next.headers.contains_key(name));
            let shown_in_handshake = next.identity.take().is_some();
            let had_credentials = in_headers || shown_in_handshake;
            if had_credentials && next.body.is_some() {
                return Err(refused(&next.url, "it would hand the body of an authenticated request to another host"));
            }
            self.credentials.iter().for_each(|name| while next.headers.remove(name).is_some() {});
        }
        Ok(Some(next))
    }
}

fn refused(url: &Url, reason: &'static str) -> EgressError {
    EgressError::RedirectRefused { host: host_of(url), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(method: Method, url: &str, credentialed: bool) -> Hop {
        let mut request = OutboundRequest::new(method, url).header("Content-Type", "text/plain").body("hello");
        if credentialed {
            request =
                request.sensitive_header("X-Key", "k").header("Cookie", "a=b").header("Authorization", "Bearer t");
        }
        Hop::first(&request, Url::parse(url).unwrap()).unwrap()
    }

    fn next(hop: &Hop, status: u16, location: &str) -> Result<Option<Hop>, EgressError> {
        hop.next(status, Some(&HeaderValue::from_bytes(location.as_bytes()).unwrap()))
    }

    #[test]
    fn methods_change_as_browsers_do() {
        for (status, method, expected) in [
            (301, Method::POST, Method::GET),
            (302, Method::POST, Method::GET),
            (303, Method::POST, Method::GET),
            (303, Method::PUT, Method::GET),
            (303, Method::DELETE, Method::GET),
            (303, Method::HEAD, Method::HEAD),
            (301, Method::PUT, Method::PUT),
            (307, Method::POST, Method::POST),
            (308, Method::PATCH, Method::PATCH),
        ] {
            let after = next(&hop(method.clone(), "http://a.example/x", false), status, "/y").unwrap().unwrap();
            assert_eq!(after.method, expected, "{status} {method}");
            assert_eq!(after.body.is_some(), method == expected, "{status} {method}");
            assert_eq!(after.headers.contains_key("content-type"), method == expected, "{status} {method}");
            assert_eq!(after.url.as_str(), "http://a.example/y");
        }
    }

    #[test]
    fn other_statuses_and_missing_locations_are_answers() {
        let first = hop(Method::GET, "http://a.example/x", false);
        for status in [200, 201, 300, 304, 305, 306, 399, 404] {
            assert!(next(&first, status, "/y").unwrap().is_none(), "{status}");
        }
        assert!(first.next(302, None).unwrap().is_none());
    }

    #[test]
    fn credentials_stay_with_scheme_host_and_port() {
        let first = hop(Method::POST, "http://a.example/x", true);
        let kept = next(&first, 303, "http://a.example:80/z").unwrap().unwrap();
        assert_eq!(kept.headers.len(), 3);
        for elsewhere in ["https://a.example/", "http://a.example:81/", "http://b.example/", "//sub.a.example/"] {
            let after = next(&first, 303, elsewhere).unwrap().unwrap();
            assert!(after.headers.is_empty(), "{elsewhere}: {:?}", after.headers.keys().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_credentialed_body_goes_nowhere_else() {
        let first = hop(Method::POST, "https://a.example/x", true);
        assert!(matches!(next(&first, 307, "https://b.example/"), Err(EgressError::RedirectRefused { .. })));
        assert!(next(&first, 307, "/same").unwrap().unwrap().body.is_some());
        let open = hop(Method::POST, "https://a.example/x", false);
        assert!(next(&open, 308, "https://b.example/").unwrap().unwrap().body.is_some());
    }

    #[test]
    fn a_credential_in_the_url_goes_nowhere_else() {
        let url = "https://a.example/x?key=s3cret";
        let first = Hop::first(&OutboundRequest::get(url).credential_in_url(), Url::parse(url).unwrap()).unwrap();
        for elsewhere in ["https://b.example/x?key=s3cret", "https://a.example:81/", "//sub.a.example/x?key=s3cret"] {
            let refused = next(&first, 302, elsewhere).err();
            assert!(matches!(refused, Some(EgressError::RedirectRefused { .. })), "{elsewhere}: {refused:?}");
        }
        let same = next(&first, 302, "/y?key=s3cret").unwrap().unwrap();
        assert!(next(&same, 302, "https://b.example/").is_err(), "nor after a hop at home");
    }

    #[test]
    fn no_way_down_from_https() {
        let first = hop(Method::GET, "https://a.example/x", false);
        assert_eq!(
            next(&first, 301, "http://a.example/x").err(),
            Some(EgressError::RedirectRefused { host: "a.example".into(), reason: "it leads from https to http" })
        );
    }

    #[test]
    fn locations_that_parsers_disagree_about_are_refused() {
        let first = hop(Method::GET, "http://a.example/x", false);
        for location in
            ["\\\\b.example", "http://b.example\\@c.example/", "http://\tb.example", "http://[::1", "http://\u{7f}"]
        {
            let Ok(value) = HeaderValue::from_bytes(location.as_bytes()) else { continue };
            assert!(matches!(first.next(302, Some(&value)), Err(EgressError::InvalidUrl { .. })), "{location:?}");
        }
        let latin = HeaderValue::from_bytes(b"/caf\xe9").unwrap();
        assert!(matches!(first.next(302, Some(&latin)), Err(EgressError::InvalidUrl { .. })));
    }

    #[test]
    fn every_wrong_header_is_named_at_once() {
        let request = OutboundRequest::get("http://a.example/")
            .header("Host", "b.example")
            .header("x y", "1")
            .header("X-Split", "a\r\nX-Evil: 1")
            .header("Transfer-Encoding", "chunked");
        let Err(EgressError::InvalidRequest { reason }) =
            Hop::first(&request, Url::parse("http://a.example/").unwrap())
        else {
            panic!("must be refused");
        };
        for part in ["`host`", "\"x y\"", "`x-split`", "`transfer-encoding`"] {
            assert!(reason.contains(part), "{part} in {reason}");
        }
        assert!(!reason.contains("Evil"));
    }
}
