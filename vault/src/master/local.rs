//! A master key in this process: 32 bytes from the environment or a file.

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{MasterKeyBackend, MasterKeyError};
use crate::{
    VaultError,
    cipher::{self, Key},
};

pub(super) struct LocalKey {
    key: Key,
    /// The first 8 bytes of its SHA-256, hex.
    id: String,
}

pub(super) fn generate() -> SecretString {
    STANDARD.encode(&cipher::random_key()[..]).into()
}

impl LocalKey {
    pub(super) fn from_base64(text: &SecretString) -> Result<Self, VaultError> {
        let bytes =
            Zeroizing::new(STANDARD.decode(text.expose_secret().trim()).map_err(|_| VaultError::MasterKeyShape)?);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| VaultError::MasterKeyShape)?;
        let id = hex::encode(&Sha256::digest(key)[..8]);
        Ok(Self { key: Zeroizing::new(key), id })
    }
}

#[async_trait]
impl MasterKeyBackend for LocalKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn provider(&self) -> &'static str {
        "local"
    }

    async fn wrap(&self, aad: &str, key: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        cipher::wrap(&self.key, aad.as_bytes(), key).map_err(|e| MasterKeyError::Refused(e.to_string()))
    }

    async fn unwrap(&self, aad: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, MasterKeyError> {
        let key = cipher::unwrap(&self.key, aad.as_bytes(), wrapped);
        key.map(|key| Zeroizing::new(key.to_vec())).map_err(|e| MasterKeyError::Refused(e.to_string()))
    }
}
