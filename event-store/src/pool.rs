//! Connections: one login, one database role each; migrations; the checks of schema and cluster.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{
    Connection, Executor, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::OpenError;

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// A pooled connection that was idle for longer is tried before it is used.
const RESTED: Duration = Duration::from_secs(1);
/// For connections that run a few statements over and over: planned once, and by the index whatever the size was then.
pub(crate) const PLAN_ONCE: &str =
    "set plan_cache_mode = 'force_generic_plan'; set enable_seqscan = off; set jit = off";

/// For sessions that hold a lock or a transaction: when their process's host vanishes without a word, the server notices
/// within seconds. (Postgres takes the first three as done on a Unix socket.)
pub const VANISHED: &str = "set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; \
     set tcp_keepalives_count = 3; set idle_in_transaction_session_timeout = '10s'";

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
        // A ping before each use would double the round trips; one that rested may have been cut.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > RESTED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(role.statement()).await.map(|_| ()) })
        })
        .connect_with(options)
        .await
}

/// Brings the schema up to date. With `adopt`, a log that came from another cluster gets a new generation.
pub async fn migrate(url: &str, adopt: bool) -> Result<(), OpenError> {
    // A change of a table that waits behind a dump would hold up every append that comes after it.
    let options = PgPoolOptions::new().max_connections(1).after_connect(|connection, _| {
        Box::pin(async move { connection.execute("set lock_timeout = '5s'").await.map(|_| ()) })
    });
    let pool = options.connect(url).await?;
    MIGRATOR.run(&pool).await.map_err(migration_fault)?;
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

/// The log's generation, or why it must not be used: a schema this build does not fit, or another cluster's log.
pub(crate) async fn check_cluster(db: &mut PgConnection) -> Result<i32, OpenError> {
    let applied: Vec<(i64, bool)> = sqlx::query_as("select version, success from _sqlx_migrations order by version")
        .fetch_all(&mut *db)
        .await
        .map_err(not_migrated)?;
    check_schema(&applied)?;
    let (generation, same): (i32, bool) = sqlx::query_as(
        "select generation, cluster.system_identifier = c.system_identifier::text from log.cluster, pg_control_system() c",
    )
    .fetch_one(db)
    .await
    .map_err(not_migrated)?;
    if same { Ok(generation) } else { Err(OpenError::OtherCluster) }
}

fn migration_fault(error: sqlx::migrate::MigrateError) -> OpenError {
    let text = error.to_string();
    match text.contains("lock timeout") {
        true => OpenError::Schema("somebody holds a lock on its tables (a dump, another migration)".into()),
        false => OpenError::Schema(text),
    }
}

/// 42P01, 3F000: no such table or schema. 42501: not for this role, which a migration gives it.
fn not_migrated(error: sqlx::Error) -> OpenError {
    match error {
        sqlx::Error::Database(e) if matches!(e.code().as_deref(), Some("42P01" | "3F000")) => {
            OpenError::Schema("the log's tables are missing".into())
        }
        sqlx::Error::Database(e) if e.code().as_deref() == Some("42501") => {
            OpenError::Schema("its version cannot be read".into())
        }
        other => other.into(),
    }
}

fn check_schema(applied: &[(i64, bool)]) -> Result<(), OpenError> {
    let applied: BTreeMap<i64, bool> = applied.iter().copied().collect();
    let known: Vec<i64> = MIGRATOR.iter().map(|m| m.version).collect();
    if let Some(version) = applied.keys().rev().copied().find(|version| !known.contains(version)) {
        return Err(OpenError::Newer { version });
    }
    let missing = known.iter().find(|version| applied.get(version) != Some(&true));
    missing.map_or(Ok(()), |version| Err(OpenError::Schema(format!("migration {version} is missing"))))
}

/// Which history of which cluster a connection writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// Changes by `initdb` only: a dump restored elsewhere, `pg_upgrade`.
    pub system_identifier: i64,
    /// Rises when a standby is promoted: what was read before may not be in its log. At once on a server that takes
    /// writes; a standby tells the timeline it follows, a checkpoint late.
    pub timeline: i64,
}

/// The cluster behind a connection. Any role may ask.
pub async fn cluster_of(connection: &mut PgConnection) -> Result<ClusterIdentity, sqlx::Error> {
    // The control file learns of a promotion at the next checkpoint only, which may be minutes away. The name of the WAL
    // file being written begins with its timeline, but a standby writes none.
    let (system_identifier, timeline) = sqlx::query_as(
        "select s.system_identifier,
                case when pg_is_in_recovery()
                     then greatest((select c.timeline_id from pg_control_checkpoint() c),
                                   (select r.min_recovery_end_timeline from pg_control_recovery() r))::int8
                     else ('x' || lpad(left(pg_walfile_name(pg_current_wal_lsn()), 8), 16, '0'))::bit(64)::int8 end
           from pg_control_system() s",
    )
    .fetch_one(connection)
    .await?;
    Ok(ClusterIdentity { system_identifier, timeline })
}
