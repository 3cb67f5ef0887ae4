//! One connection for one run, and what must be known of the log before reading it.

use domain::event::LogPosition;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use uuid::Uuid;

use crate::{ReplayError, redact::Erased};

pub(crate) struct Session {
    pub db: PgConnection,
    /// What `read_after` takes as the current generation.
    pub generation: i32,
}

impl Session {
    pub async fn open(database_url: &str) -> Result<Session, ReplayError> {
        let options = database_url.parse::<PgConnectOptions>()?.application_name("apiq-replay");
        let mut db = PgConnection::connect_with(&options).await?;
        let (generation, same): (i32, bool) = sqlx::query_as(
            "select generation, cluster.system_identifier = c.system_identifier::text from log.cluster, pg_control_system() c",
        )
        .fetch_one(&mut db)
        .await?;
        // In a restored dump nobody writes: all its transactions are of the past.
        let generation = if same { generation } else { generation + 1 };
        Ok(Session { db, generation })
    }

    /// Keys of a workspace that were destroyed. No key is read: the view has names only.
    pub async fn erased(&mut self, workspace: Uuid) -> Result<Erased, ReplayError> {
        let names: Vec<(String, i32)> =
            sqlx::query_as("select subject, version from log.erased_keys where workspace_id = $1")
                .bind(workspace)
                .fetch_all(&mut self.db)
                .await?;
        Ok(names.into_iter().collect())
    }

    /// Events up to and including `until`.
    pub async fn count(&mut self, until: LogPosition) -> Result<u64, ReplayError> {
        let count: i64 = sqlx::query_scalar(
            "select count(*) from log.events e
              where (e.generation, e.transaction_id, e.position) <= ($1, $2::text::xid8, $3)",
        )
        .bind(until.generation)
        .bind(until.transaction_id.to_string())
        .bind(until.position)
        .fetch_one(&mut self.db)
        .await?;
        Ok(count.unsigned_abs())
    }
}
