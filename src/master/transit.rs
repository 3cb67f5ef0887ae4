//! A master key in a Transit secrets engine (HashiCorp Vault, OpenBao): it wraps and unwraps, and never gives the key.
//!
//! `POST …/transit/encrypt/<name>` and `…/decrypt/<name>` with the additional data as `associated_data`.

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vault::{MasterKeyBackend, MasterKeyError};
use zeroize::Zeroizing;

const PATIENCE: Duration = Duration::from_secs(5);

pub struct TransitKey {
    id: String,
    encrypt: String,
    decrypt: String,
    token: Option<SecretString>,
    http: reqwest::Client,
}

impl TransitKey {
    /// `url` names the key: `https://host:8200/v1/transit/keys/<name>`.
    pub fn open(url: &str, token: Option<SecretString>) -> anyhow::Result<Self> {
        let url = url.trim_end_matches('/');
        let id = hex::encode(&Sha256::digest(format!("vault-transit:{url}"))[..8]);
        #[expect(
            clippy::disallowed_methods,
            reason = "the operator names this service; the guard is for what users name"
        )]
        let builder = reqwest::Client::builder();
        let http = builder.timeout(PATIENCE).no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        let of = |verb: &str| url.replacen("/keys/", &format!("/{verb}/"), 1);
        Ok(Self { id, encrypt: of("encrypt"), decrypt: of("decrypt"), token, http })
    }

    async fn ask(&self, url: &str, body: Value, field: &str) -> Result<Zeroizing<String>, MasterKeyError> {
        let unavailable = |error: reqwest::Error| MasterKeyError::Unavailable(error.without_url().to_string());
        let mut request = self.http.post(url).json(&body);
        if let Some(token) = &self.token {
            request = request.header("X-Vault-Token", token.expose_secret());
        }
        let answer = request.send().await.map_err(unavailable)?;
        let status = answer.status();
        let text = Zeroizing::new(answer.text().await.map_err(unavailable)?);
        if status.is_success() {
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            let found = value["data"][field].as_str().map(|found| Zeroizing::new(found.to_owned()));
            return found.ok_or_else(|| MasterKeyError::Refused(format!("the Transit service gave no {field}")));
        }
        let sentence = format!("the Transit service answered {}", status.as_u16());
        // 400: the key does not open this. 403 and 404: the token, or the key's name, is wrong.
        let refused = matches!(status.as_u16(), 400 | 401 | 403 | 404);
        Err(if refused { MasterKeyError::Refused(sentence) } else { MasterKeyError::Unavailable(sentence) })
    }
}

#[async_trait]
impl MasterKeyBackend for TransitKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn provider(&self) -> &'static str {
        "vault-transit"
    }

    async fn wrap(&self, aad: &str, key: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        let body = json!({ "plaintext": STANDARD.encode(key), "associated_data": STANDARD.encode(aad) });
        Ok(self.ask(&self.encrypt, body, "ciphertext").await?.as_bytes().to_vec())
    }

    async fn unwrap(&self, aad: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, MasterKeyError> {
        let damaged = |_| MasterKeyError::Refused("what the Transit service wrapped is damaged".into());
        let text = std::str::from_utf8(wrapped).map_err(damaged)?;
        let body = json!({ "ciphertext": text, "associated_data": STANDARD.encode(aad) });
        let plain = self.ask(&self.decrypt, body, "plaintext").await?;
        let bytes = STANDARD.decode(plain.as_bytes());
        bytes.map(Zeroizing::new).map_err(|_| MasterKeyError::Refused("the Transit service gave no base64".into()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Speaks the documented API: the ciphertext is the plaintext with its associated data, in base64.
    async fn service(token: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                let (head, body) = loop {
                    let mut part = [0u8; 4096];
                    let read = stream.read(&mut part).await.unwrap();
                    bytes.extend(&part[..read]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head
                        .to_lowercase()
                        .split("content-length: ")
                        .nth(1)
                        .map(|rest| rest.lines().next().unwrap().trim().parse::<usize>().unwrap());
                    if body.len() >= length.unwrap_or(0) {
                        break (head.to_owned(), body.to_owned());
                    }
                };
                let (status, answer) = answer(&head, &serde_json::from_str(&body).unwrap(), token);
                let answer = answer.to_string();
                let text = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                    answer.len()
                );
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
        format!("http://{address}/v1/transit/keys/apiq")
    }

    fn answer(head: &str, body: &Value, token: &str) -> (u16, Value) {
        let text = |field: &str| body[field].as_str().unwrap().to_owned();
        if !head.to_lowercase().contains(&format!("x-vault-token: {token}")) {
            return (403, json!({ "errors": ["permission denied"] }));
        }
        if head.starts_with("POST /v1/transit/encrypt/apiq ") {
            let sealed = STANDARD.encode(format!("{} {}", text("plaintext"), text("associated_data")));
            return (200, json!({ "data": { "ciphertext": format!("vault:v1:{sealed}"), "key_version": 1 } }));
        }
        assert!(head.starts_with("POST /v1/transit/decrypt/apiq "), "{head}");
        let sealed = text("ciphertext").strip_prefix("vault:v1:").map(|sealed| STANDARD.decode(sealed).unwrap());
        let opened = sealed.map(|sealed| String::from_utf8(sealed).unwrap()).unwrap_or_default();
        match opened.split_once(' ') {
            Some((plain, aad)) if aad == text("associated_data") => (200, json!({ "data": { "plaintext": plain } })),
            _ => (400, json!({ "errors": ["cipher: message authentication failed"] })),
        }
    }

    #[tokio::test]
    async fn it_wraps_and_unwraps_and_tells_a_refusal_from_an_outage() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = service("t0ken").await;
        let key = TransitKey::open(&url, Some("t0ken".to_owned().into())).unwrap();
        let wrapped = key.wrap("place", &[7; 32]).await.unwrap();
        assert!(wrapped.starts_with(b"vault:v1:"));
        assert_eq!(*key.unwrap("place", &wrapped).await.unwrap(), vec![7; 32]);
        assert!(matches!(key.unwrap("elsewhere", &wrapped).await, Err(MasterKeyError::Refused(_))));
        let stranger = TransitKey::open(&url, None).unwrap();
        assert!(matches!(stranger.wrap("place", &[7; 32]).await, Err(MasterKeyError::Refused(_))));
        assert_eq!((key.id(), key.provider()), (stranger.id(), "vault-transit"));
        let nobody = TransitKey::open("http://127.0.0.1:9/v1/transit/keys/apiq", None).unwrap();
        assert!(matches!(nobody.wrap("place", &[7; 32]).await, Err(MasterKeyError::Unavailable(_))));
    }
}
