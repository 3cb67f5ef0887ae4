//! Fetched API documents by workspace and URL: a cache beside the log, bounded in count and bytes.
//!
//! Each workspace has entries of its own, even of one URL: what others have fetched is not to be told by an answer that
//! comes at once. All times are the database's, so that nodes agree on what is fresh.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::{PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use crate::EventStore;

/// Longer URLs are not kept: the key must fit into an index.
const MAX_URL: usize = 2_048;
/// No entry opens to more than this.
const MAX_SIZE: i64 = 1024 * 1024 * 1024;

/// How much all workspaces together may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheBounds {
    pub entries: i64,
    /// Compressed bytes.
    pub bytes: i64,
}

/// An entry without its content.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedDocument {
    /// After redirects.
    pub final_url: String,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub hash: String,
    /// The server confirmed it within the time to live.
    pub is_fresh: bool,
}

/// What a server answered.
#[derive(Debug, Clone, Copy)]
pub struct FetchedDocument<'a> {
    pub final_url: &'a str,
    pub etag: Option<&'a str>,
    pub last_modified: Option<&'a str>,
    pub content_type: Option<&'a str>,
    pub bytes: &'a [u8],
}

/// How many entries, and how many compressed bytes they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheSize {
    pub entries: i64,
    pub bytes: i64,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct DocumentCache {
    pool: PgPool,
}

impl EventStore {
    pub fn documents(&self) -> DocumentCache {
        DocumentCache { pool: self.pool().clone() }
    }
}

impl DocumentCache {
    pub async fn find(
        &self,
        workspace: Uuid,
        url: &str,
        time_to_live: Duration,
    ) -> Result<Option<CachedDocument>, sqlx::Error> {
        let row = sqlx::query(
            "select final_url, etag, last_modified, hash, validated_at > now() - make_interval(secs => $3) as is_fresh
               from cache.documents where workspace_id = $1 and url = $2",
        )
        .bind(workspace)
        .bind(url)
        .bind(time_to_live.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(CachedDocument {
                final_url: row.try_get("final_url")?,
                etag: row.try_get("etag")?,
                last_modified: row.try_get("last_modified")?,
                hash: row.try_get("hash")?,
                is_fresh: row.try_get("is_fresh")?,
            })
        })
        .transpose()
    }

    /// The content of an entry that was found, and notes the use. `None`: it is gone, another one, or damaged.
    pub async fn open(&self, workspace: Uuid, url: &str, hash: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
        let row = sqlx::query(
            "update cache.documents set used_at = now(), uses = uses + 1
              where workspace_id = $1 and url = $2 and hash = $3 returning size, content",
        )
        .bind(workspace)
        .bind(url)
        .bind(hash)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let bytes = opened(&row)?.filter(|bytes| hex::encode(Sha256::digest(bytes)) == hash);
        if bytes.is_none() {
            self.remove(workspace, url).await?;
        }
        Ok(bytes)
    }

    /// The server said that nothing has changed since the content of this hash, with the validators it has now. An entry with
    /// another content, which somebody else has fetched meanwhile, is left as it is.
    pub async fn confirm(
        &self,
        workspace: Uuid,
        url: &str,
        hash: &str,
        etag: Option<&str>,
        last_modified: Option<&str>,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "update cache.documents set validated_at = now(), etag = coalesce($3, etag),
                    last_modified = coalesce($4, last_modified)
              where workspace_id = $1 and url = $2 and hash = $5",
        )
        .bind(workspace)
        .bind(url)
        .bind(etag)
        .bind(last_modified)
        .bind(hash)
        .execute(&self.pool)
        .await
        .map(drop)
    }

    /// Keeps a document in place of the one before, and makes room. What alone exceeds the bounds is not kept.
    pub async fn keep(
        &self,
        workspace: Uuid,
        url: &str,
        document: FetchedDocument<'_>,
        bounds: CacheBounds,
    ) -> Result<(), sqlx::Error> {
        let content = zstd::encode_all(document.bytes, 3).map_err(sqlx::Error::Io)?;
        let stored = i64::try_from(content.len()).unwrap_or(i64::MAX);
        if url.len() > MAX_URL || bounds.entries < 1 || stored > bounds.bytes {
            return self.remove(workspace, url).await;
        }
        sqlx::query(
            "insert into cache.documents (workspace_id, url, final_url, etag, last_modified, content_type, hash, size,
                                          stored_size, content)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             on conflict (workspace_id, url) do update set
               final_url = excluded.final_url, etag = excluded.etag, last_modified = excluded.last_modified,
               content_type = excluded.content_type, hash = excluded.hash, size = excluded.size,
               stored_size = excluded.stored_size, content = excluded.content, fetched_at = now(), validated_at = now(),
               used_at = now(), uses = documents.uses + 1",
        )
        .bind(workspace)
        .bind(url)
        .bind(document.final_url)
        .bind(document.etag)
        .bind(document.last_modified)
        .bind(document.content_type)
        .bind(hex::encode(Sha256::digest(document.bytes)))
        .bind(i64::try_from(document.bytes.len()).unwrap_or(i64::MAX))
        .bind(stored)
        .bind(content)
        .execute(&self.pool)
        .await?;
        self.evict(bounds).await
    }

    pub async fn remove(&self, workspace: Uuid, url: &str) -> Result<(), sqlx::Error> {
        self.purge(workspace, Some(url)).await.map(drop)
    }

    /// What a purge would take.
    pub async fn size(&self, workspace: Uuid, url: Option<&str>) -> Result<CacheSize, sqlx::Error> {
        let (entries, bytes) = sqlx::query_as(
            "select count(*), coalesce(sum(stored_size), 0)::bigint from cache.documents
              where workspace_id = $1 and ($2::text is null or url = $2)",
        )
        .bind(workspace)
        .bind(url)
        .fetch_one(&self.pool)
        .await?;
        Ok(CacheSize { entries, bytes })
    }

    /// Forgets one URL, or all of the workspace; gives how many entries there were.
    pub async fn purge(&self, workspace: Uuid, url: Option<&str>) -> Result<u64, sqlx::Error> {
        let purged =
            sqlx::query("delete from cache.documents where workspace_id = $1 and ($2::text is null or url = $2)")
                .bind(workspace)
                .bind(url)
                .execute(&self.pool)
                .await?;
        Ok(purged.rows_affected())
    }

    /// Workspaces take turns: each one's newest entry is kept first, then each one's second newest. So who fetches
    /// many documents pushes out its own.
    async fn evict(&self, bounds: CacheBounds) -> Result<(), sqlx::Error> {
        sqlx::query(
            "delete from cache.documents d using (
               select workspace_id, url,
                      row_number() over (order by turn, used_at desc, workspace_id) as place,
                      sum(stored_size) over (order by turn, used_at desc, workspace_id) as bytes
                 from (select workspace_id, url, stored_size, used_at,
                              row_number() over (partition by workspace_id order by used_at desc, url) as turn
                         from cache.documents) as turns
             ) as kept
              where d.workspace_id = kept.workspace_id and d.url = kept.url
                and (kept.place > $1 or kept.bytes > $2)",
        )
        .bind(bounds.entries)
        .bind(bounds.bytes)
        .execute(&self.pool)
        .await
        .map(drop)
    }
}

fn opened(row: &PgRow) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let (size, content): (i64, Vec<u8>) = (row.try_get("size")?, row.try_get("content")?);
    Ok((0..=MAX_SIZE).contains(&size).then(|| zstd::bulk::decompress(&content, size as usize).ok()).flatten())
}
