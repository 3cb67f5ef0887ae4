//! Data keys: one per workspace and subject, wrapped in the database, opened in memory.

use std::time::Duration;

use moka::future::Cache;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::{
    VaultError,
    cipher::{self, Key},
    master::MasterKey,
};

type Slot = (Uuid, String, i32);

#[derive(Clone)]
pub(crate) struct Keyring {
    pool: PgPool,
    master: MasterKey,
    /// Bounded in number and time: a key destroyed elsewhere is gone here soon.
    keys: Cache<Slot, Key>,
    latest: Cache<(Uuid, String), i32>,
}

impl Keyring {
    pub(crate) fn new(pool: PgPool, master: MasterKey) -> Self {
        let life = Duration::from_secs(300);
        Self {
            pool,
            master,
            keys: Cache::builder().max_capacity(10_000).time_to_live(life).build(),
            latest: Cache::builder().max_capacity(10_000).time_to_live(life).build(),
        }
    }

    /// Any stored key must open with this master key.
    pub(crate) async fn check_master(&self) -> Result<(), VaultError> {
        let other: Option<i32> = sqlx::query_scalar(
            "select 1 from vault.data_keys where master_key_id <> $1 and destroyed_at is null limit 1",
        )
        .bind(self.master.id())
        .fetch_optional(&self.pool)
        .await?;
        if other.is_some() { Err(VaultError::MasterKeyWrong) } else { Ok(()) }
    }

    /// The key new values of a subject are sealed with; made when there is none yet.
    pub(crate) async fn current(&self, workspace: Uuid, subject: &str) -> Result<(i32, Key), VaultError> {
        let slot = (workspace, subject.to_owned());
        let version = match self.latest.get(&slot).await {
            Some(version) => version,
            None => {
                let version = self.latest_stored(workspace, subject).await?;
                self.latest.insert(slot, version).await;
                version
            }
        };
        Ok((version, self.key(workspace, subject, version).await?))
    }

    async fn latest_stored(&self, workspace: Uuid, subject: &str) -> Result<i32, VaultError> {
        let find = "select version, destroyed_at is not null as destroyed from vault.data_keys
                     where workspace_id = $1 and subject = $2 order by version desc limit 1";
        let row = sqlx::query(find).bind(workspace).bind(subject).fetch_optional(&self.pool).await?;
        if let Some(row) = row {
            return if row.try_get("destroyed")? { Err(VaultError::Erased) } else { Ok(row.try_get("version")?) };
        }
        let wrapped = self.master.wrap(&aad(workspace, subject, 1), &cipher::random_key()[..])?;
        // Two nodes at once: one key wins, both use it.
        sqlx::query(
            "insert into vault.data_keys (workspace_id, subject, version, master_key_id, wrapped)
             values ($1, $2, 1, $3, $4) on conflict do nothing",
        )
        .bind(workspace)
        .bind(subject)
        .bind(self.master.id())
        .bind(wrapped)
        .execute(&self.pool)
        .await?;
        Ok(1)
    }

    pub(crate) async fn key(&self, workspace: Uuid, subject: &str, version: i32) -> Result<Key, VaultError> {
        let slot = (workspace, subject.to_owned(), version);
        if let Some(key) = self.keys.get(&slot).await {
            return Ok(key);
        }
        let row = sqlx::query(
            "select wrapped, destroyed_at is not null as destroyed from vault.data_keys
              where workspace_id = $1 and subject = $2 and version = $3",
        )
        .bind(workspace)
        .bind(subject)
        .bind(version)
        .fetch_optional(&self.pool)
        .await?
        .ok_or(VaultError::Erased)?;
        if row.try_get("destroyed")? {
            return Err(VaultError::Erased);
        }
        let key = self.master.unwrap(&aad(workspace, subject, version), row.try_get("wrapped")?)?;
        self.keys.insert(slot, key.clone()).await;
        Ok(key)
    }
}

/// A wrapped key opens only in the row it was written for.
fn aad(workspace: Uuid, subject: &str, version: i32) -> String {
    format!("apiq data key|{workspace}|{subject}|{version}")
}
