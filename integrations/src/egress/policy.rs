//! Where outgoing requests may go: the policy, and its checks of a URL (before any I/O) and of an address (after the
//! name is resolved, before the connection).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use url::{Host, Url};

use super::address::{Reach, reach};
use super::error::EgressError;

/// Longest URL that is taken, in bytes.
const MAX_URL_BYTES: usize = 16 * 1024;

/// Where outgoing requests may go. `Default` is the strictest: public addresses only.
///
/// Cloud metadata addresses, multicast and "this network" stay closed whatever is set here.
#[derive(Debug, Clone)]
pub struct EgressPolicy {
    /// Opens 127.0.0.0/8, `::1` and the names `localhost` and `*.localhost`. For the dev profile.
    pub allow_loopback: bool,
    /// Networks that the operator opens although they are not public, for example `10.20.0.0/16`.
    pub allow_private: Vec<IpNet>,
    /// Our own listeners (Postgres, NATS, the API itself): closed even where their network is open. A loopback
    /// address closes its port on the whole loopback; an unspecified one (`0.0.0.0`, `::`) closes its port on every
    /// address that is not public.
    pub deny_addresses: Vec<SocketAddr>,
    /// Redirects followed for one request before it fails.
    pub max_redirects: usize,
    /// Limit for TCP and TLS together, for each hop.
    pub connect_timeout: Duration,
    /// Requests under way to one host at once, from this node.
    pub per_host: usize,
    /// How long a request waits for its turn at a host.
    pub patience: Duration,
    /// Failures within half a minute that open the circuit breaker of a workspace's host; 0: none ever opens.
    pub breaker_failures: usize,
}

impl Default for EgressPolicy {
    fn default() -> Self {
        Self {
            allow_loopback: false,
            allow_private: Vec::new(),
            deny_addresses: Vec::new(),
            max_redirects: 5,
            connect_timeout: Duration::from_secs(5),
            per_host: 100,
            patience: Duration::from_secs(10),
            breaker_failures: 20,
        }
    }
}

impl EgressPolicy {
    /// Checks a URL as far as that goes without I/O: its text, scheme, host and port. Use it to refuse a URL at the
    /// moment a user gives it; sending checks again, resolved names included.
    pub fn check_url(&self, raw: &str) -> Result<Url, EgressError> {
        check_text(raw)?;
        if raw.trim() != raw {
            return Err(invalid("it begins or ends with blanks"));
        }
        let url = Url::parse(raw).map_err(|error| invalid(&error.to_string()))?;
        self.check_parsed(&url)?;
        Ok(url)
    }

    /// The checks on a parsed URL: those of [`Self::check_url`] but for the text's form.
    pub(super) fn check_parsed(&self, url: &Url) -> Result<(), EgressError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EgressError::BlockedScheme { scheme: url.scheme().chars().take(20).collect() });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it holds a user name or password; give credentials apart from the URL"));
        }
        let port = port(url)?;
        match url.host() {
            None => Err(invalid("it has no host")),
            Some(Host::Ipv4(ip)) => self.check_address(url, SocketAddr::from((ip, port))),
            Some(Host::Ipv6(ip)) => self.check_address(url, SocketAddr::from((ip, port))),
            Some(Host::Domain(name)) if is_localhost(name) => {
                localhost(port).iter().try_for_each(|address| self.check_address(url, *address))
            }
            Some(Host::Domain(_)) => Ok(()),
        }
    }

    /// Whether a connection to this address may be opened. The error names the host as the URL writes it.
    pub(super) fn check_address(&self, url: &Url, address: SocketAddr) -> Result<(), EgressError> {
        let host = host_of(url);
        let ip = address.ip().to_canonical();
        let listed = || self.allow_private.iter().any(|net| net.contains(&ip));
        let open = match reach(ip) {
            Reach::Global => true,
            Reach::Loopback => self.allow_loopback || listed(),
            Reach::Reserved => listed(),
            Reach::Never => false,
        };
        if !open {
            return Err(EgressError::BlockedAddress { host });
        }
        if self.deny_addresses.iter().any(|denied| is_denied(*denied, ip, address.port())) {
            return Err(EgressError::BlockedPort { host, port: address.port() });
        }
        Ok(())
    }
}

pub(super) fn is_public(ip: IpAddr) -> bool {
    reach(ip.to_canonical()) == Reach::Global
}

fn is_denied(denied: SocketAddr, ip: IpAddr, port: u16) -> bool {
    let denied_ip = denied.ip().to_canonical();
    denied.port() == port
        && (denied_ip == ip
            || (denied_ip.is_loopback() && ip.is_loopback())
            || (denied_ip.is_unspecified() && reach(ip) != Reach::Global))
}

/// Refuses what parsers disagree about: control characters (which the URL standard silently drops) and backslashes
/// (which it turns into slashes, so that `http://a\@b` and `http://a/@b` are the same place and others read `b`).
pub(super) fn check_text(raw: &str) -> Result<(), EgressError> {
    if raw.len() > MAX_URL_BYTES {
        return Err(invalid("it is longer than 16 KiB"));
    }
    if raw.chars().any(char::is_control) {
        return Err(invalid("it holds control characters"));
    }
    if raw.contains('\\') {
        return Err(invalid("it holds a backslash"));
    }
    Ok(())
}

/// `localhost` and everything under it, with or without the final dot. RFC 6761: never asked of DNS.
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

/// What `localhost` stands for. IPv4 first: local servers more often listen there alone.
pub(super) fn localhost(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))]
}

/// The port a connection goes to.
pub(super) fn port(url: &Url) -> Result<u16, EgressError> {
    match url.port_or_known_default() {
        Some(0) | None => Err(invalid("its port is not one that can be called")),
        Some(port) => Ok(port),
    }
}

/// The host as the URL writes it, for messages.
pub(super) fn host_of(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

/// Host and port, as what requests share: connections, places, breakers.
pub(super) fn place_of(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

pub(super) fn invalid(reason: &str) -> EgressError {
    EgressError::InvalidUrl { reason: reason.to_owned() }
}
