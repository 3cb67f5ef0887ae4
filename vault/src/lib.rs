//! Secrets: envelope encryption, sealed values, credentials, passwords, tokens.
//!
//! The master key (outside the database) wraps workspaces' keys; those wrap data keys, one per subject and one per
//! credential version; data keys encrypt values. Nothing here logs or prints a secret; plaintexts live in `secrecy` and
//! `zeroize` types.

mod cipher;
mod credentials;
mod destruction;
mod error;
mod keyring;
mod master;
mod master_rotation;
mod opaque;
mod opened;
mod orphans;
mod password;
mod rotation;
mod seal;
mod tokens;
mod workspace_keys;

pub use credentials::ReadReceipt;
pub use error::VaultError;
use keyring::Keyring;
pub use master::{MasterKey, MasterKeyBackend, MasterKeyError, MasterKeys};
pub use master_rotation::MasterProgress;
pub use opaque::{OpaqueKind, OpaqueToken};
pub use orphans::Unnamed;
pub use rotation::{KeyRow, Progress};
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
    /// `pool` logs in as `apiq_writer`. Fails when a stored key was wrapped with a master key that is not among these.
    pub async fn open(pool: PgPool, masters: impl Into<MasterKeys>) -> Result<Self, VaultError> {
        let masters = masters.into();
        let keyring = Keyring::new(pool.clone(), masters.clone());
        keyring.check_masters().await?;
        let signer = tokens::Signer::load(&pool, &masters).await?;
        Ok(Self { pool, keyring, signer: std::sync::Arc::new(signer), passwords: password::Passwords::default() })
    }

    /// The master key that wraps from now on.
    pub fn master(&self) -> &MasterKey {
        self.keyring.workspaces.masters().current()
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}
