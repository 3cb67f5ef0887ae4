//! Names to addresses, once: what was checked is what gets connected.
//!
//! A name is looked up here, every address is checked against the policy, and the checked ones are handed to the HTTP
//! client for this one exchange. The client's own resolver only gives back what was handed over, so there is no second
//! look-up that could answer differently (DNS rebinding). Without anything handed over it fails.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::error::EgressError;
use super::policy::{EgressPolicy, host_of, is_localhost, localhost, port};

tokio::task_local! {
    static PINNED: Pin;
}

/// The checked addresses of one host, valid for one exchange.
#[derive(Debug, Clone)]
pub(super) struct Pin {
    host: String,
    addresses: Vec<SocketAddr>,
}

impl Pin {
    /// The checked addresses.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Runs one exchange of the HTTP client with these addresses.
    pub(super) async fn during<F: Future>(self, exchange: F) -> F::Output {
        PINNED.scope(self, exchange).await
    }
}

/// How names are looked up. Tests script the answers.
#[derive(Clone)]
pub(super) enum Lookup {
    System,
    #[cfg(test)]
    Scripted(std::sync::Arc<super::tests::Script>),
}

impl Lookup {
    /// Resolves the URL's host and checks each address. One closed address closes the name: a name that mixes public
    /// and internal addresses has no honest use.
    pub(super) async fn pin(&self, policy: &EgressPolicy, url: &Url) -> Result<Pin, EgressError> {
        policy.check_parsed(url)?;
        let addresses = self.addresses(url).await;
        if addresses.is_empty() {
            return Err(EgressError::Dns { host: host_of(url) });
        }
        addresses.iter().try_for_each(|address| policy.check_address(url, *address))?;
        Ok(Pin { host: host_of(url), addresses })
    }

    /// What the URL's host stands for, unchecked; nothing when it cannot be found.
    pub(super) async fn addresses(&self, url: &Url) -> Vec<SocketAddr> {
        let Ok(port) = port(url) else { return Vec::new() };
        match url.host() {
            Some(Host::Ipv4(ip)) => vec![SocketAddr::from((ip, port))],
            Some(Host::Ipv6(ip)) => vec![SocketAddr::from((ip, port))],
            Some(Host::Domain(name)) if is_localhost(name) => localhost(port).to_vec(),
            Some(Host::Domain(name)) => self.ask(name, port).await,
            None => Vec::new(),
        }
    }

    /// A failed look-up and an empty answer are the same to the caller.
    async fn ask(&self, name: &str, port: u16) -> Vec<SocketAddr> {
        match self {
            Self::System => tokio::net::lookup_host((name, port)).await.map(Iterator::collect).unwrap_or_default(),
            #[cfg(test)]
            Self::Scripted(script) => script.answer(name, port),
        }
    }
}

/// The HTTP client's resolver: gives back the pin of the exchange that asks.
pub(super) struct PinnedResolver;

impl Resolve for PinnedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        // Read now, not in the future: the client may finish a connection in a task of its own.
        let pinned = PINNED.try_with(|pin| same_host(&pin.host, name.as_str()).then(|| pin.addresses.clone()));
        Box::pin(async move {
            match pinned {
                Ok(Some(addresses)) => Ok(Box::new(addresses.into_iter()) as Addrs),
                Ok(None) | Err(_) => Err("no checked address for this name".into()),
            }
        })
    }
}

fn same_host(a: &str, b: &str) -> bool {
    a.trim_end_matches('.').eq_ignore_ascii_case(b.trim_end_matches('.'))
}
