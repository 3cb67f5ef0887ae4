//! A workspace's cached documents. No read model (they are not derived from the log), but read like one: by one tenant.

use chrono::{DateTime, Utc};
use domain::ids::WorkspaceId;

use crate::{
    list::{self, Listed, Page},
    read::{QueryError, ReadModels},
};

#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct CachedDocumentView {
    pub url: String,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub content_type: Option<String>,
    /// SHA-256 of the document, hex.
    pub hash: String,
    /// Bytes of the document, and of what is kept of it.
    pub size: i64,
    pub stored_size: i64,
    pub fetched_at: DateTime<Utc>,
    /// When its server last confirmed it.
    pub validated_at: DateTime<Utc>,
    pub used_at: DateTime<Utc>,
    pub uses: i64,
}

impl ReadModels {
    /// The workspace's entries, or that of one URL; the last used first. Pages by number only.
    pub async fn cached_documents(
        &self,
        workspace: WorkspaceId,
        url: Option<&str>,
        page: &Page,
    ) -> Result<Listed<CachedDocumentView>, QueryError> {
        let mut faults = Vec::new();
        let (number, limit) = list::bounds(page, &mut faults);
        if !faults.is_empty() {
            return Err(QueryError::Invalid(faults));
        }
        let mut tx = self.of(workspace).await?;
        let total: i64 = sqlx::query_scalar(
            "select count(*) from cache.documents where workspace_id = $1 and ($2::text is null or url = $2)",
        )
        .bind(workspace.0)
        .bind(url)
        .fetch_one(&mut *tx)
        .await?;
        let offset = i64::from(number - 1) * i64::from(limit);
        let items: Vec<CachedDocumentView> = sqlx::query_as(
            "select url, etag, last_modified, content_type, hash, size, stored_size, fetched_at, validated_at, used_at,
                    uses
               from cache.documents where workspace_id = $1 and ($2::text is null or url = $2)
              order by used_at desc, url offset $3 limit $4",
        )
        .bind(workspace.0)
        .bind(url)
        .bind(offset)
        .bind(i64::from(limit))
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Listed {
            has_next: offset + i64::from(limit) < total,
            has_prev: number > 1,
            items,
            total,
            page: number,
            limit,
            next_cursor: None,
            prev_cursor: None,
        })
    }
}
