//! Clients' idempotency keys: claimed in the append's own transaction, answered from the stored response.
//!
//! The response is an opaque text here: whoever keeps it has sealed it before, since answers hold what the log seals.

use sqlx::Row;
use uuid::Uuid;

use crate::EventStore;

/// Keys are forgotten after this long.
const LIFETIME: &str = "24 hours";

/// A key that the append takes together with its events.
#[derive(Debug, Clone)]
pub struct Claim {
    pub key: String,
    /// SHA-256 of method, path and body, hex.
    pub request_hash: String,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub request_hash: String,
    /// Status and sealed body. Absent while the first request is under way, or when its process died after the append.
    pub answer: Option<(u16, String)>,
}

impl EventStore {
    pub async fn remembered(&self, workspace: Uuid, key: &str) -> Result<Option<Remembered>, sqlx::Error> {
        let row = sqlx::query(&format!(
            "select request_hash, status, response from log.idempotency_keys
              where workspace_id = $1 and key = $2 and created_at > now() - interval '{LIFETIME}'"
        ))
        .bind(workspace)
        .bind(key)
        .fetch_optional(self.pool())
        .await?;
        row.map(|row| {
            let status: Option<i32> = row.try_get("status")?;
            let response: Option<String> = row.try_get("response")?;
            let answer = status.zip(response).map(|(s, r)| (u16::try_from(s).unwrap_or(500), r));
            Ok(Remembered { request_hash: row.try_get("request_hash")?, answer })
        })
        .transpose()
    }

    /// Keeps the sealed answer, of a claimed key or of a request that ended without an append (an error).
    pub async fn remember(
        &self,
        workspace: Uuid,
        claim: &Claim,
        status: u16,
        response: &str,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "insert into log.idempotency_keys (workspace_id, key, request_hash, status, response)
             values ($1, $2, $3, $4, $5)
             on conflict (workspace_id, key) do update set status = excluded.status, response = excluded.response
             where idempotency_keys.request_hash = excluded.request_hash and idempotency_keys.response is null",
        )
        .bind(workspace)
        .bind(&claim.key)
        .bind(&claim.request_hash)
        .bind(i32::from(status))
        .bind(response)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Forgets keys past their lifetime.
    pub async fn sweep_idempotency_keys(&self) -> Result<u64, sqlx::Error> {
        let sql = format!("delete from log.idempotency_keys where created_at < now() - interval '{LIFETIME}'");
        Ok(sqlx::query(&sql).execute(self.pool()).await?.rows_affected())
    }
}
