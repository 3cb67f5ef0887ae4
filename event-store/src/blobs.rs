//! Big things: content-addressed, compressed, stored before the event that names them.

use sha2::{Digest, Sha256};
use sqlx::{PgExecutor, Row, postgres::PgRow};
use uuid::Uuid;

use crate::EventStore;

/// No blob opens to more than this.
const MAX_SIZE: i64 = 256 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("the blob store cannot be reached: {0}")]
    Database(#[from] sqlx::Error),
    #[error("there is no blob {0}")]
    Missing(String),
    #[error("blob {hash} is damaged: {reason}")]
    Damaged { hash: String, reason: String },
}

impl EventStore {
    /// Stores bytes and gives their SHA-256 (hex). Storing the same bytes again changes nothing.
    pub async fn put_blob(&self, workspace: Uuid, bytes: &[u8]) -> Result<String, BlobError> {
        let hash = hex::encode(Sha256::digest(bytes));
        let damaged = |e: std::io::Error| BlobError::Damaged { hash: hash.clone(), reason: e.to_string() };
        let content = zstd::encode_all(bytes, 3).map_err(damaged)?;
        sqlx::query(
            "insert into log.blobs (hash, workspace_id, size, content) values ($1, $2, $3, $4)
             on conflict (hash) do nothing",
        )
        .bind(&hash)
        .bind(workspace)
        .bind(i64::try_from(bytes.len()).unwrap_or(i64::MAX))
        .bind(content)
        .execute(self.pool())
        .await?;
        Ok(hash)
    }

    pub async fn blob(&self, hash: &str) -> Result<Vec<u8>, BlobError> {
        read_blob(self.pool(), hash).await
    }
}

/// Opens a blob and checks that its bytes are what the hash says. Works on any pool whose role may read the log.
pub async fn read_blob(executor: impl PgExecutor<'_>, hash: &str) -> Result<Vec<u8>, BlobError> {
    let row = sqlx::query("select size, content from log.blobs where hash = $1")
        .bind(hash)
        .fetch_optional(executor)
        .await?
        .ok_or_else(|| BlobError::Missing(hash.to_owned()))?;
    opened(hash, &row)
}

/// Blobs by hash in one query: what is there, each opened and checked.
pub async fn read_blobs(
    executor: impl PgExecutor<'_>,
    hashes: &[String],
) -> Result<Vec<(String, Result<Vec<u8>, BlobError>)>, sqlx::Error> {
    let rows = sqlx::query("select hash, size, content from log.blobs where hash = any($1)")
        .bind(hashes)
        .fetch_all(executor)
        .await?;
    rows.iter()
        .map(|row| {
            let hash: String = row.try_get("hash")?;
            let bytes = opened(&hash, row);
            Ok((hash, bytes))
        })
        .collect()
}

fn opened(hash: &str, row: &PgRow) -> Result<Vec<u8>, BlobError> {
    let size: i64 = row.try_get("size")?;
    let content: Vec<u8> = row.try_get("content")?;
    let damaged = |reason: String| BlobError::Damaged { hash: hash.to_owned(), reason };
    if !(0..=MAX_SIZE).contains(&size) {
        return Err(damaged(format!("{size} bytes are too many")));
    }
    let bytes = zstd::bulk::decompress(&content, size as usize).map_err(|e| damaged(e.to_string()))?;
    if hex::encode(Sha256::digest(&bytes)) != hash {
        return Err(damaged("its bytes have another hash".into()));
    }
    Ok(bytes)
}
