//! A new master key: workspaces' keys are wrapped anew one by one, and what an older build has wrapped directly gets the
//! form of today. Everything opens before, during and after it; a crash loses nothing but time.

use domain::ids::WorkspaceId;
use serde::Serialize;
use sqlx::{Connection, PgConnection, Row, postgres::PgConnectOptions};
use uuid::Uuid;

use crate::{Vault, VaultError, tokens, workspace_keys};

/// Held by whoever rotates; gone with its connection.
const LOCK: i64 = 0x6170_6971_6d61_7374;

/// How far the installation's keys are under the present master key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MasterProgress {
    /// The key that wraps now.
    pub key_id: String,
    /// Where it is: `local`, `aws-kms`, `vault-transit`.
    pub provider: &'static str,
    /// Keys that the present one wraps, of all that a master key wraps.
    pub done: i64,
    pub total: i64,
    /// Does somebody rotate at this moment?
    pub under_way: bool,
}

/// The right to rotate the master key: one on the whole installation.
pub struct MasterRotation {
    vault: Vault,
    connection: PgConnection,
}

impl Vault {
    /// Of the whole installation, or of the keys of some workspaces alone.
    pub async fn master_progress(&self, of: Option<&[WorkspaceId]>) -> Result<MasterProgress, VaultError> {
        let of: Option<Vec<Uuid>> = of.map(|of| of.iter().map(|workspace| workspace.0).collect());
        let row = sqlx::query(
            "with k as (select master_key_id as id, false as old from vault.workspace_keys
                         where status <> 'destroyed' and ($3::uuid[] is null or workspace_id = any($3))
                        union all
                        select master_key_id, true from vault.data_keys
                         where workspace_key_version is null and destroyed_at is null
                           and ($3::uuid[] is null or workspace_id = any($3))
                        union all
                        select master_key_id, false from vault.signing_keys where $3::uuid[] is null)
             select count(*) filter (where id = $1 and not old) as done, count(*) as total,
                    exists (select from pg_locks where locktype = 'advisory' and granted
                               and database = (select oid from pg_database where datname = current_database())
                               and classid::bigint = $2 >> 32 and objid::bigint = $2 & 4294967295 and objsubid = 1)
                      as under_way
               from k",
        )
        .bind(self.master().id())
        .bind(LOCK)
        .bind(of)
        .fetch_one(&self.pool)
        .await?;
        Ok(MasterProgress {
            key_id: self.master().id().to_owned(),
            provider: self.master().provider(),
            done: row.try_get("done")?,
            total: row.try_get("total")?,
            under_way: row.try_get("under_way")?,
        })
    }

    /// `None`: somebody else rotates.
    pub async fn begin_master_rotation(&self, database_url: &str) -> Result<Option<MasterRotation>, VaultError> {
        let options = database_url.parse::<PgConnectOptions>()?.application_name("apiq-rotate-master");
        let mut connection = PgConnection::connect_with(&options).await?;
        let taken: bool =
            sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut connection).await?;
        Ok(taken.then(|| MasterRotation { vault: self.clone(), connection }))
    }

    /// Versions that the log wants to be erased with what they wrap, and that are still there.
    async fn doomed_keys(&self, workspace: WorkspaceId) -> Result<Vec<i32>, VaultError> {
        let doomed = "select version from vault.workspace_keys
                       where workspace_id = $1 and doomed and status = 'retired' order by version";
        Ok(sqlx::query_scalar(doomed).bind(workspace.0).fetch_all(&self.pool).await?)
    }

    /// Moves one workspace's keys under the present master key, in short steps.
    pub async fn adopt_master(&self, workspace: WorkspaceId) -> Result<(), VaultError> {
        let stale = "select version, master_key_id, wrapped from vault.workspace_keys
                      where workspace_id = $1 and status <> 'destroyed' and master_key_id <> $2";
        let master = self.master();
        for row in sqlx::query(stale).bind(workspace.0).bind(master.id()).fetch_all(&self.pool).await? {
            let (version, old): (i32, String) = (row.try_get("version")?, row.try_get("master_key_id")?);
            let aad = workspace_keys::aad(workspace.0, version);
            let masters = self.keyring.workspaces.masters();
            let key = masters.unwrap(&old, &aad, row.try_get::<Vec<u8>, _>("wrapped")?.as_slice()).await?;
            sqlx::query(
                "update vault.workspace_keys set wrapped = $4, master_key_id = $5, settled = false
                  where workspace_id = $1 and version = $2 and master_key_id = $3 and status <> 'destroyed'",
            )
            .bind(workspace.0)
            .bind(version)
            .bind(old)
            .bind(master.wrap(&aad, &key[..]).await?)
            .bind(master.id())
            .execute(&self.pool)
            .await?;
        }
        Ok(())
    }
}

impl MasterRotation {
    /// Moves the next keys; gives the workspace they belong to, `None` when all are done.
    pub async fn step(&mut self) -> Result<Option<WorkspaceId>, VaultError> {
        // Whoever has lost the lock does no harm by going on, but need not.
        self.connection.ping().await?;
        let vault = &self.vault;
        let next: Option<Uuid> = sqlx::query_scalar(
            "select workspace_id from vault.workspace_keys where status <> 'destroyed' and master_key_id <> $1
             union all
             select workspace_id from vault.data_keys where workspace_key_version is null and destroyed_at is null
             limit 1",
        )
        .bind(vault.master().id())
        .fetch_optional(&vault.pool)
        .await?;
        let Some(workspace) = next.map(WorkspaceId) else {
            vault.rewrap_signing_keys().await?;
            return Ok(None);
        };
        // What the log wants to be erased is not carried over to the new master key.
        for version in vault.doomed_keys(workspace).await? {
            vault.erase_key(workspace, version).await?;
        }
        vault.adopt_master(workspace).await?;
        while vault.convert_old_data_keys(workspace.0, 100).await? > 0 {}
        Ok(Some(workspace))
    }
}

impl Vault {
    async fn rewrap_signing_keys(&self) -> Result<(), VaultError> {
        let stale = "select kid, master_key_id, wrapped from vault.signing_keys where master_key_id <> $1";
        let master = self.master();
        for row in sqlx::query(stale).bind(master.id()).fetch_all(&self.pool).await? {
            let (kid, old): (String, String) = (row.try_get("kid")?, row.try_get("master_key_id")?);
            let aad = tokens::aad(&kid);
            let masters = self.keyring.workspaces.masters();
            let seed = masters.unwrap(&old, &aad, row.try_get::<Vec<u8>, _>("wrapped")?.as_slice()).await?;
            sqlx::query(
                "update vault.signing_keys set wrapped = $3, master_key_id = $4 where kid = $1 and master_key_id = $2",
            )
            .bind(&kid)
            .bind(&old)
            .bind(master.wrap(&aad, &seed[..]).await?)
            .bind(master.id())
            .execute(&self.pool)
            .await?;
        }
        Ok(())
    }
}
