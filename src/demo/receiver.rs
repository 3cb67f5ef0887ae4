//! A webhook receiver on loopback, as a subscriber would write one: it checks each signature by itself.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use poem::http::StatusCode;
use poem::listener::TcpAcceptor;
use poem::{Body, EndpointExt, Request, Server, endpoint};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A timestamp further away than this is refused, so that a recorded delivery cannot be played again later. Seconds.
const TOLERANCE: u64 = 300;
/// Deliveries that may wait to be looked at.
const WAITING: usize = 64;

/// One request as it came in.
#[derive(Debug, Clone, Default)]
pub struct Delivery {
    pub id: String,
    /// Seconds since 1970, as text.
    pub timestamp: String,
    /// `v1,<base64>`, several by spaces.
    pub signatures: String,
    pub body: String,
}

/// Listens until it is dropped.
pub struct Receiver {
    pub url: String,
    deliveries: mpsc::Receiver<Delivery>,
    shutdown: CancellationToken,
}

impl Receiver {
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port for the receiver")?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let acceptor = TcpAcceptor::from_tokio(listener).context("the receiver cannot listen")?;
        let (sender, deliveries) = mpsc::channel(WAITING);
        let shutdown = CancellationToken::new();
        let app = endpoint::make(move |request| take(request, sender.clone())).map_to_response();
        let stopped = shutdown.clone().cancelled_owned();
        tokio::spawn(Server::new_with_acceptor(acceptor).run_with_graceful_shutdown(app, stopped, None));
        Ok(Self { url, deliveries, shutdown })
    }

    /// The first delivery about this resource.
    ///
    /// # Errors
    /// None came in time.
    pub async fn about(&mut self, resource: &str, within: Duration) -> anyhow::Result<(Delivery, Value)> {
        let search = async {
            while let Some(delivery) = self.deliveries.recv().await {
                let body: Value = serde_json::from_str(&delivery.body).context("a webhook's body is not JSON")?;
                if body["data"]["resource"]["id"] == resource {
                    return Ok((delivery, body));
                }
            }
            bail!("the receiver stopped")
        };
        let found = tokio::time::timeout(within, search).await;
        found.map_err(|_| anyhow!("no webhook about {resource} came within {} seconds", within.as_secs()))?
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn take(request: Request, sender: mpsc::Sender<Delivery>) -> poem::Result<StatusCode> {
    let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signatures = header("webhook-signature");
    let body: Body = request.into_body();
    let body = body.into_string().await?;
    // A full queue is told to the sender, which comes again later.
    let taken = sender.try_send(Delivery { id, timestamp, signatures, body });
    Ok(if taken.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE })
}

/// Standard Webhooks: HMAC-SHA-256 over `id.timestamp.body`, with the secret's bytes as key.
///
/// # Errors
/// What is wrong with the delivery.
pub fn verify(secret: &SecretString, delivery: &Delivery) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
    let sent: u64 = delivery.timestamp.parse().context("webhook-timestamp is no number")?;
    ensure!(now.abs_diff(sent) <= TOLERANCE, "webhook-timestamp is more than {TOLERANCE} seconds away");
    let key = secret.expose_secret().strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    let key = key.context("the signing secret is not whsec_ and base64")?;
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).context("the signing secret is unusable")?;
    mac.update(format!("{}.{}.{}", delivery.id, delivery.timestamp, delivery.body).as_bytes());
    let mut given = delivery.signatures.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
    // `verify_slice` compares in constant time.
    ensure!(given.any(|signature| mac.clone().verify_slice(&signature).is_ok()), "no signature fits");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

    fn signed(age: u64) -> Delivery {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - age;
        let (id, body) = ("dlv_1", r#"{"type":"workflow.completed"}"#);
        let signer = standardwebhooks::Webhook::new(SECRET).unwrap();
        let signatures = signer.sign(id, now as i64, body.as_bytes()).unwrap();
        Delivery { id: id.into(), timestamp: now.to_string(), signatures, body: body.into() }
    }

    #[test]
    fn takes_what_the_reference_implementation_signs_and_nothing_else() {
        let secret = SecretString::from(SECRET.to_owned());
        verify(&secret, &signed(0)).unwrap();
        let other = Delivery { signatures: format!("v1,AAAA {}", signed(0).signatures), ..signed(0) };
        verify(&secret, &other).unwrap();
        assert!(verify(&secret, &Delivery { body: "{}".into(), ..signed(0) }).is_err());
        assert!(verify(&secret, &Delivery { id: "dlv_2".into(), ..signed(0) }).is_err());
        assert!(verify(&secret, &Delivery { signatures: String::new(), ..signed(0) }).is_err());
        assert!(verify(&secret, &signed(TOLERANCE + 60)).is_err());
        let wrong = SecretString::from("whsec_AAAAMzQ1Njc4OTAxMjM0NTY3ODkwMTIz".to_owned());
        assert!(verify(&wrong, &signed(0)).is_err());
    }
}
