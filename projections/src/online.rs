//! Rebuilding online: the whole log is folded into a shadow schema while the live one serves, then the two are swapped.
//!
//! It works beside a running server and without one. Until the swap nothing live is touched: whatever interrupts a rebuild
//! leaves a schema that nobody reads, and the next rebuild begins anew. The swap is one short transaction that holds the
//! checkpoint's row: it folds the last few events, takes over the checkpoint (never backwards), replaces the quarantine
//! and renames the schemas. A projector that was about to write finds that the tables were swapped, writes nothing,
//! and goes on with the new ones. Queries under way end on the old tables, which are dropped afterwards.
//!
//! Rows are written by two connections while the next batch is folded. Nobody reads them yet and an interrupted rebuild
//! begins anew, so they need no checkpoint and no order among tables.

use std::time::{Duration, Instant};

use domain::event::LogPosition;
use sqlx::{Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};

use crate::{
    apply::{ApplyError, Target, apply},
    fault::Fault,
    fold::Fold,
    loading::Loading,
    projector::{CHECKPOINT, SESSION, place},
    quarantine::{Blocked, Quarantined},
    rebuild::schema_differences,
    record::Record,
    shadow::{self, NEXT, OLD},
    source,
    view::Schema,
};

/// Cluster-wide key of the session advisory lock of whoever rebuilds; the database is part of the lock.
pub(crate) const LOCK: i64 = 0x6170_6971_5245_4255;
/// Rows of each table that stay in memory while folding, bytes.
const KEEP: usize = 32 * 1024 * 1024;
/// The swap folds at most so many events itself.
const LAST: usize = 100;
/// Events that are written together where each batch is one transaction, which must be short.
const CAREFUL: usize = 200;
/// How often the swap is tried; each time what came meanwhile is folded first.
const TRIES: u32 = 100;

/// What a rebuild does at the moment, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RebuildPhase {
    /// Folds the log from its first event.
    Fold,
    /// Makes indexes and statistics.
    Index,
    /// Folds what was appended meanwhile.
    CatchUp,
    /// Puts the new tables in the place of the old ones.
    Swap,
    /// Drops the old tables.
    CleanUp,
}

impl RebuildPhase {
    pub fn as_str(self) -> &'static str {
        match self {
            RebuildPhase::Fold => "fold",
            RebuildPhase::Index => "index",
            RebuildPhase::CatchUp => "catch_up",
            RebuildPhase::Swap => "swap",
            RebuildPhase::CleanUp => "clean_up",
        }
    }
}

/// How far a rebuild has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildProgress {
    pub phase: RebuildPhase,
    /// Events folded so far.
    pub events: u64,
    /// Events in the log when it began; more may have come.
    pub total: u64,
    pub elapsed: Duration,
}

/// Of a rebuild whose tables are live now.
#[derive(Debug, Clone)]
pub struct OnlineReport {
    pub events: u64,
    /// In the log's order; they have replaced the quarantine of before.
    pub quarantined: Vec<Quarantined>,
    /// Where the new read models were when they became live.
    pub at: LogPosition,
    pub elapsed: Duration,
    /// Of `elapsed`, folding the log (without what was appended meanwhile).
    pub folding: Duration,
    /// How long the swap held the checkpoint.
    pub swap: Duration,
    /// The longest write transaction.
    pub longest_write: Duration,
    /// A reader would not let go of an old table; the next rebuild drops what is left.
    pub leftovers: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum OnlineError {
    #[error("another rebuild of the read models is running")]
    Busy,
    #[error("this log was written by another Postgres cluster: run `apiq migrate --adopt` first")]
    OtherCluster,
    #[error("only the owner of the schema may rebuild: log in as `apiq migrate` does")]
    NotOwner,
    #[error("the read models are not those of this build: {}", .0.join("; "))]
    Schema(Vec<String>),
    #[error("the schema read_models holds what cannot be rebuilt: {}", .0.join("; "))]
    Strange(Vec<String>),
    #[error("{0} is left from an earlier rebuild, and somebody still reads or writes it: try again when they are done")]
    Leftover(&'static str),
    #[error("the live tables were changed while they were rebuilt; start again")]
    Changed,
    #[error("events are appended faster than they can be folded")]
    TooSlow,
    #[error("the log cannot be folded: {0}")]
    Fold(String),
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
}

impl From<ApplyError> for OnlineError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Database(error) => error.into(),
            moved @ ApplyError::Moved => Self::Fold(moved.to_string()),
        }
    }
}

/// How to fold.
#[derive(Debug, Clone, Copy)]
pub struct OnlineOptions {
    /// Events folded together: more of them write fewer rows, and need more memory.
    pub batch: usize,
}

impl Default for OnlineOptions {
    fn default() -> Self {
        Self { batch: 5_000 }
    }
}

/// Rebuilds the read models of a database and makes the new ones live. `url` logs in as the owner of the schema.
pub async fn rebuild_online(
    url: &str,
    options: OnlineOptions,
    progress: impl FnMut(RebuildProgress) + Send,
) -> Result<OnlineReport, OnlineError> {
    let mut db = PgConnection::connect(url).await?;
    // What is lost in a crash of the database is made again; the swap itself waits for the disk.
    db.execute("set synchronous_commit = off; set application_name = 'apiq-rebuild'").await?;
    if !sqlx::query_scalar::<_, bool>("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut db).await? {
        return Err(OnlineError::Busy);
    }
    let done = locked(&mut db, url, options, progress).await;
    // The server sees a closed connection a moment later: whoever begins next need not wait for that.
    let _ = sqlx::query("select pg_advisory_unlock($1)").bind(LOCK).execute(&mut db).await;
    done
}

async fn locked(
    db: &mut PgConnection,
    url: &str,
    options: OnlineOptions,
    progress: impl FnMut(RebuildProgress) + Send,
) -> Result<OnlineReport, OnlineError> {
    let generation = check(db).await?;
    // Known now, not when the whole log is folded and there is no name free for the live tables of before.
    for (schema, tries) in [(OLD, shadow::FEW), (NEXT, shadow::MANY)] {
        if !shadow::drop_schema(db, schema, tries).await? {
            return Err(OnlineError::Leftover(schema));
        }
    }
    sqlx::query("insert into log.checkpoints (name) values ($1) on conflict do nothing")
        .bind(CHECKPOINT)
        .execute(&mut *db)
        .await?;
    let record = Record::begin(db).await?;
    let mut rebuild = Rebuild { url, generation, options, record, progress, db, begun: Instant::now(), events: 0 };
    let done = rebuild.run().await;
    let Rebuild { record, db, .. } = rebuild;
    match &done {
        Ok(report) => record.done(db, report.events, report.quarantined.len()).await?,
        Err(error) => {
            // Best effort: the next rebuild cleans up too.
            let _ = record.failed(db, &error.to_string()).await;
            let _ = shadow::drop_schema(db, NEXT, shadow::MANY).await;
        }
    }
    done
}

/// Says why not; gives the log's generation.
async fn check(db: &mut PgConnection) -> Result<i32, OnlineError> {
    let (generation, same): (i32, bool) = sqlx::query_as(
        "select generation, cluster.system_identifier = c.system_identifier::text from log.cluster, pg_control_system() c",
    )
    .fetch_one(&mut *db)
    .await?;
    if !same {
        return Err(OnlineError::OtherCluster);
    }
    if !shadow::is_owner(db).await? {
        return Err(OnlineError::NotOwner);
    }
    let differences = schema_differences(db).await?;
    if !differences.is_empty() {
        return Err(OnlineError::Schema(differences));
    }
    match shadow::strange(db).await? {
        none if none.is_empty() => Ok(generation),
        some => Err(OnlineError::Strange(some)),
    }
}

struct Rebuild<'u, P> {
    url: &'u str,
    generation: i32,
    options: OnlineOptions,
    record: Record,
    progress: P,
    /// Holds the lock.
    db: &'u mut PgConnection,
    begun: Instant,
    events: u64,
}

impl<P: FnMut(RebuildProgress) + Send> Rebuild<'_, P> {
    async fn run(&mut self) -> Result<OnlineReport, OnlineError> {
        let readers = PgPoolOptions::new().max_connections(2).connect(self.url).await?;
        let shape = shadow::describe(self.db, shadow::LIVE).await?;
        shadow::create(self.db).await?;
        let (mut fold, mut quarantined, mut at, mut longest) = self.fold(&readers).await?;
        let folding = self.begun.elapsed();
        self.tell(RebuildPhase::Index).await?;
        shadow::create_indexes(self.db).await?;
        shadow::analyze(self.db).await?;
        self.tell(RebuildPhase::CatchUp).await?;
        let mut writer = self.writer().await?;
        let mut tries = 0;
        let swap = loop {
            let caught = self.catch_up(&readers, &mut writer, &mut fold, &mut at, &mut longest).await?;
            quarantined.extend(caught);
            if shadow::describe(self.db, shadow::LIVE).await? != shape
                || shadow::describe(self.db, NEXT).await? != shape
            {
                return Err(OnlineError::Changed);
            }
            self.tell(RebuildPhase::Swap).await?;
            match self.swap(&mut fold, &mut at, &mut quarantined).await? {
                Some(swap) => break swap,
                None if tries < TRIES => tries += 1,
                None => return Err(OnlineError::TooSlow),
            }
        };
        self.tell(RebuildPhase::CleanUp).await?;
        let leftovers = !shadow::drop_schema(self.db, OLD, shadow::MANY).await?;
        let (events, elapsed) = (self.events, self.begun.elapsed());
        Ok(OnlineReport {
            events,
            quarantined,
            at,
            elapsed,
            folding,
            swap,
            longest_write: longest.max(swap),
            leftovers,
        })
    }

    /// A connection that writes rows as the projector does.
    async fn writer(&self) -> Result<PgConnection, OnlineError> {
        let mut db = PgConnection::connect(self.url).await?;
        db.execute(format!("set role apiq_projector; {SESSION}").as_str()).await?;
        Ok(db)
    }

    /// Folds the log once through. An event that the database refuses makes it begin again, in careful steps.
    async fn fold(&mut self, readers: &PgPool) -> Result<(Fold, Vec<Quarantined>, LogPosition, Duration), OnlineError> {
        match self.fold_fast(readers).await {
            Err(Fault::Event(reason)) => {
                tracing::warn!(reason, "an event cannot be stored: folding again, to find it");
                if !shadow::drop_schema(self.db, NEXT, shadow::MANY).await? {
                    return Err(OnlineError::Leftover(NEXT));
                }
                shadow::create(self.db).await?;
                self.events = 0;
                let mut writer = self.writer().await?;
                let mut fold = Fold::new(&mut writer, Schema::Next, Blocked::default(), KEEP).await?;
                let (mut at, mut longest) = (LogPosition::START, Duration::ZERO);
                let aside = self.catch_up(readers, &mut writer, &mut fold, &mut at, &mut longest).await?;
                Ok((fold, aside, at, longest))
            }
            Err(Fault::Database(error)) => Err(error.into()),
            Err(fault @ Fault::Moved) => Err(OnlineError::Fold(fault.to_string())),
            Ok(done) => Ok(done),
        }
    }

    async fn fold_fast(&mut self, readers: &PgPool) -> Result<(Fold, Vec<Quarantined>, LogPosition, Duration), Fault> {
        let writers = [self.writer().await.map_err(database)?, self.writer().await.map_err(database)?];
        let mut loading = Loading::start(readers.acquire().await?.detach(), writers);
        let done = self.load(readers, &mut loading).await;
        // Nothing may be written any more when the tables are made anew, under the same names.
        loading.stop().await;
        done
    }

    async fn load(
        &mut self,
        readers: &PgPool,
        loading: &mut Loading,
    ) -> Result<(Fold, Vec<Quarantined>, LogPosition, Duration), Fault> {
        loading.prepare().await?;
        let mut fold =
            Fold::new(loading.reader(), Schema::Next, Blocked::default(), KEEP).await.map_err(Fault::from)?;
        let mut source = source::from(readers.clone(), self.generation, LogPosition::START);
        let (mut quarantined, mut at) = (vec![], LogPosition::START);
        loop {
            let (items, full) = source.next(self.options.batch).await?;
            if let Some(last) = items.last() {
                let aside = fold.compute(loading, &items, &Default::default()).await?;
                loading.store(&mut fold).await?;
                fold.written(&items, &aside);
                quarantined.extend(aside);
                at = last.recorded.at;
                self.events += items.len() as u64;
                self.tell(RebuildPhase::Fold).await?;
            }
            if !full {
                break;
            }
        }
        Ok((fold, quarantined, at, loading.finish().await?))
    }

    /// One batch after the other, up to the log's end as it is then.
    async fn catch_up(
        &mut self,
        readers: &PgPool,
        writer: &mut PgConnection,
        fold: &mut Fold,
        at: &mut LogPosition,
        longest: &mut Duration,
    ) -> Result<Vec<Quarantined>, OnlineError> {
        let mut source = source::from(readers.clone(), self.generation, *at);
        let mut quarantined = vec![];
        loop {
            let (items, full) = source.next(self.options.batch.min(CAREFUL)).await?;
            if let Some(last) = items.last() {
                let applied = apply(writer, fold, Target::Unread, &items).await?;
                *longest = applied.longest.max(*longest);
                quarantined.extend(applied.quarantined);
                *at = last.recorded.at;
                self.events += items.len() as u64;
                self.tell(RebuildPhase::CatchUp).await?;
            }
            if !full {
                return Ok(quarantined);
            }
        }
    }

    /// Swaps, unless the live projector is too far ahead: then `None`, and nothing has happened.
    async fn swap(
        &mut self,
        fold: &mut Fold,
        at: &mut LogPosition,
        quarantined: &mut Vec<Quarantined>,
    ) -> Result<Option<Duration>, OnlineError> {
        let mut tx = self.db.begin().await?;
        // From here on no projector can write. What it was about to write, it finds, belongs to the past.
        tx.execute("set local synchronous_commit = on; set local lock_timeout = '200ms'").await?;
        let begun = Instant::now();
        let locked = sqlx::query("select from log.checkpoints where name = $1 for update")
            .bind(CHECKPOINT)
            .execute(&mut *tx)
            .await;
        if let Err(error) = locked {
            tx.rollback().await?;
            // 55P03: a write is under way that takes longer than usual.
            let held = matches!(&error, sqlx::Error::Database(e) if e.code().as_deref() == Some("55P03"));
            return if held { Ok(None) } else { Err(error.into()) };
        }
        let live = place(&mut tx).await?;
        let mut added = vec![];
        if live.at > *at {
            let mut items = source::read(&mut *tx, self.generation, *at, LAST + 1).await?;
            if items.len() > LAST {
                tx.rollback().await?;
                return Ok(None);
            }
            items.retain(|item| item.recorded.at <= live.at);
            tx.execute("set local role apiq_projector").await?;
            let applied = apply(&mut tx, fold, Target::Unread, &items).await?;
            tx.execute("set local role none").await?;
            added = applied.quarantined;
            *at = items.last().map_or(*at, |last| last.recorded.at);
            self.events += items.len() as u64;
        }
        if live.at > *at {
            return Err(OnlineError::Fold("the checkpoint is beyond what can be read".to_owned()));
        }
        quarantined.extend(added);
        sqlx::query(
            "update log.checkpoints set generation = $2, transaction_id = $3::text::xid8, position = $4,
                    swaps = swaps + 1, updated_at = now() where name = $1",
        )
        .bind(CHECKPOINT)
        .bind(at.generation)
        .bind(at.transaction_id.to_string())
        .bind(at.position)
        .execute(&mut *tx)
        .await?;
        tx.execute("delete from log.quarantine").await?;
        if !quarantined.is_empty() {
            let mut statement = fold.statement();
            statement.record(quarantined).map_err(|fault| OnlineError::Fold(fault.to_string()))?;
            statement.write(&mut tx, None).await.map_err(|fault| OnlineError::Fold(fault.to_string()))?;
        }
        shadow::rename(&mut tx).await?;
        tx.commit().await?;
        Ok(Some(begun.elapsed()))
    }

    async fn tell(&mut self, phase: RebuildPhase) -> Result<(), sqlx::Error> {
        let progress =
            RebuildProgress { phase, events: self.events, total: self.record.total, elapsed: self.begun.elapsed() };
        (self.progress)(progress);
        self.record.tell(self.db, progress).await
    }
}

fn database(error: OnlineError) -> Fault {
    match error {
        OnlineError::Database(error) => Fault::Database(error),
        other => Fault::Database(sqlx::Error::Protocol(other.to_string())),
    }
}
