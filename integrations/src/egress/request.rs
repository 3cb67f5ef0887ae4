//! An outgoing request and its answer, as callers see them. Neither shows header values, bodies or query strings in its
//! `Debug` form: that is where secrets travel.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::identity::ClientIdentity;

/// A request to the outside. Build it with [`OutboundRequest::new`]; every field may be set.
#[derive(Clone)]
pub struct OutboundRequest {
    pub method: Method,
    /// Absolute `http` or `https` URL without user name and password.
    pub url: String,
    /// Names and values in the order they are sent. What frames the message (`Host`, `Content-Length`,
    /// `Transfer-Encoding`, `Connection` …) is the client's own and refused here.
    pub headers: Vec<(String, String)>,
    pub body: Option<Bytes>,
    /// Limit for everything: name, connections, redirects, the whole answer. Default 30 s.
    pub timeout: Duration,
    /// Largest answer that is read, in bytes after decompression. Default 10 MiB.
    pub max_response_bytes: u64,
    /// Default true. If false, a redirect is an answer like any other.
    pub follow_redirects: bool,
    /// Names of headers (beside `Authorization`, `Proxy-Authorization` and `Cookie`) that must not be sent to another
    /// scheme, host or port after a redirect: wherever a credential travels in a header of its own, name it here.
    pub sensitive_headers: Vec<String>,
    /// Shown in the TLS handshake; stays with the first scheme, host and port, as credentials in headers do.
    pub identity: Option<ClientIdentity>,
}

impl OutboundRequest {
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: None,
            timeout: Duration::from_secs(30),
            max_response_bytes: 10 * 1024 * 1024,
            follow_redirects: true,
            sensitive_headers: Vec::new(),
            identity: None,
        }
    }

    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url)
    }

    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A header that carries a credential: sent like any other, but not to where a redirect leads.
    pub fn sensitive_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.sensitive_headers.push(name.clone());
        self.header(name, value)
    }

    pub fn identity(mut self, identity: ClientIdentity) -> Self {
        self.identity = Some(identity);
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub fn max_response_bytes(mut self, bytes: u64) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    pub fn follow_redirects(mut self, follow: bool) -> Self {
        self.follow_redirects = follow;
        self
    }
}

impl fmt::Debug for OutboundRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundRequest")
            .field("method", &self.method)
            .field("url", &without_secrets(&self.url))
            .field("headers", &names(&self.headers))
            .field("body_bytes", &self.body.as_ref().map(Bytes::len))
            .field("timeout", &self.timeout)
            .field("max_response_bytes", &self.max_response_bytes)
            .field("follow_redirects", &self.follow_redirects)
            .field("sensitive_headers", &self.sensitive_headers)
            .field("identity", &self.identity)
            .finish()
    }
}

/// The answer of a server. Any status is an answer.
#[derive(Clone)]
pub struct OutboundResponse {
    pub status: u16,
    /// Lower-case names; a value that is not UTF-8 has its bad bytes replaced.
    pub headers: Vec<(String, String)>,
    /// Decompressed.
    pub body: Bytes,
    /// Where the answer came from, after redirects. Holds the query string: not for logs.
    pub final_url: String,
    /// From the call to the last byte.
    pub elapsed: Duration,
}

impl OutboundResponse {
    /// The first header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for OutboundResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundResponse")
            .field("status", &self.status)
            .field("headers", &names(&self.headers))
            .field("body_bytes", &self.body.len())
            .field("final_url", &without_secrets(&self.final_url))
            .field("elapsed", &self.elapsed)
            .finish()
    }
}

fn names(headers: &[(String, String)]) -> Vec<&str> {
    headers.iter().map(|(name, _)| name.as_str()).collect()
}

/// A URL for people's eyes: scheme, host, port and path. Of what cannot be parsed nothing is shown.
fn without_secrets(raw: &str) -> String {
    match url::Url::parse(raw) {
        Ok(url) if url.has_host() => format!("{}{}", url.origin().ascii_serialization(), url.path()),
        Ok(_) | Err(_) => "(not a URL)".to_owned(),
    }
}
