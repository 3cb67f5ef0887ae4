//! Folding the whole log again, beside the live read models, and comparing what comes out.
//!
//! The fold writes temporary tables of its own session: it needs no right to change anything, and leaves nothing
//! behind, however it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use domain::event::LogPosition;
use sqlx::{Connection, Executor, PgConnection, Row as _};

use crate::{
    apply::{ApplyError, Target, apply},
    fold::Fold,
    projector::CHECKPOINT,
    quarantine::Blocked,
    source,
    view::{self, Schema, TABLES},
};

/// Rows of each table that stay in memory between batches, bytes.
const KEEP: usize = 32 * 1024 * 1024;
/// Events whose rows are written together, in one transaction that must be short: no reader of the log sees past it.
const EVENTS: usize = 200;

/// A table's content in short: equal rows in any order give equal checksums.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Checksum {
    pub rows: i64,
    /// 32 hexadecimal digits.
    pub md5: String,
}

pub type Checksums = BTreeMap<&'static str, Checksum>;

#[derive(Debug, Clone)]
pub struct RebuildReport {
    /// The place of the last event folded.
    pub reached: LogPosition,
    pub events: u64,
    /// Events that a view could not take, counted once a view.
    pub quarantined: u64,
    pub checksums: Checksums,
    /// Of the fold alone, without the checksums.
    pub elapsed: Duration,
}

/// The live read models at one moment: their projection checkpoint and their checksums.
#[derive(Debug, Clone)]
pub struct LiveState {
    pub at: LogPosition,
    pub checksums: Checksums,
}

#[derive(Debug, thiserror::Error)]
#[error("the log cannot be folded: {0}")]
pub struct RebuildError(String);

impl From<sqlx::Error> for RebuildError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<ApplyError> for RebuildError {
    fn from(error: ApplyError) -> Self {
        Self(error.to_string())
    }
}

/// Checkpoint and checksums of the live read models in one snapshot. Takes the auditor's role for it, because
/// row-level security is forced on the tables' owner too.
pub async fn live_state(db: &mut PgConnection) -> Result<LiveState, RebuildError> {
    let mut tx = db.begin_with("begin isolation level repeatable read read only; set local role apiq_auditor").await?;
    let at = event_store::checkpoint(&mut *tx, CHECKPOINT).await?;
    let checksums = checksums(&mut tx, Schema::Live).await?;
    tx.commit().await?;
    Ok(LiveState { at, checksums })
}

/// Folds the log into temporary tables, up to and including `until`; reads `batch` events at a time.
///
/// `progress` hears the number of events folded so far, after each batch. The tables are dropped at the end; `db` needs
/// to read the log and the read models and to make temporary tables.
pub async fn rebuild(
    db: &mut PgConnection,
    generation: i32,
    until: LogPosition,
    batch: usize,
    mut progress: impl FnMut(u64),
) -> Result<RebuildReport, RebuildError> {
    create_scratch(db).await?;
    // From here on the server itself refuses any change but to temporary tables.
    db.execute("set default_transaction_read_only = on; set plan_cache_mode = force_custom_plan; set jit = off")
        .await?;
    let report = fold(db, generation, until, batch, &mut progress).await;
    db.execute("reset default_transaction_read_only; reset plan_cache_mode; reset jit").await?;
    drop_scratch(db).await?;
    report
}

async fn fold(
    db: &mut PgConnection,
    generation: i32,
    until: LogPosition,
    batch: usize,
    progress: &mut impl FnMut(u64),
) -> Result<RebuildReport, RebuildError> {
    let begun = Instant::now();
    let mut target = Fold::new(db, Schema::Scratch, Blocked::default(), KEEP).await?;
    let (mut events, mut quarantined, mut at) = (0u64, 0u64, LogPosition::START);
    while at < until {
        let mut items = source::read(&mut *db, generation, at, batch).await?;
        items.retain(|i| i.recorded.at <= until);
        let Some(last) = items.last() else { break };
        at = last.recorded.at;
        for items in items.chunks(EVENTS) {
            quarantined += apply(db, &mut target, Target::Unread, items).await?.quarantined.len() as u64;
        }
        events += items.len() as u64;
        progress(events);
    }
    let elapsed = begun.elapsed();
    let checksums = checksums(db, Schema::Scratch).await?;
    Ok(RebuildReport { reached: at, events, quarantined, checksums, elapsed })
}

/// One checksum a table: 64-bit halves of each row's MD5, summed. The session's time zone must not show in them.
pub async fn checksums(db: &mut PgConnection, schema: Schema) -> Result<Checksums, sqlx::Error> {
    let mut all = Checksums::new();
    let mut tx = db.begin().await?;
    sqlx::query("set local timezone = 'UTC'").execute(&mut *tx).await?;
    for table in TABLES {
        let sql = format!(
            "select count(*) as rows, md5(concat_ws('/', count(*), sum(('x' || left(h, 16))::bit(64)::bigint::numeric),
                    sum(('x' || right(h, 16))::bit(64)::bigint::numeric))) as md5
               from (select md5(t::text) as h from {schema}.{table} t) as hashed"
        );
        let row = sqlx::query(&sql).fetch_one(&mut *tx).await?;
        all.insert(table, Checksum { rows: row.try_get("rows")?, md5: row.try_get("md5")? });
    }
    tx.commit().await?;
    Ok(all)
}

/// How the database's tables differ from what this build writes, a sentence each; empty when they do not.
pub async fn schema_differences(db: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let found: Vec<(String, String)> = sqlx::query_as(
        "select c.relname::text, a.attname::text from pg_class c
           join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'read_models'
           join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          where c.relkind = 'r'",
    )
    .fetch_all(db)
    .await?;
    let found: BTreeSet<(&str, &str)> = found.iter().map(|(t, c)| (t.as_str(), c.as_str())).collect();
    let known: BTreeSet<(&str, &str)> =
        view::columns().into_iter().flat_map(|(table, columns)| columns.iter().map(move |c| (table, *c))).collect();
    let missing = known.difference(&found).map(|(t, c)| format!("column {t}.{c} is missing: run `apiq migrate`"));
    let unknown = found.difference(&known).map(|(t, c)| format!("column {t}.{c} is unknown to this build"));
    Ok(missing.chain(unknown).collect())
}

async fn create_scratch(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    drop_scratch(db).await?;
    for table in TABLES {
        // Indexes and constraints too: an event that violates one must fail here as it does there.
        let sql = format!("create temporary table {table} (like read_models.{table} including all)");
        sqlx::query(&sql).execute(&mut *db).await?;
    }
    Ok(())
}

async fn drop_scratch(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    for table in TABLES {
        sqlx::query(&format!("drop table if exists pg_temp.{table}")).execute(&mut *db).await?;
    }
    Ok(())
}
