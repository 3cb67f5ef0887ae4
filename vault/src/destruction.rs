//! The end of keys and values: what is destroyed here cannot be opened by anybody any more.
//!
//! Rows stay without their bytes, so that a read says `erased` and a number is never used twice.

use std::time::Duration;

use domain::ids::{CredentialId, WorkspaceId};
use sqlx::{PgExecutor, Postgres, Transaction};
use uuid::Uuid;

use crate::{Vault, VaultError, keyring::LOOK};

/// From the moment at which a version is doomed: every node has looked by then, and appended what it had sealed before.
const GRACE: Duration = Duration::from_secs(LOOK.as_secs() + 2);

const NEEDED: &str = "
    select (select count(*) from vault.data_keys
             where workspace_id = $1 and coalesce(workspace_key_version, 1) = $2 and destroyed_at is null)
         + (select count(*) from vault.credential_values
             where workspace_id = $1 and coalesce(workspace_key_version, 1) = $2 and destroyed_at is null)";

impl Vault {
    /// Destroys the retired versions that nothing needs any more.
    pub async fn destroy_spent_keys(&self, workspace: WorkspaceId) -> Result<(), VaultError> {
        let retired = "select version from vault.workspace_keys where workspace_id = $1 and status = 'retired'";
        let versions: Vec<i32> = sqlx::query_scalar(retired).bind(workspace.0).fetch_all(&self.pool).await?;
        for version in versions {
            let Some(mut tx) = self.retired(workspace.0, version).await? else { continue };
            // Nothing can come to a retired version, so this count only falls.
            let needed: i64 = sqlx::query_scalar(NEEDED).bind(workspace.0).bind(version).fetch_one(&mut *tx).await?;
            if needed == 0 {
                self.destroy(tx, workspace.0, version, 0).await?;
            }
        }
        Ok(())
    }

    /// Destroys a doomed version with everything that it wraps: sealed values, credentials, people's keys. Waits for some
    /// seconds before that, if it must: other nodes may not have heard yet, and what they seal meanwhile should outlive it.
    pub async fn erase_key(&self, workspace: WorkspaceId, version: i32) -> Result<(), VaultError> {
        let doomed = "select extract(epoch from clock_timestamp() - doomed_at)::float8 from vault.workspace_keys
                       where workspace_id = $1 and version = $2 and status = 'retired'";
        let doomed = sqlx::query_scalar(doomed).bind(workspace.0).bind(version);
        let Some(since): Option<Option<f64>> = doomed.fetch_optional(&self.pool).await? else { return Ok(()) };
        let since = Duration::try_from_secs_f64(since.unwrap_or(f64::MAX)).unwrap_or(GRACE);
        tokio::time::sleep(GRACE.saturating_sub(since)).await;
        let Some(mut tx) = self.retired(workspace.0, version).await? else { return Ok(()) };
        let mut erased = 0;
        for statement in [
            "update vault.data_keys set destroyed_at = now(), wrapped = ''
              where workspace_id = $1 and coalesce(workspace_key_version, 1) = $2 and destroyed_at is null",
            "update vault.credential_values
                set destroyed_at = now(), ciphertext = '', nonce = '', wrapped_key = null, recorded = false
              where workspace_id = $1 and coalesce(workspace_key_version, 1) = $2 and destroyed_at is null",
        ] {
            let done = sqlx::query(statement).bind(workspace.0).bind(version).execute(&mut *tx).await?;
            erased += i64::try_from(done.rows_affected()).unwrap_or(i64::MAX);
        }
        self.destroy(tx, workspace.0, version, erased).await
    }

    /// Holds a retired version's row; `None` when it is none.
    async fn retired(
        &self,
        workspace: Uuid,
        version: i32,
    ) -> Result<Option<Transaction<'static, Postgres>>, VaultError> {
        let mut tx = self.pool.begin().await?;
        let held = sqlx::query(
            "select 1 from vault.workspace_keys
              where workspace_id = $1 and version = $2 and status = 'retired' for update",
        );
        let held = held.bind(workspace).bind(version).fetch_optional(&mut *tx).await?;
        Ok(held.map(|_| tx))
    }

    async fn destroy(
        &self,
        mut tx: Transaction<'static, Postgres>,
        workspace: Uuid,
        version: i32,
        erased: i64,
    ) -> Result<(), VaultError> {
        sqlx::query(
            "update vault.workspace_keys
                set status = 'destroyed', wrapped = '', erased = $3, destroyed_at = now(), settled = false
              where workspace_id = $1 and version = $2",
        )
        .bind(workspace)
        .bind(version)
        .bind(erased)
        .execute(&mut *tx)
        .await?;
        sqlx::query("update vault.epoch set epoch = epoch + 1").execute(&mut *tx).await?;
        tx.commit().await?;
        self.keyring.forget();
        Ok(())
    }

    /// Destroys the ciphertext of every version of a credential, and lets no other one come. Gives how many versions the
    /// log has not been told of.
    pub async fn destroy_credential(
        &self,
        workspace: WorkspaceId,
        credential: CredentialId,
    ) -> Result<u64, VaultError> {
        let mut tx = self.pool.begin().await?;
        // Whoever is storing a value has this row: its value is seen by the next statement, or is refused.
        sqlx::query(
            "insert into vault.credentials as c (credential_id, workspace_id, destroyed_at) values ($1, $2, now())
             on conflict (credential_id) do update set destroyed_at = coalesce(c.destroyed_at, now())
              where c.workspace_id = excluded.workspace_id",
        )
        .bind(credential.0)
        .bind(workspace.0)
        .execute(&mut *tx)
        .await?;
        blank(&mut *tx, workspace, credential, None).await?;
        tx.commit().await?;
        let untold: i64 = sqlx::query_scalar(
            "select count(*) from vault.credential_values
              where credential_id = $1 and workspace_id = $2 and destroyed_at is not null and not recorded",
        )
        .bind(credential.0)
        .bind(workspace.0)
        .fetch_one(&self.pool)
        .await?;
        Ok(untold.unsigned_abs())
    }

    /// Destroys one version's ciphertext.
    pub async fn destroy_version(
        &self,
        workspace: WorkspaceId,
        credential: CredentialId,
        version: i32,
    ) -> Result<(), VaultError> {
        blank(&self.pool, workspace, credential, Some(version)).await
    }

    /// The log has been told that these versions of a credential were destroyed; `None`: that all of them were.
    pub async fn destruction_recorded(
        &self,
        workspace: WorkspaceId,
        credential: CredentialId,
        versions: Option<&[i32]>,
    ) -> Result<(), VaultError> {
        sqlx::query(
            "update vault.credential_values set recorded = true
              where credential_id = $1 and workspace_id = $2 and destroyed_at is not null and not recorded
                and ($3::int[] is null or version = any($3))",
        )
        .bind(credential.0)
        .bind(workspace.0)
        .bind(versions)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Credentials with versions that were destroyed a while ago and of which the log was not told: a process died. The ones
    /// that wait longest since the last look come first.
    pub async fn untold_destructions(
        &self,
        most: i64,
    ) -> Result<Vec<(WorkspaceId, CredentialId, Vec<i32>)>, VaultError> {
        let rows: Vec<(Uuid, Uuid, Vec<i32>)> = sqlx::query_as(
            "with next as (select credential_id from vault.credential_values
                            where destroyed_at < now() - interval '1 minute' and not recorded
                            group by 1 order by min(looked_at) nulls first, 1 limit $1),
                  seen as (update vault.credential_values v set looked_at = clock_timestamp() from next
                            where v.credential_id = next.credential_id and v.destroyed_at is not null and not v.recorded
                        returning v.workspace_id, v.credential_id, v.version)
             select workspace_id, credential_id, array_agg(version order by version) from seen group by 1, 2 order by 1, 2",
        )
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(ws, id, versions)| (WorkspaceId(ws), CredentialId(id), versions)).collect())
    }

    /// Credentials of a workspace with destroyed versions of which the log was not told yet.
    pub async fn untold_of(
        &self,
        workspace: WorkspaceId,
        most: i64,
    ) -> Result<Vec<(CredentialId, Vec<i32>)>, VaultError> {
        let rows: Vec<(Uuid, Vec<i32>)> = sqlx::query_as(
            "select credential_id, array_agg(version order by version) from vault.credential_values
              where workspace_id = $1 and destroyed_at is not null and not recorded group by 1 order by 1 limit $2",
        )
        .bind(workspace.0)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(id, versions)| (CredentialId(id), versions)).collect())
    }
}

async fn blank(
    executor: impl PgExecutor<'_>,
    workspace: WorkspaceId,
    credential: CredentialId,
    version: Option<i32>,
) -> Result<(), VaultError> {
    sqlx::query(
        "update vault.credential_values
            set destroyed_at = now(), ciphertext = '', nonce = '', wrapped_key = null
          where credential_id = $1 and workspace_id = $2 and destroyed_at is null
            and ($3::int is null or version = $3)",
    )
    .bind(credential.0)
    .bind(workspace.0)
    .bind(version)
    .execute(executor)
    .await?;
    Ok(())
}
