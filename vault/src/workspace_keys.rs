//! Workspaces' keys: one active version each, wrapped by the master key; older ones open until they are destroyed.

use sha2::{Digest, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    VaultError,
    cipher::{self, Key},
    keyring::Wrapped,
    master::MasterKeys,
    opened::Opened,
};

#[derive(Clone)]
pub(crate) struct WorkspaceKeys {
    pool: PgPool,
    masters: MasterKeys,
    keys: Opened<(Uuid, i32), Key>,
    active: Opened<Uuid, i32>,
}

impl WorkspaceKeys {
    pub(crate) fn new(pool: PgPool, masters: MasterKeys) -> Self {
        Self { pool, masters, keys: Opened::new(), active: Opened::new() }
    }

    pub(crate) fn masters(&self) -> &MasterKeys {
        &self.masters
    }

    pub(crate) fn forget(&self) {
        self.keys.forget();
        self.active.forget();
    }

    /// Somebody has seen that the active version is another one by now.
    pub(crate) async fn moved(&self, workspace: Uuid) {
        self.active.forget_one(&workspace).await;
    }

    /// The version that wraps new things; made when the workspace has none yet.
    pub(crate) async fn active(&self, workspace: Uuid) -> Result<(i32, Key), VaultError> {
        let read_in = self.active.generation();
        let version = match self.active.get(&workspace).await {
            Some(version) => version,
            None => {
                let version = self.stored(workspace).await?;
                self.active.put(workspace, version, read_in).await;
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
        let read_in = self.keys.generation();
        let row = sqlx::query(
            "select wrapped, null::integer as workspace_key_version, master_key_id, status = 'destroyed' as destroyed
               from vault.workspace_keys where workspace_id = $1 and version = $2",
        )
        .bind(workspace)
        .bind(version)
        .fetch_optional(&self.pool)
        .await?;
        let Wrapped { wrapped, master: Some(master), .. } = Wrapped::of(row.as_ref())? else {
            return Err(VaultError::Tampered);
        };
        let key = self.masters.unwrap(&master, &aad(workspace, version), &wrapped).await?;
        self.keys.put((workspace, version), key.clone(), read_in).await;
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
