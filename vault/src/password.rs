//! Passwords: Argon2id, bounded in memory however many log in at once.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::{Vault, VaultError};

/// 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// Hashes under way at once: 4 × 19 MiB.
const PARALLEL: usize = 4;

#[derive(Clone)]
pub(crate) struct Passwords {
    gate: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { gate: Arc::new(Semaphore::new(PARALLEL)) }
    }
}

impl Passwords {
    async fn derive(&self, password: &SecretString, salt: [u8; 16]) -> Result<[u8; 32], VaultError> {
        let _place = self.gate.acquire().await.map_err(|_| VaultError::Worker)?;
        let password = password.clone();
        tokio::task::spawn_blocking(move || {
            let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).map_err(|_| VaultError::Worker)?;
            let mut out = [0u8; 32];
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(password.expose_secret().as_bytes(), &salt, &mut out)
                .map_err(|_| VaultError::Worker)?;
            Ok(out)
        })
        .await
        .map_err(|_| VaultError::Worker)?
    }
}

impl Vault {
    /// `argon2id$<salt hex>$<hash hex>`; the parameters are this build's, named by the prefix.
    pub async fn hash_password(&self, password: &SecretString) -> Result<String, VaultError> {
        let mut salt = [0u8; 16];
        rand::fill(&mut salt[..]);
        let hash = self.passwords.derive(password, salt).await?;
        Ok(format!("argon2id-19m-2-1${}${}", hex::encode(salt), hex::encode(hash)))
    }

    /// Takes the same time whether the account exists (`stored`) or not.
    pub async fn verify_password(&self, password: &SecretString, stored: Option<&str>) -> Result<bool, VaultError> {
        let parts = stored.and_then(|s| s.strip_prefix("argon2id-19m-2-1$")).and_then(|s| s.split_once('$'));
        let salt = parts.and_then(|(salt, _)| <[u8; 16]>::try_from(hex::decode(salt).ok()?).ok());
        let hash = self.passwords.derive(password, salt.unwrap_or([0; 16])).await?;
        let wanted = parts.and_then(|(_, hash)| hex::decode(hash).ok()).unwrap_or_default();
        Ok(salt.is_some() && bool::from(hash.as_slice().ct_eq(&wanted)))
    }
}
