//! Secrets: envelope encryption, sealed values, credentials, passwords, tokens.
//!
//! The master key (outside the database) wraps data keys, one per subject and version; data keys encrypt values.
//! Nothing here logs or prints a secret; plaintexts live in `secrecy` and `zeroize` types.

mod cipher;
mod credentials;
mod error;
mod keyring;
mod master;
mod opaque;
mod password;
mod seal;
mod tokens;

pub use credentials::ReadReceipt;
pub use error::VaultError;
use keyring::Keyring;
pub use master::MasterKey;
pub use opaque::{OpaqueKind, OpaqueToken};
use sqlx::PgPool;
pub use tokens::{AccessClaims, TokenError};

/// One node's vault. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    pool: PgPool,
    keyring: Keyring,
    signer: std::sync::Arc<tokens::Signer>,
    passwords: password::Passwords,
}

impl Vault {
    /// `pool` logs in as `apiq_writer`. Fails when the master key is not the one that the stored keys were wrapped with.
    pub async fn open(pool: PgPool, master: MasterKey) -> Result<Self, VaultError> {
        let keyring = Keyring::new(pool.clone(), master.clone());
        keyring.check_master().await?;
        let signer = tokens::Signer::load(&pool, &master).await?;
        Ok(Self { pool, keyring, signer: std::sync::Arc::new(signer), passwords: password::Passwords::default() })
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}
