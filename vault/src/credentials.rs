//! Credential values: ciphertext in the vault's own table, plaintext only against a receipt.

use domain::{
    credential::NewVersion,
    event::LogPosition,
    ids::{CredentialId, WorkspaceId},
};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Row, postgres::PgRow};
use zeroize::Zeroizing;

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
    /// Encrypts and stores a new version's value, before the event that names it; say afterwards what became of that:
    /// `value_named` or `discard_value`. `CredentialDestroyed`: the credential was, and takes no more values.
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

    /// `None`: somebody else has just stored this version, or the workspace's key has moved on.
    async fn store_version(
        &self,
        workspace: WorkspaceId,
        credential: CredentialId,
        version: i32,
        value: &SecretString,
    ) -> Result<Option<NewVersion>, VaultError> {
        let plain = value.expose_secret().as_bytes();
        let data = cipher::random_key();
        let (nonce, ciphertext) = cipher::encrypt(&data, aad(workspace, credential, version).as_bytes(), plain)?;
        let (by, key) = self.keyring.workspaces.active(workspace.0).await?;
        let wrapped = cipher::wrap(&key, key_aad(workspace, credential, version, by).as_bytes(), &data[..])?;
        let hash = self.keyed_hash(workspace.0, "credential", plain).await?;
        // The credential's row is held to the statement's end: whoever destroys it goes first and is seen, or waits and
        // then destroys this value too.
        let (living, active, stored): (i64, i64, i64) = sqlx::query_as(
            "with c as (insert into vault.credentials as c (credential_id, workspace_id) values ($1, $3)
                        on conflict (credential_id) do update set workspace_id = excluded.workspace_id
                         where c.destroyed_at is null and c.workspace_id = excluded.workspace_id returning 1),
                  k as (update vault.workspace_keys k set uses = uses + 1 from c
                         where k.workspace_id = $3 and k.version = $4 and k.status = 'active' returning k.version),
                  i as (insert into vault.credential_values (credential_id, version, workspace_id, key_version,
                                                             workspace_key_version, wrapped_key, nonce, ciphertext)
                        select $1, $2, $3, k.version, k.version, $5, $6, $7 from k
                        on conflict (credential_id, version) do nothing returning 1)
             select (select count(*) from c), (select count(*) from k), (select count(*) from i)",
        )
        .bind(credential.0)
        .bind(version)
        .bind(workspace.0)
        .bind(by)
        .bind(wrapped)
        .bind(&nonce[..])
        .bind(ciphertext)
        .fetch_one(&self.pool)
        .await?;
        if living == 0 {
            return Err(VaultError::CredentialDestroyed);
        }
        if active == 0 {
            self.keyring.workspaces.moved(workspace.0).await;
        }
        let new = NewVersion { version, key_version: by, value_hash: hex::encode(hash) };
        Ok((stored == 1).then_some(new))
    }

    /// The plaintext, for a read that is in the log already.
    pub async fn reveal(&self, workspace: WorkspaceId, receipt: &ReadReceipt) -> Result<SecretString, VaultError> {
        if receipt.committed_at == LogPosition::START {
            return Err(VaultError::Unrecorded);
        }
        self.keyring.look().await?;
        let row = sqlx::query(
            "select key_version, workspace_key_version, wrapped_key, nonce, ciphertext,
                    destroyed_at is not null as destroyed
               from vault.credential_values where credential_id = $1 and version = $2 and workspace_id = $3",
        )
        .bind(receipt.credential.0)
        .bind(receipt.version)
        .bind(workspace.0)
        .fetch_optional(&self.pool)
        .await?
        .ok_or(VaultError::CredentialMissing)?;
        if row.try_get("destroyed")? {
            return Err(VaultError::Erased);
        }
        let plain = match row.try_get::<Option<i32>, _>("workspace_key_version")? {
            Some(by) => {
                let key = self.keyring.workspaces.key(workspace.0, by).await?;
                let key_aad = key_aad(workspace, receipt.credential, receipt.version, by);
                let data = cipher::unwrap(&key, key_aad.as_bytes(), row.try_get("wrapped_key")?)?;
                let aad = aad(workspace, receipt.credential, receipt.version);
                cipher::decrypt(&data, aad.as_bytes(), row.try_get("nonce")?, row.try_get("ciphertext")?)?
            }
            None => self.open_old(workspace, receipt.credential, receipt.version, &row).await?,
        };
        let text = std::str::from_utf8(&plain).map_err(|_| VaultError::Tampered)?;
        Ok(text.to_owned().into())
    }

    /// A value in the old form: encrypted with the workspace's data key itself.
    pub(crate) async fn open_old(
        &self,
        workspace: WorkspaceId,
        credential: CredentialId,
        version: i32,
        row: &PgRow,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let key = self.keyring.key(workspace.0, &subject(workspace), row.try_get("key_version")?).await?;
        let aad = aad(workspace, credential, version);
        cipher::decrypt(&key, aad.as_bytes(), row.try_get("nonce")?, row.try_get("ciphertext")?)
    }
}

fn subject(workspace: WorkspaceId) -> String {
    format!("workspace:{}", workspace.0)
}

/// Binds a value to workspace, credential and version.
pub(crate) fn aad(workspace: WorkspaceId, credential: CredentialId, version: i32) -> String {
    format!("apiq credential|{}|{}|{version}", workspace.0, credential.0)
}

/// Binds a version's data key to its place and to the version of the workspace's key.
pub(crate) fn key_aad(workspace: WorkspaceId, credential: CredentialId, version: i32, by: i32) -> String {
    format!("apiq credential key|{}|{}|{version}|{by}", workspace.0, credential.0)
}
