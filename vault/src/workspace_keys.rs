//! Workspaces' keys: one active version each, wrapped by the master key; older ones open until they are destroyed.

use std::time::Duration;

use moka::future::Cache;
use sha2::{Digest, Sha256};
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::{
    VaultError,
    cipher::{self, Key},
    master::MasterKeys,
};

/// How long an opened key is kept: one that was destroyed elsewhere is gone sooner, see `Keyring::look`.
pub(crate) const LIFE: Duration = Duration::from_secs(300);
pub(crate) const MOST: u64 = 10_000;

#[derive(Clone)]
pub(crate) struct WorkspaceKeys {
    pool: PgPool,
    masters: MasterKeys,
    keys: Cache<(Uuid, i32), Key>,
    active: Cache<Uuid, i32>,
}

impl WorkspaceKeys {
    pub(crate) fn new(pool: PgPool, masters: MasterKeys) -> Self {
        Self {
            pool,
            masters,
            keys: Cache::builder().max_capacity(MOST).time_to_live(LIFE).build(),
            active: Cache::builder().max_capacity(MOST).time_to_live(LIFE).build(),
        }
    }

    pub(crate) fn masters(&self) -> &MasterKeys {
        &self.masters
    }

    pub(crate) fn forget(&self) {
        self.keys.invalidate_all();
        self.active.invalidate_all();
    }

    /// Somebody has seen that the active version is another one by now.
    pub(crate) async fn moved(&self, workspace: Uuid) {
        self.active.invalidate(&workspace).await;
    }

    /// The version that wraps new things; made when the workspace has none yet.
    pub(crate) async fn active(&self, workspace: Uuid) -> Result<(i32, Key), VaultError> {
        let version = match self.active.get(&workspace).await {
            Some(version) => version,
            None => {
                let version = self.stored(workspace).await?;
                self.active.insert(workspace, version).await;
                version
            }
        };
        Ok((version, self.key(workspace, version).await?))
    }

    async fn stored(&self, workspace: Uuid) -> Result<i32, VaultError> {
        let find = "select version from vault.workspace_keys where workspace_id = $1 and status = 'active'";
        if let Some(version) = sqlx::query_scalar(find).bind(workspace).fetch_optional(&self.pool).await? {
            return Ok(version);
        }
        self.add(workspace, 1, "active").await?;
        // Two nodes at once: one key wins, both use it.
        Ok(sqlx::query_scalar(find).bind(workspace).fetch_one(&self.pool).await?)
    }

    /// A new version, unless there is one of this number or in this place.
    pub(crate) async fn add(&self, workspace: Uuid, version: i32, status: &str) -> Result<(), VaultError> {
        let key = cipher::random_key();
        let master = self.masters.current();
        let wrapped = master.wrap(&aad(workspace, version), &key[..]).await?;
        sqlx::query(
            "insert into vault.workspace_keys (workspace_id, version, key_id, master_key_id, wrapped, status)
             values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        )
        .bind(workspace)
        .bind(version)
        .bind(id_of(&key))
        .bind(master.id())
        .bind(wrapped)
        .bind(status)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(crate) async fn key(&self, workspace: Uuid, version: i32) -> Result<Key, VaultError> {
        if let Some(key) = self.keys.get(&(workspace, version)).await {
            return Ok(key);
        }
        let row = sqlx::query(
            "select master_key_id, wrapped, status = 'destroyed' as destroyed from vault.workspace_keys
              where workspace_id = $1 and version = $2",
        )
        .bind(workspace)
        .bind(version)
        .fetch_optional(&self.pool)
        .await?
        .ok_or(VaultError::Erased)?;
        if row.try_get("destroyed")? {
            return Err(VaultError::Erased);
        }
        let (master, wrapped): (String, Vec<u8>) = (row.try_get("master_key_id")?, row.try_get("wrapped")?);
        let key = self.masters.unwrap(&master, &aad(workspace, version), &wrapped).await?;
        self.keys.insert((workspace, version), key.clone()).await;
        Ok(key)
    }
}

/// A wrapped key opens only in the row it was written for.
pub(crate) fn aad(workspace: Uuid, version: i32) -> String {
    format!("apiq workspace key|{workspace}|{version}")
}

/// The first 16 bytes of a key's SHA-256, hex: who has the key can show that it was this one.
fn id_of(key: &Key) -> String {
    hex::encode(&Sha256::digest(&key[..])[..16])
}
