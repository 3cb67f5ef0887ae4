//! An outgoing request and its answer, as callers see them. Neither shows header values, bodies or query strings in its
//! `Debug` form: that is where secrets travel.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use domain::call::{CallFacts, RateLimit};
use domain::ids::{ConnectionId, WorkspaceId};
use http::Method;
use serde_json::{Map, Value};

use super::error::EgressError;
use super::identity::ClientIdentity;

/// On whose behalf a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// Workspaces take turns at a busy host.
    pub workspace: Option<WorkspaceId>,
    /// Whose call it is: with it, circuit breaker and the API's own limit apply.
    pub connection: Option<ConnectionId>,
    /// The same of a connector's call, which has no connection: its instance's id, else its credential's.
    pub connector: Option<uuid::Uuid>,
    /// A person asks just now: it goes out although the breaker is open or nothing is left of the limit.
    pub asked: bool,
}

impl Scope {
    /// Whose limit it is. Ids are unique over all nouns, so that one map serves both.
    pub(super) fn holder(&self) -> Option<ConnectionId> {
        self.connection.or(self.connector.map(ConnectionId))
    }
}

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
    pub scope: Scope,
    /// How often the client itself repeats a safe request (GET, HEAD) that failed for the moment. Default 0: who has a
    /// retry policy of its own wants to know at once.
    pub retries: usize,
    /// The origins that may be called, by this request and by whatever it is redirected to. `None`: every one that the
    /// policy lets through.
    pub origins: Option<Vec<String>>,
    /// A credential stands in the URL itself: no redirect to another scheme, host or port is followed.
    pub credential_in_url: bool,
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
            scope: Scope::default(),
            retries: 0,
            origins: None,
            credential_in_url: false,
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

    /// Says that the URL holds a credential: it goes nowhere else with it.
    pub fn credential_in_url(mut self) -> Self {
        self.credential_in_url = true;
        self
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

    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    pub fn origins(mut self, origins: Option<Vec<String>>) -> Self {
        self.origins = origins;
        self
    }

    /// Whether `origins` let a URL through. Both sides are read by the parser that decides where a request goes.
    pub(super) fn may_call(&self, url: &url::Url) -> bool {
        let same = |origin: &String| url::Url::parse(origin).is_ok_and(|allowed| allowed.origin() == url.origin());
        self.origins.as_ref().is_none_or(|origins| origins.iter().any(same))
    }

    pub fn retries(mut self, retries: usize) -> Self {
        self.retries = retries;
        self
    }

    /// What is recorded of this request before anything has come of it.
    pub fn facts(&self) -> CallFacts {
        let url = url::Url::parse(&self.url).ok();
        let host = |url: &url::Url| match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        CallFacts {
            connection_id: self.scope.connection,
            method: self.method.to_string(),
            host: url.as_ref().map(host).unwrap_or_default(),
            path: url.as_ref().map(|url| url.path().to_owned()).unwrap_or_default(),
            status: None,
            duration_ms: 0,
            request_bytes: self.body.as_ref().map_or(0, |body| body.len() as u64),
            response_bytes: 0,
            attempts: 0,
            redirects: 0,
            rate_limit: None,
        }
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
            .field("scope", &self.scope)
            .field("retries", &self.retries)
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
    /// From the call to the last byte, waiting included.
    pub elapsed: Duration,
    /// Redirects that were followed.
    pub redirects: u32,
    /// Times that the client sent it.
    pub attempts: u32,
    /// `Retry-After`, in seconds or as a date.
    pub retry_after: Option<Duration>,
    /// What the API said of its own limit.
    pub rate_limit: Option<RateLimit>,
}

impl OutboundResponse {
    /// The first header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl OutboundResponse {
    /// The body as expressions see it: JSON as a value, everything else as text, nothing as null.
    pub fn decoded(&self) -> Value {
        let json_said = self.header("content-type").is_some_and(|kind| kind.contains("json"));
        let first = self.body.iter().find(|byte| !byte.is_ascii_whitespace());
        let looks = matches!(first, Some(b'{' | b'['));
        let parsed = (json_said || looks).then(|| serde_json::from_slice::<Value>(&self.body).ok()).flatten();
        match parsed {
            Some(value) => value,
            None if self.body.is_empty() => Value::Null,
            None => Value::String(String::from_utf8_lossy(&self.body).into_owned()),
        }
    }

    /// Headers by lower-case name, without cookies.
    pub fn shown_headers(&self) -> Map<String, Value> {
        let lower = self.headers.iter().map(|(name, text)| (name.to_ascii_lowercase(), Value::String(text.clone())));
        lower.filter(|(name, _)| name != "set-cookie").collect()
    }

    /// Completes what is recorded of the call.
    pub fn complete(&self, facts: CallFacts) -> CallFacts {
        CallFacts {
            status: Some(self.status),
            duration_ms: millis(self.elapsed),
            response_bytes: self.body.len() as u64,
            attempts: self.attempts,
            redirects: self.redirects,
            rate_limit: self.rate_limit.clone(),
            ..facts
        }
    }
}

impl EgressError {
    /// Completes what is recorded of a call that gave no answer.
    pub fn complete(&self, facts: CallFacts, elapsed: Duration) -> CallFacts {
        CallFacts { duration_ms: millis(elapsed), attempts: u32::from(self.was_tried()), ..facts }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
