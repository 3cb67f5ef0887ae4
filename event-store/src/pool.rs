//! Connections: one login, one database role each; migrations; the cluster check.

use std::time::Duration;

use sqlx::{
    Executor, PgConnection, PgExecutor, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::OpenError;

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// What a connection may do; taken by `SET ROLE` right after login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseRole {
    /// Read models of one tenant at a time (row-level security).
    Api,
    /// Appends to the log, the vault's tables, blobs.
    Writer,
    /// Reads the log, writes read models.
    Projector,
    /// Reads.
    Auditor,
}

impl DatabaseRole {
    fn statement(self) -> &'static str {
        match self {
            DatabaseRole::Api => "set role apiq_api",
            DatabaseRole::Writer => "set role apiq_writer",
            DatabaseRole::Projector => "set role apiq_projector",
            DatabaseRole::Auditor => "set role apiq_auditor",
        }
    }

    fn name(self) -> &'static str {
        match self {
            DatabaseRole::Api => "apiq-api",
            DatabaseRole::Writer => "apiq-writer",
            DatabaseRole::Projector => "apiq-projector",
            DatabaseRole::Auditor => "apiq-auditor",
        }
    }
}

/// A pool whose every connection has taken `role`. A full pool answers with an error after two seconds.
pub async fn connect_pool(url: &str, role: DatabaseRole, max: u32) -> Result<PgPool, sqlx::Error> {
    let options = url.parse::<PgConnectOptions>()?.application_name(role.name());
    PgPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(Duration::from_secs(2))
        .idle_timeout(Duration::from_secs(600))
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(role.statement()).await.map(|_| ()) })
        })
        .connect_with(options)
        .await
}

/// Brings the schema up to date. With `adopt`, a log that came from another cluster gets a new generation.
pub async fn migrate(url: &str, adopt: bool) -> Result<(), OpenError> {
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    MIGRATOR.run(&pool).await.map_err(|e| OpenError::Schema(e.to_string()))?;
    if adopt {
        sqlx::query(
            "update log.cluster set generation = generation + 1, system_identifier = c.system_identifier::text
               from pg_control_system() c where cluster.system_identifier <> c.system_identifier::text",
        )
        .execute(&pool)
        .await?;
    }
    pool.close().await;
    Ok(())
}

/// The log's generation, or why it must not be used.
pub(crate) async fn check_cluster(db: impl PgExecutor<'_>) -> Result<i32, OpenError> {
    let row: Result<(i32, bool), sqlx::Error> = sqlx::query_as(
        "select generation, cluster.system_identifier = c.system_identifier::text from log.cluster, pg_control_system() c",
    )
    .fetch_one(db)
    .await;
    match row {
        Ok((generation, true)) => Ok(generation),
        Ok((_, false)) => Err(OpenError::OtherCluster),
        // 42P01 and 3F000: no such table or schema.
        Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42P01" | "3F000")) => {
            Err(OpenError::Schema("the log's tables are missing".into()))
        }
        Err(other) => Err(other.into()),
    }
}

/// The timeline the server writes now: another one after a standby was promoted. A server in recovery is an error.
pub(crate) async fn timeline(db: &mut PgConnection) -> Result<u32, sqlx::Error> {
    // The control file may still tell the old one right after a promotion; the name of the WAL file does not.
    let file: String = sqlx::query_scalar("select pg_walfile_name(pg_current_wal_lsn())").fetch_one(db).await?;
    let digits = file.get(..8).unwrap_or_default();
    u32::from_str_radix(digits, 16).map_err(|e| sqlx::Error::Decode(Box::new(e)))
}
