//! The master key: comes from outside the database, wraps data keys, never leaves this crate.

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    VaultError,
    cipher::{self, Key},
};

#[derive(Clone)]
pub struct MasterKey {
    key: Key,
    id: String,
}

impl MasterKey {
    /// From 32 bytes in base64.
    pub fn from_base64(text: &SecretString) -> Result<Self, VaultError> {
        let bytes =
            Zeroizing::new(STANDARD.decode(text.expose_secret().trim()).map_err(|_| VaultError::MasterKeyShape)?);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| VaultError::MasterKeyShape)?;
        let id = hex::encode(&Sha256::digest(key)[..8]);
        Ok(Self { key: Zeroizing::new(key), id })
    }

    /// A new one, in base64.
    pub fn generate() -> SecretString {
        STANDARD.encode(&cipher::random_key()[..]).into()
    }

    /// Names the key without telling it: the first 8 bytes of its SHA-256, hex.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn wrap(&self, aad: &str, key: &[u8]) -> Result<Vec<u8>, VaultError> {
        cipher::wrap(&self.key, aad.as_bytes(), key)
    }

    pub(crate) fn unwrap(&self, aad: &str, wrapped: &[u8]) -> Result<Key, VaultError> {
        cipher::unwrap(&self.key, aad.as_bytes(), wrapped).map_err(|_| VaultError::MasterKeyWrong)
    }
}
