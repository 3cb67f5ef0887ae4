//! Sealing and opening `Sealed<T>`, and keyed hashes for lookups.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{ids::WorkspaceId, sealed::Sealed};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Serialize, de::DeserializeOwned};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{Vault, VaultError, cipher};

impl Vault {
    /// Seals a value with the workspace's key. `field` (`execution.input`) is bound into the ciphertext.
    pub async fn seal<T: Sealable + Serialize + ?Sized>(
        &self,
        workspace: WorkspaceId,
        field: &str,
        value: &T,
    ) -> Result<Sealed<T::Sealed>, VaultError> {
        self.seal_for(workspace, &format!("workspace:{}", workspace.0), field, value).await
    }

    /// Seals a value with a person's key: destroying that key erases it.
    pub async fn seal_for<T: Sealable + Serialize + ?Sized>(
        &self,
        workspace: WorkspaceId,
        subject: &str,
        field: &str,
        value: &T,
    ) -> Result<Sealed<T::Sealed>, VaultError> {
        let plain = Zeroizing::new(serde_json::to_vec(value).map_err(|e| VaultError::Encoding(e.to_string()))?);
        let (version, key) = self.keyring.current(workspace.0, subject).await?;
        let (nonce, sealed) = cipher::encrypt(&key, aad(workspace, subject, field).as_bytes(), &plain)?;
        Ok(Sealed::from_parts(subject.to_owned(), version, STANDARD.encode(nonce), STANDARD.encode(sealed)))
    }

    /// Opens what `seal` or `seal_for` made for the same workspace and field.
    pub async fn open_sealed<T: DeserializeOwned>(
        &self,
        workspace: WorkspaceId,
        field: &str,
        sealed: &Sealed<T>,
    ) -> Result<T, VaultError> {
        let key = self.keyring.key(workspace.0, &sealed.subject, sealed.key_version).await?;
        let nonce = STANDARD.decode(&sealed.nonce).map_err(|_| VaultError::Tampered)?;
        let ciphertext = STANDARD.decode(&sealed.ciphertext).map_err(|_| VaultError::Tampered)?;
        let plain = cipher::decrypt(&key, aad(workspace, &sealed.subject, field).as_bytes(), &nonce, &ciphertext)?;
        serde_json::from_slice(&plain).map_err(|_| VaultError::Tampered)
    }

    /// An HMAC of a value under a key of the vault: equal values give equal hashes, and only here.
    ///
    /// With a nil workspace for what is unique over all of them (e-mail addresses).
    pub async fn keyed_hash(&self, workspace: Uuid, purpose: &str, value: &[u8]) -> Result<[u8; 32], VaultError> {
        let (_, key) = self.keyring.current(workspace, &format!("hash:{purpose}")).await?;
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key[..]).map_err(|_| VaultError::MasterKeyShape)?;
        mac.update(value);
        Ok(mac.finalize().into_bytes().into())
    }
}

/// What a borrowed value is once it is opened: `str` becomes `String`.
pub trait Sealable {
    type Sealed;
}

impl Sealable for str {
    type Sealed = String;
}

impl Sealable for String {
    type Sealed = String;
}

impl Sealable for serde_json::Value {
    type Sealed = serde_json::Value;
}

fn aad(workspace: WorkspaceId, subject: &str, field: &str) -> String {
    format!("apiq sealed|{}|{subject}|{field}", workspace.0)
}
