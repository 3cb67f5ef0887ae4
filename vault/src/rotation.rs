//! A workspace's new key version: prepared, made active, and everything older moved under it, a few rows at a time.
//!
//! Nothing here decides: the log says which version is active, and each function may be called again after a crash or by
//! two nodes at once. Values stay readable all the time, because every version opens until nothing needs it.

use chrono::{DateTime, Utc};
use domain::ids::WorkspaceId;
use sqlx::{FromRow, Postgres, Row, Transaction};
use uuid::Uuid;

use crate::{
    Vault, VaultError, cipher,
    credentials::{self, key_aad},
    keyring::{self, Wrapped},
};

/// A version of a workspace's key, without the key.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct KeyRow {
    pub version: i32,
    /// The first 16 bytes of its SHA-256, hex.
    pub key_id: String,
    pub master_key_id: String,
    /// `pending`, `active`, `retired` or `destroyed`.
    pub status: String,
    /// What it wraps now.
    pub wraps: i64,
    /// What it has wrapped in its life.
    pub uses: i64,
    /// Of those, what could still be opened when it was destroyed, and cannot any more.
    pub erased: i64,
    pub created_at: DateTime<Utc>,
    pub retired_at: Option<DateTime<Utc>>,
    pub destroyed_at: Option<DateTime<Utc>>,
}

/// How far a rotation has come: keys that are wrapped by what wraps from now on, of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Progress {
    pub done: i64,
    pub total: i64,
    /// Credentials with a version under it.
    pub secrets: i64,
}

impl Vault {
    /// Every version of the workspace's key, oldest first; made when there is none yet.
    pub async fn workspace_keys(&self, workspace: WorkspaceId) -> Result<Vec<KeyRow>, VaultError> {
        self.keyring.workspaces.active(workspace.0).await?;
        let rows = sqlx::query_as(
            "select k.version, k.key_id, k.master_key_id, k.status, k.uses, k.erased, k.created_at, k.retired_at,
                    k.destroyed_at,
                    (select count(*) from vault.data_keys d where d.workspace_id = k.workspace_id
                        and coalesce(d.workspace_key_version, 1) = k.version and d.destroyed_at is null)
                  + (select count(*) from vault.credential_values c where c.workspace_id = k.workspace_id
                        and coalesce(c.workspace_key_version, 1) = k.version and c.destroyed_at is null) as wraps
               from vault.workspace_keys k where k.workspace_id = $1 order by k.version",
        );
        Ok(rows.bind(workspace.0).fetch_all(&self.pool).await?)
    }

    /// The next version, which wraps nothing before it is made active. The same again until then.
    pub async fn prepare_key(&self, workspace: WorkspaceId) -> Result<KeyRow, VaultError> {
        loop {
            let rows = self.workspace_keys(workspace).await?;
            let next = rows.iter().map(|row| row.version).max().unwrap_or(0) + 1;
            if let Some(row) = rows.into_iter().find(|row| row.status == "pending") {
                return Ok(row);
            }
            self.keyring.workspaces.add(workspace.0, next, "pending").await?;
        }
    }

    /// From now on this version wraps, and every older one only opens; nothing is moved away from those in `doomed`, which
    /// are to be erased. Does nothing when it does already.
    pub async fn activate_key(&self, workspace: WorkspaceId, version: i32, doomed: &[i32]) -> Result<(), VaultError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "update vault.workspace_keys
                set status = 'retired', retired_at = now(), doomed = version = any($3), settled = false,
                    doomed_at = case when version = any($3) then clock_timestamp() end
              where workspace_id = $1 and status = 'active' and version < $2
                and exists (select from vault.workspace_keys n
                             where n.workspace_id = $1 and n.version = $2 and n.status = 'pending')",
        )
        .bind(workspace.0)
        .bind(version)
        .bind(doomed)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "update vault.workspace_keys set status = 'active', settled = false
              where workspace_id = $1 and version = $2 and status = 'pending'",
        )
        .bind(workspace.0)
        .bind(version)
        .execute(&mut *tx)
        .await?;
        // One that was retired before is doomed as well.
        sqlx::query(
            "update vault.workspace_keys set doomed = true, doomed_at = clock_timestamp()
              where workspace_id = $1 and version = any($2) and status = 'retired' and not doomed",
        )
        .bind(workspace.0)
        .bind(doomed)
        .execute(&mut *tx)
        .await?;
        if !doomed.is_empty() {
            // Every node looks again which key it seals with.
            sqlx::query("update vault.epoch set epoch = epoch + 1").execute(&mut *tx).await?;
        }
        tx.commit().await?;
        match doomed.is_empty() {
            true => self.keyring.workspaces.moved(workspace.0).await,
            false => self.keyring.forget(),
        }
        Ok(())
    }

    /// How much of the workspace's is under the active version.
    pub async fn rotation_progress(&self, workspace: WorkspaceId) -> Result<Progress, VaultError> {
        let progress = sqlx::query_as(
            "with a as (select version from vault.workspace_keys where workspace_id = $1 and status = 'active'),
                  k as (select workspace_key_version as by, null::uuid as credential from vault.data_keys
                         where workspace_id = $1 and destroyed_at is null
                        union all
                        select workspace_key_version, credential_id from vault.credential_values
                         where workspace_id = $1 and destroyed_at is null)
             select count(*) filter (where by = (select version from a)) as done, count(*) as total,
                    count(distinct credential) filter (where by = (select version from a)) as secrets
               from k",
        );
        Ok(progress.bind(workspace.0).fetch_one(&self.pool).await?)
    }

    /// Moves up to `most` data keys under the active version, one short transaction for them. 0: nothing is left.
    pub async fn rewrap_some(&self, workspace: WorkspaceId, most: i64) -> Result<u64, VaultError> {
        let moved = self.rewrap_data_keys(workspace.0, most).await?;
        if moved > 0 {
            return Ok(moved);
        }
        self.rewrap_credentials(workspace, most).await
    }

    async fn rewrap_data_keys(&self, workspace: Uuid, most: i64) -> Result<u64, VaultError> {
        self.move_data_keys(
            "select subject, version, workspace_key_version, master_key_id, wrapped, false as destroyed
               from vault.data_keys
              where workspace_id = $1 and destroyed_at is null and workspace_key_version is distinct from $2
                and coalesce(workspace_key_version, 1) not in
                    (select k.version from vault.workspace_keys k where k.workspace_id = $1 and k.doomed)
              order by subject, version limit $3",
            workspace,
            most,
        )
        .await
    }

    /// Brings data keys that the master key itself wraps under the workspace's key.
    pub(crate) async fn convert_old_data_keys(&self, workspace: Uuid, most: i64) -> Result<u64, VaultError> {
        self.move_data_keys(
            "select subject, version, workspace_key_version, master_key_id, wrapped, false as destroyed
               from vault.data_keys
              where workspace_id = $1 and destroyed_at is null and workspace_key_version is null and $2 > 0
                and 1 not in (select k.version from vault.workspace_keys k where k.workspace_id = $1 and k.doomed)
              order by subject, version limit $3",
            workspace,
            most,
        )
        .await
    }

    async fn move_data_keys(&self, select: &'static str, workspace: Uuid, most: i64) -> Result<u64, VaultError> {
        let (active, key) = self.keyring.workspaces.active(workspace).await?;
        let rows = sqlx::query(select).bind(workspace).bind(active).bind(most).fetch_all(&self.pool).await?;
        let (mut subjects, mut versions, mut olds, mut news) = (vec![], vec![], vec![], vec![]);
        for row in rows {
            let (subject, version): (String, i32) = (row.try_get("subject")?, row.try_get("version")?);
            let stored = Wrapped::of(Some(&row))?;
            let data = self.keyring.unwrap(workspace, &subject, version, &stored).await?;
            let aad = keyring::aad(workspace, &subject, version, active);
            news.push(cipher::wrap(&key, aad.as_bytes(), &data[..])?);
            olds.push(stored.wrapped);
            subjects.push(subject);
            versions.push(version);
        }
        if subjects.is_empty() {
            return Ok(0);
        }
        let Some(mut tx) = self.while_active(workspace, active).await? else { return Ok(1) };
        let moved = sqlx::query(
            "update vault.data_keys d set wrapped = n.new, workspace_key_version = $2, master_key_id = null
               from unnest($3::text[], $4::int[], $5::bytea[], $6::bytea[]) as n (subject, version, old, new)
              where d.workspace_id = $1 and d.subject = n.subject and d.version = n.version and d.wrapped = n.old",
        )
        .bind(workspace)
        .bind(active)
        .bind(subjects)
        .bind(versions)
        .bind(olds)
        .bind(news)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        used(tx, workspace, active, moved).await?;
        // Somebody else moved them: ask again.
        Ok(moved.max(1))
    }

    async fn rewrap_credentials(&self, workspace: WorkspaceId, most: i64) -> Result<u64, VaultError> {
        let (active, key) = self.keyring.workspaces.active(workspace.0).await?;
        let rows = sqlx::query(
            "select credential_id, version, workspace_key_version, wrapped_key, key_version, nonce, ciphertext
               from vault.credential_values
              where workspace_id = $1 and destroyed_at is null and workspace_key_version is distinct from $2
                and coalesce(workspace_key_version, 1) not in
                    (select k.version from vault.workspace_keys k where k.workspace_id = $1 and k.doomed)
              order by credential_id, version limit $3",
        );
        let rows = rows.bind(workspace.0).bind(active).bind(most).fetch_all(&self.pool).await?;
        let (mut ids, mut versions, mut olds) = (vec![], vec![], vec![]);
        let (mut keys, mut nonces, mut texts) = (vec![], vec![], vec![]);
        for row in &rows {
            let (id, version): (Uuid, i32) = (row.try_get("credential_id")?, row.try_get("version")?);
            let old: Vec<u8> = row.try_get("ciphertext")?;
            let (data, nonce, text) = match row.try_get::<Option<i32>, _>("workspace_key_version")? {
                Some(by) => {
                    let opened = self.keyring.workspaces.key(workspace.0, by).await?;
                    let aad = key_aad(workspace, id.into(), version, by);
                    let data = cipher::unwrap(&opened, aad.as_bytes(), row.try_get("wrapped_key")?)?;
                    (data, row.try_get::<Vec<u8>, _>("nonce")?, old.clone())
                }
                // The old form, under the workspace's data key: it gets a key of its own.
                None => match self.open_old(workspace, id.into(), version, row).await {
                    Ok(plain) => {
                        let data = cipher::random_key();
                        let aad = credentials::aad(workspace, id.into(), version);
                        let (nonce, text) = cipher::encrypt(&data, aad.as_bytes(), &plain)?;
                        (data, nonce.to_vec(), text)
                    }
                    Err(VaultError::Erased) => {
                        self.destroy_version(workspace, id.into(), version).await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            keys.push(cipher::wrap(&key, key_aad(workspace, id.into(), version, active).as_bytes(), &data[..])?);
            nonces.push(nonce);
            texts.push(text);
            ids.push(id);
            versions.push(version);
            olds.push(old);
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let Some(mut tx) = self.while_active(workspace.0, active).await? else { return Ok(1) };
        let moved = sqlx::query(
            "update vault.credential_values c
                set wrapped_key = n.key, nonce = n.nonce, ciphertext = n.text, workspace_key_version = $2
               from unnest($3::uuid[], $4::int[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bytea[])
                      as n (id, version, old, key, nonce, text)
              where c.workspace_id = $1 and c.credential_id = n.id and c.version = n.version
                and c.ciphertext = n.old and c.destroyed_at is null and c.workspace_key_version is distinct from $2",
        )
        .bind(workspace.0)
        .bind(active)
        .bind(ids)
        .bind(versions)
        .bind(olds)
        .bind(keys)
        .bind(nonces)
        .bind(texts)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        used(tx, workspace.0, active, moved).await?;
        Ok(moved.max(1))
    }

    /// A transaction in which this version stays the active one; `None` when it is not any more.
    async fn while_active(
        &self,
        workspace: Uuid,
        version: i32,
    ) -> Result<Option<Transaction<'static, Postgres>>, VaultError> {
        let mut tx = self.pool.begin().await?;
        let held = sqlx::query(
            "select 1 from vault.workspace_keys
              where workspace_id = $1 and version = $2 and status = 'active' for update",
        );
        let held = held.bind(workspace).bind(version).fetch_optional(&mut *tx).await?;
        if held.is_none() {
            self.keyring.workspaces.moved(workspace).await;
        }
        Ok(held.map(|_| tx))
    }

    /// Workspaces whose key's rows say what the log does not yet, or that have a rotation to end. Those that were not looked
    /// at for the longest time come first, so that none that stays as it is keeps another one waiting.
    pub async fn unsettled_keys(&self, most: i64) -> Result<Vec<WorkspaceId>, VaultError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "with next as (select workspace_id from vault.workspace_keys
                            where workspace_id <> $2 and (status in ('pending', 'retired') or not settled)
                              -- Whoever has just made one tells so.
                              and (status = 'retired' or created_at < now() - interval '1 minute')
                            group by 1 order by max(looked_at) nulls first, 1 limit $1),
                  seen as (update vault.workspace_keys k set looked_at = clock_timestamp() from next
                            where k.workspace_id = next.workspace_id)
             select workspace_id from next",
        )
        .bind(most)
        .bind(Uuid::nil())
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(WorkspaceId).collect())
    }

    /// The log tells now what these rows say. A row that has changed since stays unsettled.
    pub async fn settled_keys(&self, workspace: WorkspaceId, rows: &[KeyRow]) -> Result<(), VaultError> {
        let versions: Vec<i32> = rows.iter().map(|row| row.version).collect();
        let of = |field: fn(&KeyRow) -> &String| rows.iter().map(|row| field(row).clone()).collect::<Vec<_>>();
        sqlx::query(
            "update vault.workspace_keys k set settled = true
               from unnest($2::int[], $3::text[], $4::text[]) as n (version, status, master)
              where k.workspace_id = $1 and k.version = n.version and k.status = n.status
                and k.master_key_id = n.master and not k.settled",
        )
        .bind(workspace.0)
        .bind(versions)
        .bind(of(|row| &row.status))
        .bind(of(|row| &row.master_key_id))
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

async fn used(
    mut tx: Transaction<'static, Postgres>,
    workspace: Uuid,
    version: i32,
    count: u64,
) -> Result<(), VaultError> {
    sqlx::query("update vault.workspace_keys set uses = uses + $3 where workspace_id = $1 and version = $2")
        .bind(workspace)
        .bind(version)
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await?;
    Ok(tx.commit().await?)
}
