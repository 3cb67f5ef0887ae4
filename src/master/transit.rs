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
