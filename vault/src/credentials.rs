//! Credential values: ciphertext in the vault's own table, plaintext only against a receipt.

use domain::{
    credential::NewVersion,
    event::LogPosition,
    ids::{CredentialId, WorkspaceId},
};
use secrecy::{ExposeSecret, SecretString};
use sqlx::Row;

use crate::{Vault, VaultError, cipher};

/// Proof that `credential.read` is in the log: the place where it was committed.
///
/// Make one from an append's answer only. No audit, no secret.
#[derive(Debug, Clone, Copy)]
pub struct ReadReceipt {
    pub committed_at: LogPosition,
    pub credential: CredentialId,
    pub version: i32,
}

impl Vault {
    /// Encrypts and stores a new version's value, before the event that names it.
    ///
    /// `after` is the version known so far. A version that another writer has stored meanwhile is never written over:
    /// the next free one is taken, so numbers may have gaps.
    pub async fn store_credential(
        &self,
        workspace: WorkspaceId,
        credential: CredentialId,
        after: i32,
        value: &SecretString,
    ) -> Result<NewVersion, VaultError> {
        let newest = "select coalesce(max(version), 0) from vault.credential_values where credential_id = $1";
        loop {
            let stored: i32 = sqlx::query_scalar(newest).bind(credential.0).fetch_one(&self.pool).await?;
            let version = stored.max(after) + 1;
            if let Some(new) = self.store_version(workspace, credential, version, value).await? {
                return Ok(new);
            }
        }
    }

    /// `None`: somebody else has just stored this version.
    async fn store_version(
        &self,
        workspace: WorkspaceId,
        credential: CredentialId,
        version: i32,
        value: &SecretString,
    ) -> Result<Option<NewVersion>, VaultError> {
        let plain = value.expose_secret().as_bytes();
        let (key_version, key) = self.keyring.current(workspace.0, &subject(workspace)).await?;
        let (nonce, ciphertext) = cipher::encrypt(&key, aad(workspace, credential, version).as_bytes(), plain)?;
        let hash = self.keyed_hash(workspace.0, "credential", plain).await?;
        let inserted = sqlx::query(
            "insert into vault.credential_values (credential_id, version, workspace_id, key_version, nonce, ciphertext)
             values ($1, $2, $3, $4, $5, $6) on conflict (credential_id, version) do nothing",
        )
        .bind(credential.0)
        .bind(version)
        .bind(workspace.0)
        .bind(key_version)
        .bind(&nonce[..])
        .bind(ciphertext)
        .execute(&self.pool)
        .await?;
        let new = NewVersion { version, key_version, value_hash: hex::encode(hash) };
        Ok((inserted.rows_affected() == 1).then_some(new))
    }

    /// The plaintext, for a read that is in the log already.
    pub async fn reveal(&self, workspace: WorkspaceId, receipt: &ReadReceipt) -> Result<SecretString, VaultError> {
        if receipt.committed_at == LogPosition::START {
            return Err(VaultError::Unrecorded);
        }
        let row = sqlx::query(
            "select key_version, nonce, ciphertext from vault.credential_values
              where credential_id = $1 and version = $2 and workspace_id = $3",
        )
        .bind(receipt.credential.0)
        .bind(receipt.version)
        .bind(workspace.0)
        .fetch_optional(&self.pool)
        .await?
        .ok_or(VaultError::CredentialMissing)?;
        let key = self.keyring.key(workspace.0, &subject(workspace), row.try_get("key_version")?).await?;
        let aad = aad(workspace, receipt.credential, receipt.version);
        let plain = cipher::decrypt(&key, aad.as_bytes(), row.try_get("nonce")?, row.try_get("ciphertext")?)?;
        let text = std::str::from_utf8(&plain).map_err(|_| VaultError::Tampered)?;
        Ok(text.to_owned().into())
    }

    /// Destroys every version's ciphertext of a deleted credential.
    pub async fn destroy_credential(&self, workspace: WorkspaceId, credential: CredentialId) -> Result<(), VaultError> {
        sqlx::query("delete from vault.credential_values where credential_id = $1 and workspace_id = $2")
            .bind(credential.0)
            .bind(workspace.0)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn subject(workspace: WorkspaceId) -> String {
    format!("workspace:{}", workspace.0)
}

fn aad(workspace: WorkspaceId, credential: CredentialId, version: i32) -> String {
    format!("apiq credential|{}|{}|{version}", workspace.0, credential.0)
}
