//! Data keys: one for each workspace and subject, wrapped by the workspace's key, opened in memory.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use crate::{
    VaultError,
    cipher::{self, Key},
    master::MasterKeys,
    opened::Opened,
    workspace_keys::WorkspaceKeys,
};

type Slot = (Uuid, String, i32);

/// A key that was destroyed on another node, or will be, is forgotten here within this time.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Keyring {
    pool: PgPool,
    pub(crate) workspaces: WorkspaceKeys,
    keys: Opened<Slot, Key>,
    latest: Opened<(Uuid, String), i32>,
    /// When the epoch was looked at last, and what it was.
    seen: Arc<Mutex<(Option<Instant>, i64)>>,
}

impl Keyring {
    pub(crate) fn new(pool: PgPool, masters: MasterKeys) -> Self {
        Self {
            workspaces: WorkspaceKeys::new(pool.clone(), masters),
            pool,
            keys: Opened::new(),
            latest: Opened::new(),
            seen: Arc::default(),
        }
    }

    /// Every stored key must be one that these master keys open.
    pub(crate) async fn check_masters(&self) -> Result<(), VaultError> {
        let other: bool = sqlx::query_scalar(
            "select exists (select from vault.workspace_keys where status <> 'destroyed' and master_key_id <> all($1))
                 or exists (select from vault.data_keys
                             where workspace_key_version is null and destroyed_at is null and master_key_id <> all($1))
                 or exists (select from vault.signing_keys where master_key_id <> all($1))",
        )
        .bind(self.workspaces.masters().ids())
        .fetch_one(&self.pool)
        .await?;
        if other { Err(VaultError::MasterKeyWrong) } else { self.workspaces.masters().prove().await }
    }

    /// Forgets everything that was opened.
    pub(crate) fn forget(&self) {
        self.keys.forget();
        self.latest.forget();
        self.workspaces.forget();
    }

    /// Forgets everything when a key was destroyed somewhere, which it asks once a second at most.
    pub(crate) async fn look(&self) -> Result<(), VaultError> {
        let before = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.0.is_some_and(|at| at.elapsed() < LOOK) {
                return Ok(());
            }
            seen.0 = Some(Instant::now());
            seen.1
        };
        let epoch = sqlx::query_scalar::<_, i64>("select epoch from vault.epoch").fetch_one(&self.pool).await;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match epoch {
            Ok(epoch) => {
                // A slow look must not take back what a later one has seen.
                seen.1 = seen.1.max(epoch);
                if epoch > before {
                    self.forget();
                }
                Ok(())
            }
            Err(error) => {
                // The next one looks again.
                seen.0 = None;
                Err(error.into())
            }
        }
    }

    /// The key new values of a subject are sealed with; made when there is none yet.
    pub(crate) async fn current(&self, workspace: Uuid, subject: &str) -> Result<(i32, Key), VaultError> {
        self.look().await?;
        let slot = (workspace, subject.to_owned());
        let read_in = self.latest.generation();
        let version = match self.latest.get(&slot).await {
            Some(version) => version,
            None => {
                let version = self.latest_stored(workspace, subject).await?;
                self.latest.put(slot, version, read_in).await;
                version
            }
        };
        Ok((version, self.opened(workspace, subject, version).await?))
    }

    async fn latest_stored(&self, workspace: Uuid, subject: &str) -> Result<i32, VaultError> {
        let find = "select d.version, d.destroyed_at is not null as destroyed, coalesce(w.doomed, false) as doomed
                      from vault.data_keys d left join vault.workspace_keys w
                        on w.workspace_id = d.workspace_id and w.version = coalesce(d.workspace_key_version, 1)
                     where d.workspace_id = $1 and d.subject = $2 order by d.version desc limit 1";
        loop {
            let row = sqlx::query(find).bind(workspace).bind(subject).fetch_optional(&self.pool).await?;
            let mut next = 1;
            if let Some(row) = row {
                let version: i32 = row.try_get("version")?;
                match (row.try_get("destroyed")?, row.try_get("doomed")?) {
                    // A workspace goes on after its key was destroyed, and does not wait for that to happen; an erased
                    // person does not come back.
                    (true, _) | (_, true) if is_the_workspaces(subject) => next = version + 1,
                    (true, _) => return Err(VaultError::Erased),
                    (false, _) => return Ok(version),
                }
            }
            self.add(workspace, subject, next).await?;
        }
    }

    /// Two nodes at once: one key wins, both use it.
    async fn add(&self, workspace: Uuid, subject: &str, version: i32) -> Result<(), VaultError> {
        let (by, key) = self.workspaces.active(workspace).await?;
        let wrapped = cipher::wrap(&key, aad(workspace, subject, version, by).as_bytes(), &cipher::random_key()[..])?;
        let wrapping: i64 = sqlx::query_scalar(
            "with k as (update vault.workspace_keys set uses = uses + 1
                         where workspace_id = $1 and version = $2 and status = 'active' returning version),
                  i as (insert into vault.data_keys (workspace_id, subject, version, workspace_key_version, wrapped)
                        select $1, $3, $4, k.version, $5 from k on conflict do nothing)
             select count(*) from k",
        )
        .bind(workspace)
        .bind(by)
        .bind(subject)
        .bind(version)
        .bind(wrapped)
        .fetch_one(&self.pool)
        .await?;
        if wrapping == 0 {
            self.workspaces.moved(workspace).await;
        }
        Ok(())
    }

    pub(crate) async fn key(&self, workspace: Uuid, subject: &str, version: i32) -> Result<Key, VaultError> {
        self.look().await?;
        self.opened(workspace, subject, version).await
    }

    async fn opened(&self, workspace: Uuid, subject: &str, version: i32) -> Result<Key, VaultError> {
        let slot = (workspace, subject.to_owned(), version);
        if let Some(key) = self.keys.get(&slot).await {
            return Ok(key);
        }
        let read_in = self.keys.generation();
        let row = sqlx::query(
            "select wrapped, workspace_key_version, master_key_id, destroyed_at is not null as destroyed
               from vault.data_keys where workspace_id = $1 and subject = $2 and version = $3",
        )
        .bind(workspace)
        .bind(subject)
        .bind(version)
        .fetch_optional(&self.pool)
        .await?;
        let key = self.unwrap(workspace, subject, version, &Wrapped::of(row.as_ref())?).await?;
        self.keys.put(slot, key.clone(), read_in).await;
        Ok(key)
    }

    /// A data key as it is stored: under the workspace's key, or in the old form under the master key.
    pub(crate) async fn unwrap(
        &self,
        workspace: Uuid,
        subject: &str,
        version: i32,
        stored: &Wrapped,
    ) -> Result<Key, VaultError> {
        match (stored.by, &stored.master) {
            (Some(by), _) => {
                let key = self.workspaces.key(workspace, by).await?;
                cipher::unwrap(&key, aad(workspace, subject, version, by).as_bytes(), &stored.wrapped)
            }
            (None, Some(master)) => {
                let masters = self.workspaces.masters();
                masters.unwrap(master, &old_aad(workspace, subject, version), &stored.wrapped).await
            }
            (None, None) => Err(VaultError::Tampered),
        }
    }
}

/// A key as a row has it: `wrapped`, `workspace_key_version`, `master_key_id`, `destroyed`.
pub(crate) struct Wrapped {
    pub wrapped: Vec<u8>,
    /// Version of the workspace's key.
    pub by: Option<i32>,
    pub master: Option<String>,
}

impl Wrapped {
    /// `Erased` without a row, and of one that has lost its key.
    pub(crate) fn of(row: Option<&PgRow>) -> Result<Self, VaultError> {
        let row = row.ok_or(VaultError::Erased)?;
        if row.try_get("destroyed")? {
            return Err(VaultError::Erased);
        }
        Ok(Self {
            wrapped: row.try_get("wrapped")?,
            by: row.try_get("workspace_key_version")?,
            master: row.try_get("master_key_id")?,
        })
    }
}

/// Keys that are nobody's personally.
fn is_the_workspaces(subject: &str) -> bool {
    subject.starts_with("workspace:") || subject.starts_with("hash:")
}

/// A wrapped key opens only in the row it was written for.
pub(crate) fn aad(workspace: Uuid, subject: &str, version: i32, by: i32) -> String {
    format!("apiq data key|{workspace}|{subject}|{version}|{by}")
}

fn old_aad(workspace: Uuid, subject: &str, version: i32) -> String {
    format!("apiq data key|{workspace}|{subject}|{version}")
}
