//! The one HTTP client: every request to the outside goes through here (spec fetches, workflow calls, webhooks).
//!
//! It cannot be talked into calling inside. For every hop: the URL's text, scheme, host and port are checked; literal
//! addresses are checked as parsed; names are resolved once, every address is checked, and only the checked addresses
//! are connected ([`resolve`]). Redirects are followed by hand so that each target passes the same checks, and
//! credentials stay with the host they were given for ([`redirect`]). Proxies from the environment are ignored.
//! Answers are bounded in size (after decompression) and in time.
//!
//! It does not overrun anybody either. Requests take turns at a host ([`gate`]), a host that keeps failing is left alone
//! for a while ([`breaker`]), and what an API says of its own limit is kept to ([`quota`]).

mod address;
mod breaker;
mod dial;
mod error;
mod gate;
mod identity;
mod inspect;
#[cfg(test)]
mod limit_tests;
mod policy;
mod quota;
mod redirect;
mod request;
mod resolve;
mod retry;
mod stats;
mod stream;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use http::header::LOCATION;
use tokio::time::{Instant, timeout_at};
use url::Url;

pub use dial::{Dialled, Held};
pub use error::{EgressError, TlsFault};
pub use identity::{ClientIdentity, IdentityFacts, IdentityFault, inspect};
pub use policy::EgressPolicy;
pub use request::{OutboundRequest, OutboundResponse, Scope};
pub use stats::EgressStats;
pub use stream::OutboundStream;

use breaker::Breakers;
use gate::{Gates, Place};
use identity::Clients;
use policy::{host_of, place_of};
use quota::Holds;
use redirect::Hop;
use resolve::{Lookup, PinnedResolver};
use retry::RetryBudget;
use stats::Counters;
use stream::Admission;

/// How long a connection is kept for the next request to the same host.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
/// A call that was held back needs time of its own afterwards; half of its limit at most.
const CALL_NEEDS: Duration = Duration::from_secs(5);

/// How long a host is looked up when that is only for a note.
const LOOK: Duration = Duration::from_secs(2);

/// The guarded HTTP client. Cheap to clone; clones share connections, places and what is known of hosts.
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
    gates: Arc<Gates>,
    breakers: Breakers,
    holds: Holds,
    retries: RetryBudget,
    counters: Counters,
}

/// What all hops and tries of one request share.
#[derive(Clone, Copy)]
struct Budget {
    started: Instant,
    deadline: Instant,
    timeout: Duration,
    max_bytes: u64,
}

impl Budget {
    fn of(request: &OutboundRequest) -> Self {
        let started = Instant::now();
        let (timeout, max_bytes) = (request.timeout, request.max_response_bytes);
        Self { started, deadline: started + timeout, timeout, max_bytes }
    }

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
        let gates = Gates::new(policy.per_host, policy.patience);
        let breakers = Breakers::new(policy.breaker_failures);
        let (clients, (holds, retries, counters)) = (Clients::new(), Default::default());
        let inner = Inner { policy, client, clients, roots, lookup, gates, breakers, holds, retries, counters };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The policy in force, for example to check a URL when a user gives it.
    pub fn policy(&self) -> &EgressPolicy {
        &self.inner.policy
    }

    /// Whether the URL's host is, or resolves to, an address that is not public; looked up for 2 seconds at most.
    pub async fn is_private(&self, url: &str) -> bool {
        let Ok(url) = self.inner.policy.check_url(url) else { return false };
        let looked_up = tokio::time::timeout(LOOK, self.inner.lookup.addresses(&url)).await;
        looked_up.is_ok_and(|found| found.iter().any(|address| !policy::is_public(address.ip())))
    }

    /// Counters since the start, and what is so now.
    pub fn stats(&self) -> EgressStats {
        let Inner { gates, breakers, counters, .. } = &*self.inner;
        counters.read(gates.under_way(), gates.waiting(), breakers.open())
    }

    /// Sends one request and reads the whole answer. Every HTTP status is an `Ok`.
    pub async fn send(&self, request: OutboundRequest) -> Result<OutboundResponse, EgressError> {
        let budget = Budget::of(&request);
        if request.retries == 0 {
            return self.once(&request, budget).await;
        }
        let host = Url::parse(&request.url).map(|url| place_of(&url)).unwrap_or_default();
        self.inner.retries.earn(&host);
        let mut pauses = retry::pauses(&request);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let result = self.once(&request, budget).await.map(|answer| OutboundResponse { attempts, ..answer });
            let Some(asked) = retry::again(&result) else { return result };
            let Some(pause) = pauses.next().map(|pause| pause.max(asked)) else { return result };
            if Instant::now() + pause >= budget.deadline || !self.inner.retries.spend(&host) {
                return result;
            }
            self.inner.counters.retried();
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends one request and gives the answer as soon as its head is here; the body is read from it within the same caps.
    /// It is tried once.
    pub async fn open(&self, request: &OutboundRequest) -> Result<OutboundStream, EgressError> {
        let opened = self.begin(request, Budget::of(request)).await;
        self.inner.counters.ended(opened.as_ref().map(|answer| answer.status));
        opened
    }

    async fn once(&self, request: &OutboundRequest, budget: Budget) -> Result<OutboundResponse, EgressError> {
        let result = match self.begin(request, budget).await {
            Ok(answer) => answer.whole().await,
            Err(error) => Err(error),
        };
        self.inner.counters.ended(result.as_ref().map(|answer| answer.status));
        result
    }

    /// One try up to the last hop's head.
    async fn begin(&self, request: &OutboundRequest, budget: Budget) -> Result<OutboundStream, EgressError> {
        let url = self.inner.policy.check_url(&request.url)?;
        let hop = Hop::first(request, url)?;
        let mut admission = self.admit(request, &hop.url, &budget).await?;
        let result = self.follow(request, hop, &budget).await;
        if let Some(admission) = &mut admission {
            let failed = |error: &EgressError| error.was_tried().then(|| error.is_hosts_fault());
            admission.failed = match &result {
                Ok((_, (answer, _), _)) => Some(answer.status().is_server_error()),
                Err(error) => failed(error),
            };
        }
        let (hop, answered, redirects) = result?;
        let told = self.heed(request, &hop, &answered.0);
        OutboundStream::new(&hop, answered, told, redirects, budget, admission)
    }

    /// Waits where the API said that nothing is left, and asks the circuit breaker.
    async fn admit(
        &self,
        request: &OutboundRequest,
        url: &Url,
        budget: &Budget,
    ) -> Result<Option<Admission>, EgressError> {
        let Some(connection) = request.scope.holder() else { return Ok(None) };
        let Inner { holds, breakers, counters, .. } = &*self.inner;
        while !request.scope.asked
            && let Some(left) = holds.left(connection, url.path(), Instant::now())
        {
            if Instant::now() + left + CALL_NEEDS.min(budget.timeout / 2) > budget.deadline {
                return Err(EgressError::HeldBack { host: host_of(url), retry_in: left });
            }
            counters.waited(left);
            tokio::time::sleep(left).await;
        }
        let (workspace, host) = (request.scope.workspace.unwrap_or_default(), place_of(url));
        let pass = breakers
            .pass(workspace, &host, request.scope.asked, Instant::now())
            .map_err(|retry_in| EgressError::BreakerOpen { host: host_of(url), retry_in })?;
        Ok(Some(Admission { inner: self.inner.clone(), workspace, host, pass, failed: None }))
    }

    /// Hop by hop to the answer that is no redirect.
    async fn follow(
        &self,
        request: &OutboundRequest,
        mut hop: Hop,
        budget: &Budget,
    ) -> Result<(Hop, (reqwest::Response, Place), u32), EgressError> {
        let mut redirects = 0;
        loop {
            if !request.may_call(&hop.url) {
                return Err(match redirects {
                    0 => EgressError::NotApproved { host: host_of(&hop.url) },
                    _ => EgressError::RedirectRefused {
                        host: host_of(&hop.url),
                        reason: "nobody has approved this host",
                    },
                });
            }
            let answer = self.exchange(&hop, request, budget).await;
            let answer = answer.map_err(|error| if redirects > 0 { error.after_redirect() } else { error })?;
            let next = match request.follow_redirects {
                true => hop.next(answer.0.status().as_u16(), answer.0.headers().get(LOCATION))?,
                false => None,
            };
            let Some(next) = next else { return Ok((hop, answer, redirects)) };
            if redirects as usize == self.inner.policy.max_redirects {
                return Err(EgressError::TooManyRedirects { limit: redirects as usize });
            }
            redirects += 1;
            hop = next;
        }
    }

    /// One hop up to the answer's headers: check, resolve, check, wait for a place, connect, send.
    async fn exchange(
        &self,
        hop: &Hop,
        request: &OutboundRequest,
        budget: &Budget,
    ) -> Result<(reqwest::Response, Place), EgressError> {
        let host = host_of(&hop.url);
        let Inner { policy, lookup, gates, counters, .. } = &*self.inner;
        let pin = timeout_at(budget.deadline, lookup.pin(policy, &hop.url))
            .await
            .map_err(|_| budget.timed_out(&host, false))??;
        let asked = Instant::now();
        let place = gates.enter(&place_of(&hop.url), request.scope.workspace, budget.deadline).await;
        if asked.elapsed() >= Duration::from_millis(1) {
            counters.waited(asked.elapsed());
        }
        let place = place.map_err(|waited| EgressError::Busy { host: host.clone(), waited })?;
        let client = self.client(hop)?;
        let mut request = client.request(hop.method.clone(), hop.url.clone()).headers(hop.headers.clone());
        if let Some(body) = &hop.body {
            request = request.body(body.clone());
        }
        match timeout_at(budget.deadline, pin.during(request.send())).await {
            // Nothing tells whether the connection stood by then, so the request counts as sent.
            Err(_) => Err(budget.timed_out(&host, true)),
            Ok(Err(error)) => Err(EgressError::from_client(&error, &host, budget.timeout)),
            Ok(Ok(answer)) => Ok((answer, place)),
        }
    }

    /// Reads what the answer says of waiting, and remembers it. Another host's words are not the API's.
    fn heed(
        &self,
        request: &OutboundRequest,
        hop: &Hop,
        answer: &reqwest::Response,
    ) -> (Option<Duration>, Option<domain::call::RateLimit>) {
        let (now, headers) = (wall_clock(), answer.headers());
        let retry_after = quota::retry_after(headers, now);
        let own = Url::parse(&request.url).is_ok_and(|url| url.origin() == hop.url.origin());
        let limit = own.then(|| quota::learn(answer.status().as_u16(), headers, now)).flatten();
        if let (Some(limit), Some(connection)) = (&limit, request.scope.holder()) {
            self.inner.holds.note(connection, hop.url.path(), headers, limit, (now, Instant::now()));
        }
        (retry_after, limit)
    }
}

/// Servers give points of time: this is what they are compared with, and nothing else.
fn wall_clock() -> DateTime<Utc> {
    SystemTime::now().into()
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
