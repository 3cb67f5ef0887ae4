//! A connection for what is not HTTP (mail): the same checks, the same turn at the host and the same breaker as for a
//! request, and then the bare stream to one of the checked addresses.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::error::EgressError;
use super::gate::Place;
use super::policy::{host_of, invalid, place_of};
use super::request::{OutboundRequest, Scope};
use super::stream::Admission;
use super::{Budget, Egress};

/// A stream to a checked address. Its place at the host is free again when this is dropped; what came of it is told by
/// [`Self::ended`], and counts as nothing sent otherwise.
pub struct Dialled {
    pub stream: TcpStream,
    pub hold: Held,
}

/// What a dialled connection holds while it is used.
pub struct Held {
    admission: Option<Admission>,
    egress: Egress,
    _place: Place,
}

impl Held {
    /// The host answered as it should (`None`), or showed itself unwell.
    pub fn ended(mut self, failure: Option<&EgressError>) {
        if let Some(admission) = &mut self.admission {
            admission.failed = Some(failure.is_some_and(EgressError::is_hosts_fault));
        }
        self.egress.inner.counters.ended(failure.map_or(Ok(200), Err));
    }
}

impl Egress {
    /// Checks host and port, looks the name up once, checks every address, waits for a turn, and connects to the first
    /// of the checked addresses that answers. `host` is a name or a literal address, IPv6 in brackets or not.
    pub async fn dial(&self, host: &str, port: u16, scope: Scope, timeout: Duration) -> Result<Dialled, EgressError> {
        let url = self.check_host(host, port)?;
        // Never sent: it carries what admission asks about.
        let asked = OutboundRequest::get(url.as_str()).scope(scope).timeout(timeout);
        let budget = Budget::of(&asked);
        let mut admission = self.admit(&asked, &url, &budget).await?;
        let result = self.connect(&url, scope, &budget).await;
        if let Err(error) = &result {
            self.inner.counters.ended(Err(error));
            if let Some(admission) = &mut admission {
                admission.failed = error.was_tried().then(|| error.is_hosts_fault());
            }
        }
        let (stream, place) = result?;
        Ok(Dialled { stream, hold: Held { admission, egress: self.clone(), _place: place } })
    }

    /// A first look at host and port, without I/O: for the moment in which somebody gives them.
    pub fn check_host(&self, host: &str, port: u16) -> Result<Url, EgressError> {
        // What a URL would read as something else than a host.
        if host.is_empty() || host.contains(['/', '?', '#', '@', '%', ' ']) {
            return Err(invalid("the host is not a name or an address"));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let written = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        self.policy().check_url(&format!("http://{written}:{port}/"))
    }

    async fn connect(&self, url: &Url, scope: Scope, budget: &Budget) -> Result<(TcpStream, Place), EgressError> {
        let host = host_of(url);
        let (policy, lookup, gates) = (&self.inner.policy, &self.inner.lookup, &self.inner.gates);
        let late = || budget.timed_out(&host, false);
        let pin = timeout_at(budget.deadline, lookup.pin(policy, url)).await.map_err(|_| late())??;
        let place = gates.enter(&place_of(url), scope.workspace, budget.deadline).await;
        let place = place.map_err(|waited| EgressError::Busy { host: host.clone(), waited })?;
        let until = budget.deadline.min(Instant::now() + policy.connect_timeout);
        match timeout_at(until, TcpStream::connect(pin.addresses())).await {
            Ok(Ok(stream)) => Ok((stream, place)),
            Ok(Err(error)) => Err(EgressError::Connect { host, reason: reason(error.kind()).to_owned() }),
            Err(_) => Err(late()),
        }
    }
}

/// Why TCP did not connect; the system's own text would name the address.
fn reason(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ConnectionRefused => "connection refused",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "unreachable",
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => "connection closed by the server",
        _ => "connection failed",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EgressPolicy, tests::Script};
    use super::*;

    async fn dial(policy: EgressPolicy, host: &str, port: u16) -> Result<Dialled, EgressError> {
        Egress::new(policy).unwrap().dial(host, port, Scope::default(), Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn only_checked_addresses_are_connected() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = || EgressPolicy { allow_loopback: true, ..EgressPolicy::default() };
        for host in
            ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "::1", "[::1]", "[::ffff:127.0.0.1]"]
        {
            let closed = dial(EgressPolicy::default(), host, port).await.err().unwrap();
            assert!(matches!(closed, EgressError::BlockedAddress { .. }), "{host}: {closed}");
        }
        for host in ["169.254.169.254", "10.0.0.1", "fe80::1"] {
            let closed = dial(open(), host, port).await.err().unwrap();
            assert!(matches!(closed, EgressError::BlockedAddress { .. }), "{host}: {closed}");
        }
        for host in ["", "a b", "ok@127.0.0.1", "127.0.0.1#@ok", "a/b", "a\r\nb", "a%0d", "\\@a"] {
            let closed = dial(open(), host, port).await.err().unwrap();
            assert!(matches!(closed, EgressError::InvalidUrl { .. }), "{host:?}: {closed}");
        }
        let denied = EgressPolicy { deny_addresses: vec![listener.local_addr().unwrap()], ..open() };
        let closed = dial(denied, "localhost", port).await.err().unwrap();
        assert!(matches!(closed, EgressError::BlockedPort { .. }), "{closed}");
        let good = dial(open(), "127.0.0.1", port).await.unwrap();
        assert_eq!(good.stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_closed() {
        let script = Script::new(&[&["93.184.216.34", "10.0.0.7"]]);
        let egress =
            Egress::with_lookup(EgressPolicy::default(), super::super::Lookup::Scripted(script), vec![]).unwrap();
        let closed = egress.dial("mail.test", 25, Scope::default(), Duration::from_secs(5)).await.err().unwrap();
        assert_eq!(closed, EgressError::BlockedAddress { host: "mail.test".into() });
    }
}
