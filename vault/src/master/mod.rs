//! Master keys: they come from outside the database, wrap workspaces' keys, and never leave their place.
//!
//! The place is this process (`local`), or a service that wraps and unwraps for us: whoever starts the house gives a
//! [`MasterKeyBackend`] for it. A ring holds the key that wraps from now on and those that may still be asked to unwrap.

mod local;

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::{VaultError, cipher::Key};

/// Why a backend did not wrap or unwrap.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The key exists and does not open this, or may not be used.
    #[error("{0}")]
    Refused(String),
    /// Nobody answered; later somebody may.
    #[error("{0}")]
    Unavailable(String),
}

/// Something that wraps 32 bytes so that only it can unwrap them.
#[async_trait]
pub trait MasterKeyBackend: Send + Sync {
    /// Names the key without telling it. Two ids are equal exactly when the keys are.
    fn id(&self) -> &str;

    /// Where it is: `local`, `aws-kms`, `vault-transit`.
    fn provider(&self) -> &'static str;

    /// `aad` is bound in: `unwrap` must be given the same.
    async fn wrap(&self, aad: &str, key: &[u8]) -> Result<Vec<u8>, MasterKeyError>;

    async fn unwrap(&self, aad: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, MasterKeyError>;
}

/// One master key, wherever it is. Cheap to clone.
#[derive(Clone)]
pub struct MasterKey(Arc<dyn MasterKeyBackend>);

impl MasterKey {
    pub fn new(backend: impl MasterKeyBackend + 'static) -> Self {
        Self(Arc::new(backend))
    }

    /// From 32 bytes in base64.
    pub fn from_base64(text: &SecretString) -> Result<Self, VaultError> {
        local::LocalKey::from_base64(text).map(Self::new)
    }

    /// A new one, in base64.
    pub fn generate() -> SecretString {
        local::generate()
    }

    /// Names the key without telling it.
    pub fn id(&self) -> &str {
        self.0.id()
    }

    pub fn provider(&self) -> &'static str {
        self.0.provider()
    }

    pub(crate) async fn wrap(&self, aad: &str, key: &[u8]) -> Result<Vec<u8>, VaultError> {
        Ok(self.0.wrap(aad, key).await?)
    }

    pub(crate) async fn unwrap(&self, aad: &str, wrapped: &[u8]) -> Result<Key, VaultError> {
        let plain = self.0.unwrap(aad, wrapped).await?;
        let bytes: [u8; 32] = plain.as_slice().try_into().map_err(|_| VaultError::MasterKeyWrong)?;
        Ok(Zeroizing::new(bytes))
    }
}

impl From<MasterKeyError> for VaultError {
    fn from(error: MasterKeyError) -> Self {
        match error {
            MasterKeyError::Refused(reason) => {
                tracing::warn!(reason, "the master key does not open what it is asked to");
                VaultError::MasterKeyWrong
            }
            MasterKeyError::Unavailable(reason) => VaultError::MasterKeyUnavailable(reason),
        }
    }
}

/// The key that wraps, and others that are known: the previous one while a rotation goes on, or the next one before it.
#[derive(Clone)]
pub struct MasterKeys {
    current: MasterKey,
    others: Vec<MasterKey>,
}

impl From<MasterKey> for MasterKeys {
    fn from(current: MasterKey) -> Self {
        Self { current, others: Vec::new() }
    }
}

impl MasterKeys {
    /// Another key that may be asked to unwrap, and never wraps.
    #[must_use]
    pub fn and(mut self, other: MasterKey) -> Self {
        self.others.push(other);
        self
    }

    pub fn current(&self) -> &MasterKey {
        &self.current
    }

    /// Ids of all of them, the present one first.
    pub fn ids(&self) -> Vec<String> {
        std::iter::once(&self.current).chain(&self.others).map(|key| key.id().to_owned()).collect()
    }

    /// Unwraps with the key that is named.
    pub(crate) async fn unwrap(&self, id: &str, aad: &str, wrapped: &[u8]) -> Result<Key, VaultError> {
        let known = std::iter::once(&self.current).chain(&self.others).find(|key| key.id() == id);
        known.ok_or(VaultError::MasterKeyWrong)?.unwrap(aad, wrapped).await
    }

    /// The present key must answer, and open what it has wrapped.
    pub(crate) async fn prove(&self) -> Result<(), VaultError> {
        let probe = crate::cipher::random_key();
        let wrapped = self.current.wrap("apiq probe", &probe[..]).await?;
        let opened = self.current.unwrap("apiq probe", &wrapped).await?;
        if *opened == *probe { Ok(()) } else { Err(VaultError::MasterKeyWrong) }
    }
}
