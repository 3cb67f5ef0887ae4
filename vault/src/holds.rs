//! Holds: while a command appends what it has sealed, the keys that it sealed with are not erased.
//!
//! A node may have an opened key that another one has just erased. So before an append the keys' rows are looked at, under
//! a lock that an erasure takes exclusively and everybody else shares; it is kept until the append is done. Then a value
//! is either in the log before its key is erased, or is not written at all.
//!
//! It is an advisory lock and not one on the rows: locking a row takes a transaction id, and the log's readers wait for
//! every transaction that has one. Commands of a workspace that append at about the same time share one hold.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use domain::{ids::WorkspaceId, sealed::SealedBy};
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::{Vault, VaultError};

/// A hold that is older takes nobody on: an erasure that waits gets its turn.
const OPEN: Duration = Duration::from_millis(50);
/// Workspaces remembered before the map is swept.
const SWEEP: usize = 1_000;

#[derive(Clone, Default)]
pub(crate) struct Holds(Arc<Mutex<HashMap<Uuid, Weak<Hold>>>>);

struct Hold {
    begun: Instant,
    inner: tokio::sync::Mutex<Inner>,
}

struct Inner {
    /// Ended, and the lock given back, when the last one lets go.
    tx: Transaction<'static, Postgres>,
    /// Looked at since the lock was taken: what was there then is there now.
    present: BTreeSet<SealedBy>,
}

/// While it lives, no key of the workspace is erased.
#[must_use = "keys can be erased again when this is dropped"]
pub struct Held(#[expect(dead_code, reason = "held, not read")] Arc<Hold>);

impl Vault {
    /// Before what these keys have sealed is written. `Erased`: one of them is not there any more; seal again.
    pub async fn hold(&self, workspace: WorkspaceId, keys: &BTreeSet<SealedBy>) -> Result<Held, VaultError> {
        let hold = match self.holds.join(workspace.0) {
            Some(hold) => hold,
            None => self.holds.begin(&self.pool, workspace.0).await?,
        };
        let mut inner = hold.inner.lock().await;
        let new: Vec<SealedBy> = keys.difference(&inner.present).cloned().collect();
        if !new.is_empty() {
            let gone: bool = sqlx::query_scalar(
                "select exists (select from vault.data_keys d join unnest($2::text[], $3::int[]) as k (subject, version)
                                  on d.subject = k.subject and d.version = k.version
                                 where d.workspace_id = $1 and d.destroyed_at is not null)",
            )
            .bind(workspace.0)
            .bind(new.iter().map(|key| key.subject.as_str()).collect::<Vec<_>>())
            .bind(new.iter().map(|key| key.version).collect::<Vec<_>>())
            .fetch_one(&mut *inner.tx)
            .await?;
            if gone {
                self.keyring.forget();
                return Err(VaultError::Erased);
            }
            inner.present.extend(new);
        }
        drop(inner);
        Ok(Held(hold))
    }
}

impl Holds {
    fn join(&self, workspace: Uuid) -> Option<Arc<Hold>> {
        let holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holds.get(&workspace).and_then(Weak::upgrade).filter(|hold| hold.begun.elapsed() < OPEN)
    }

    async fn begin(&self, pool: &PgPool, workspace: Uuid) -> Result<Arc<Hold>, VaultError> {
        let mut tx = pool.begin().await?;
        sqlx::query("select pg_advisory_xact_lock_shared(hashtextextended($1, 0))")
            .bind(lock_of(workspace))
            .execute(&mut *tx)
            .await?;
        let inner = tokio::sync::Mutex::new(Inner { tx, present: BTreeSet::new() });
        let hold = Arc::new(Hold { begun: Instant::now(), inner });
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if holds.len() >= SWEEP {
            holds.retain(|_, hold| hold.strong_count() > 0);
        }
        holds.insert(workspace, Arc::downgrade(&hold));
        Ok(hold)
    }
}

/// Waits until nobody holds the workspace's keys, and keeps everybody from it until the transaction ends.
pub(crate) async fn close(tx: &mut Transaction<'static, Postgres>, workspace: Uuid) -> Result<(), VaultError> {
    let lock = "select pg_advisory_xact_lock(hashtextextended($1, 0))";
    sqlx::query(lock).bind(lock_of(workspace)).execute(&mut **tx).await?;
    Ok(())
}

fn lock_of(workspace: Uuid) -> String {
    format!("apiq sealing|{workspace}")
}
