//! Values that the log does not name. A value is stored before the event that names it, so a lost race or a process that
//! dies in between leaves ciphertext that no destruction would ever find.

use domain::ids::{CredentialId, WorkspaceId};
use uuid::Uuid;

use crate::{Vault, VaultError};

/// Versions of a credential of which the vault does not know whether the log names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnamed {
    pub workspace: WorkspaceId,
    pub credential: CredentialId,
    pub versions: Vec<i32>,
}

impl Vault {
    /// The log names this version. `false`: its ciphertext is not there any more.
    pub async fn value_named(
        &self,
        workspace: WorkspaceId,
        credential: CredentialId,
        version: i32,
    ) -> Result<bool, VaultError> {
        let named = sqlx::query(
            "update vault.credential_values set named = true
              where credential_id = $1 and workspace_id = $2 and version = $3 and destroyed_at is null",
        );
        let named = named.bind(credential.0).bind(workspace.0).bind(version).execute(&self.pool).await?;
        Ok(named.rows_affected() == 1)
    }

    /// The log does not name this version and never will: its ciphertext is destroyed, and nothing is to be told.
    pub async fn discard_value(
        &self,
        workspace: WorkspaceId,
        credential: CredentialId,
        version: i32,
    ) -> Result<(), VaultError> {
        sqlx::query(
            "update vault.credential_values
                set destroyed_at = now(), ciphertext = '', nonce = '', wrapped_key = null, recorded = true
              where credential_id = $1 and workspace_id = $2 and version = $3 and destroyed_at is null and not named",
        )
        .bind(credential.0)
        .bind(workspace.0)
        .bind(version)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Those that were stored `minutes` ago or earlier, at most so many versions; the ones that wait longest come first.
    pub async fn unnamed_values(&self, minutes: i32, most: i64) -> Result<Vec<Unnamed>, VaultError> {
        let rows: Vec<(Uuid, Uuid, Vec<i32>)> = sqlx::query_as(
            "with next as (select credential_id, version from vault.credential_values
                            where not named and destroyed_at is null
                              and created_at <= now() - make_interval(mins => $1)
                            order by looked_at nulls first, credential_id, version limit $2),
                  seen as (update vault.credential_values v set looked_at = clock_timestamp() from next
                            where v.credential_id = next.credential_id and v.version = next.version
                        returning v.workspace_id, v.credential_id, v.version)
             select workspace_id, credential_id, array_agg(version order by version) from seen
              group by 1, 2 order by 1, 2",
        )
        .bind(minutes)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        let unnamed = |(workspace, credential, versions)| Unnamed {
            workspace: WorkspaceId(workspace),
            credential: CredentialId(credential),
            versions,
        };
        Ok(rows.into_iter().map(unnamed).collect())
    }
}
