//! The one HTTP client: every request to the outside goes through here (spec fetches, workflow calls, webhooks).
//!
//! It cannot be talked into calling inside. For every hop: the URL's text, scheme, host and port are checked; literal
//! addresses are checked as parsed; names are resolved once, every address is checked, and only the checked addresses
//! are connected ([`resolve`]). Redirects are followed by hand so that each target passes the same checks, and
//! credentials stay with the host they were given for ([`redirect`]). Proxies from the environment are ignored.
//! Answers are bounded in size (after decompression) and in time.

mod address;
mod error;
mod identity;
mod policy;
mod redirect;
mod request;
mod resolve;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::LOCATION;
use http::{Method, StatusCode};
use tokio::time::{Instant, timeout_at};

pub use error::EgressError;
pub use identity::{ClientIdentity, IdentityFacts, IdentityFault, inspect};
pub use policy::EgressPolicy;
pub use request::{OutboundRequest, OutboundResponse};

use identity::Clients;
use policy::host_of;
use redirect::Hop;
use resolve::{Lookup, PinnedResolver};

/// How long a connection is kept for the next request to the same host.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// The guarded HTTP client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Egress {
    inner: Arc<Inner>,
}

struct Inner {
    policy: EgressPolicy,
    client: reqwest::Client,
    /// Clients with a certificate of their own.
    clients: Clients,
    /// Trusted besides the system's roots; only tests have any.
    roots: Vec<reqwest::Certificate>,
    lookup: Lookup,
}

/// What all hops of one request share.
struct Budget {
    deadline: Instant,
    timeout: Duration,
    max_bytes: u64,
}

impl Budget {
    fn timed_out(&self, host: &str, sent: bool) -> EgressError {
        EgressError::Timeout { host: host.to_owned(), after: self.timeout, sent }
    }
}

impl Egress {
    /// Fails if no TLS root certificates are found on this machine.
    pub fn new(policy: EgressPolicy) -> Result<Self, EgressError> {
        Self::with_lookup(policy, Lookup::System, Vec::new())
    }

    fn with_lookup(
        policy: EgressPolicy,
        lookup: Lookup,
        roots: Vec<reqwest::Certificate>,
    ) -> Result<Self, EgressError> {
        // The client panics where the process has no crypto provider. An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = build_client(policy.connect_timeout, &roots, None)?;
        Ok(Self { inner: Arc::new(Inner { policy, client, clients: Clients::new(), roots, lookup }) })
    }

    /// The policy in force, for example to check a URL when a user gives it.
    pub fn policy(&self) -> &EgressPolicy {
        &self.inner.policy
    }

    /// Sends one request and reads the whole answer. Every HTTP status is an `Ok`.
    pub async fn send(&self, request: OutboundRequest) -> Result<OutboundResponse, EgressError> {
        let started = Instant::now();
        let budget = Budget {
            deadline: started + request.timeout,
            timeout: request.timeout,
            max_bytes: request.max_response_bytes,
        };
        let url = self.inner.policy.check_url(&request.url)?;
        let mut hop = Hop::first(&request, url)?;
        let mut redirects = 0;
        loop {
            let answer = self.exchange(&hop, &budget).await;
            let answer = answer.map_err(|error| if redirects > 0 { error.after_redirect() } else { error })?;
            let next = match request.follow_redirects {
                true => hop.next(answer.status().as_u16(), answer.headers().get(LOCATION))?,
                false => None,
            };
            let Some(next) = next else {
                return finish(&hop, answer, &budget, started).await;
            };
            if redirects == self.inner.policy.max_redirects {
                return Err(EgressError::TooManyRedirects { limit: redirects });
            }
            redirects += 1;
            hop = next;
        }
    }

    /// One hop up to the answer's headers: check, resolve, check, connect, send.
    async fn exchange(&self, hop: &Hop, budget: &Budget) -> Result<reqwest::Response, EgressError> {
        let host = host_of(&hop.url);
        let Inner { policy, lookup, .. } = &*self.inner;
        let pin = timeout_at(budget.deadline, lookup.pin(policy, &hop.url))
            .await
            .map_err(|_| budget.timed_out(&host, false))??;
        let client = self.client(hop)?;
        let mut request = client.request(hop.method.clone(), hop.url.clone()).headers(hop.headers.clone());
        if let Some(body) = &hop.body {
            request = request.body(body.clone());
        }
        match timeout_at(budget.deadline, pin.during(request.send())).await {
            // Nothing tells whether the connection stood by then, so the request counts as sent.
            Err(_) => Err(budget.timed_out(&host, true)),
            Ok(Err(error)) => Err(EgressError::from_client(&error, &host, budget.timeout)),
            Ok(Ok(answer)) => Ok(answer),
        }
    }
}

impl Egress {
    /// Connections are not shared between identities.
    fn client(&self, hop: &Hop) -> Result<reqwest::Client, EgressError> {
        let Inner { policy, client, clients, roots, .. } = &*self.inner;
        match &hop.identity {
            Some(identity) => clients.of(identity, |with| build_client(policy.connect_timeout, roots, Some(with))),
            None => Ok(client.clone()),
        }
    }
}

// The one place where a bare client is made.
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the guarded client")]
fn build_client(
    connect_timeout: Duration,
    roots: &[reqwest::Certificate],
    identity: Option<reqwest::Identity>,
) -> Result<reqwest::Client, EgressError> {
    let mut builder = reqwest::Client::builder();
    if let Some(identity) = identity {
        builder = builder.identity(identity);
    }
    builder
        .tls_certs_merge(roots.iter().cloned())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_CONNECTION)
        .user_agent(concat!("apiq/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(PinnedResolver)
        .build()
        .map_err(|error| EgressError::Client {
            reason: std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
        })
}

/// Reads the last hop's answer to its end.
async fn finish(
    hop: &Hop,
    answer: reqwest::Response,
    budget: &Budget,
    started: Instant,
) -> Result<OutboundResponse, EgressError> {
    let status = answer.status();
    let headers = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let bodyless = hop.method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if bodyless { Bytes::new() } else { read_body(&host_of(&hop.url), answer, budget).await? };
    Ok(OutboundResponse {
        status: status.as_u16(),
        headers,
        body,
        final_url: hop.url.to_string(),
        elapsed: started.elapsed(),
    })
}

/// The body, no more than allowed: checked while it arrives, so that a small compressed answer cannot grow in memory.
async fn read_body(host: &str, mut answer: reqwest::Response, budget: &Budget) -> Result<Bytes, EgressError> {
    let too_large = || EgressError::ResponseTooLarge { limit: budget.max_bytes };
    if answer.content_length().is_some_and(|length| length > budget.max_bytes) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    loop {
        match timeout_at(budget.deadline, answer.chunk()).await {
            Err(_) => return Err(budget.timed_out(host, true)),
            Ok(Err(error)) => return Err(EgressError::from_client(&error, host, budget.timeout)),
            Ok(Ok(None)) => return Ok(body.freeze()),
            Ok(Ok(Some(chunk))) if (body.len() + chunk.len()) as u64 > budget.max_bytes => return Err(too_large()),
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
        }
    }
}
