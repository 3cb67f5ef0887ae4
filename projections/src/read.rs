//! The read side as a route sees it: one tenant at a time, and never staler than what the caller has written.

use std::time::Duration;

use domain::{error::FieldError, event::LogPosition, ids::WorkspaceId};
use sqlx::{PgPool, Transaction};
use uuid::Uuid;

use crate::{
    list::{ListFilter, ListSpec, Listed, Page},
    progress::Progress,
    row::Row,
};

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// What the client asked cannot be answered: each wrong field.
    #[error("the list cannot be read like this")]
    Invalid(Vec<FieldError>),
    #[error("the read models cannot be reached: {0}")]
    Database(#[from] sqlx::Error),
    /// A row is not what this build writes: rebuild the read models.
    #[error("a row of {table} cannot be read: {reason}")]
    Corrupt { table: &'static str, reason: String },
}

impl QueryError {
    pub(crate) fn corrupt(table: &'static str, reason: impl ToString) -> Self {
        QueryError::Corrupt { table, reason: reason.to_string() }
    }
}

/// Queries, each of one workspace: row-level security hides every other, whatever the query says. Cheap to clone.
#[derive(Clone)]
pub struct ReadModels {
    pool: PgPool,
    progress: Progress,
}

impl ReadModels {
    /// `pool` logs in as `apiq_api`; `progress` is the local projector's, or a new one where there is none.
    pub fn new(pool: PgPool, progress: Progress) -> Self {
        Self { pool, progress }
    }

    /// Waits until the read models show everything up to `at`. `false`: they do not yet, after `timeout`.
    pub async fn wait_for(&self, at: LogPosition, timeout: Duration) -> bool {
        self.progress.wait_for(&self.pool, at, timeout).await
    }

    /// A read-only transaction that sees one workspace; BEGIN and the setting travel together.
    pub(crate) async fn of(&self, workspace: WorkspaceId) -> Result<Transaction<'static, sqlx::Postgres>, sqlx::Error> {
        // A UUID's own text: nothing to quote.
        self.pool.begin_with(format!("begin read only; set local apiq.workspace_id = '{}'", workspace.0)).await
    }

    /// One row by its `id` column.
    pub(crate) async fn get<R: Row>(&self, workspace: WorkspaceId, id: Uuid) -> Result<Option<R>, QueryError> {
        let sql = format!("select row_to_json(t)::text from read_models.{} t where t.id = $1", R::TABLE);
        let mut tx = self.of(workspace).await?;
        let text: Option<String> = sqlx::query_scalar(&sql).bind(id).fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        text.map(|t| serde_json::from_str(&t).map_err(|e| QueryError::corrupt(R::TABLE, e))).transpose()
    }

    /// All rows of a small, bounded set: `condition` is SQL of this crate with `$1` for `id`.
    pub(crate) async fn all<R: Row>(
        &self,
        workspace: WorkspaceId,
        condition: &'static str,
        id: Uuid,
    ) -> Result<Vec<R>, QueryError> {
        let sql = format!(
            "select row_to_json(t)::text from read_models.{} t where t.workspace_id = $2 and {condition}",
            R::TABLE
        );
        let mut tx = self.of(workspace).await?;
        let texts: Vec<String> = sqlx::query_scalar(&sql).bind(id).bind(workspace.0).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        texts.iter().map(|t| serde_json::from_str(t).map_err(|e| QueryError::corrupt(R::TABLE, e))).collect()
    }

    pub(crate) async fn list<R: Row>(
        &self,
        workspace: WorkspaceId,
        spec: &ListSpec,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<R>, QueryError> {
        let mut tx = self.of(workspace).await?;
        let listed = crate::list::list(&mut tx, spec, workspace, filter, page).await?;
        tx.commit().await?;
        Ok(listed)
    }
}
