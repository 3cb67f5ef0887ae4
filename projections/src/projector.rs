//! The projector: one over all nodes follows the log and keeps every view, others stand by.
//!
//! All views share one cursor, the row `read_models` of `log.checkpoints`. (A view of its own pace would get a row of
//! its own: nothing in a view knows the cursor.) Lock and writes use one connection: an instance that loses it has lost
//! the lock and its transaction together, so that two never write at once; compare-and-set stands behind. It also tells
//! when a rebuild has swapped the tables: the projector then goes on with the new ones, at their checkpoint.

use std::{future::Future, time::Duration};

use domain::event::LogPosition;
use event_store::Tail;
use sqlx::{Executor, PgConnection, PgPool};
use tokio::sync::watch;

use crate::{
    apply::{ApplyError, Target, apply},
    fold::Fold,
    pace::Pace,
    progress::Progress,
    quarantine::{self, Blocked},
    source,
    statement::Place,
    view::Schema,
};

/// Name of the projection checkpoint.
pub const CHECKPOINT: &str = "read_models";
/// Cluster-wide key of the session advisory lock; the database is part of the lock.
const LOCK: i64 = 0x6170_6971_5052_4f4a;
/// Rows of each table that stay in memory between batches, bytes.
const KEEP: usize = 8 * 1024 * 1024;
/// What the writing connection is set to.
///
/// Read models are derived: a crash of the database that loses the last moments loses rows and checkpoint together, and
/// the events are folded again. So commits need not wait for the disk.
///
/// Plans are made once. They must not depend on how large a table was then, so there is no choice: index scans only.
///
/// A node that vanished without a word must not keep the lock, nor a transaction: the server asks after some seconds
/// whether it is there (over a Unix socket there is nothing to ask, and nothing to lose).
pub(crate) const SESSION: &str = "set synchronous_commit = off; set plan_cache_mode = force_generic_plan; \
     set enable_seqscan = off; set enable_bitmapscan = off; set jit = off; \
     set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3; \
     set idle_in_transaction_session_timeout = '10s'";
const STANDBY: Duration = Duration::from_millis(500);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

pub struct Projector {
    pool: PgPool,
    generation: i32,
    tail: Tail,
    progress: Progress,
    last: watch::Sender<Batch>,
}

/// A batch that was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batch {
    pub events: usize,
    /// The longest of its write transactions (it has one, unless a large document came with it).
    pub took: Duration,
}

impl Projector {
    /// `pool` logs in as `apiq_projector`; one connection of it is taken out for good while this runs.
    pub fn new(pool: PgPool, generation: i32, tail: Tail) -> Self {
        Self { pool, generation, tail, progress: Progress::default(), last: watch::Sender::default() }
    }

    /// For `ReadModels`: tells at once what this projector has done.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The last batch, whenever there is a new one: what its transactions take.
    pub fn batches(&self) -> watch::Receiver<Batch> {
        self.last.subscribe()
    }

    /// Runs until `shutdown` completes. Stopping in the middle of a batch rolls it back.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.work() => {}
        }
    }

    async fn work(&self) {
        let mut pause = FIRST_RETRY;
        loop {
            let before = self.progress.at();
            let Err(error) = self.lead().await else { continue };
            // Progress means that the trouble is new.
            pause = if self.progress.at() > before { FIRST_RETRY } else { (pause * 2).min(LAST_RETRY) };
            tracing::warn!(%error, retry_in = ?pause, "the projector starts again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Stands by for the lock, then follows the log until something fails.
    async fn lead(&self) -> Result<(), ApplyError> {
        let mut db = self.pool.acquire().await?.detach();
        db.execute(SESSION).await?;
        while !sqlx::query_scalar::<_, bool>("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut db).await? {
            tokio::time::sleep(STANDBY).await;
        }
        tracing::info!("this projector is the active one");
        let waiting = quarantine::healable(&mut db).await?;
        if waiting > 0 {
            tracing::warn!(events = waiting, "quarantined events can be read by this build: run `apiq admin rebuild`");
        }
        sqlx::query("insert into log.checkpoints (name) values ($1) on conflict do nothing")
            .bind(CHECKPOINT)
            .execute(&mut db)
            .await?;
        // The database may have lost what it had not flushed, or be a promoted standby: what it says now is the truth.
        self.progress.restart(place(&mut db).await?.at);
        loop {
            match self.follow(&mut db).await {
                Err(ApplyError::Moved) => tracing::info!("the read models were rebuilt: going on with the new ones"),
                Err(other) => return Err(other),
                Ok(never) => match never {},
            }
        }
    }

    /// From the checkpoint on, with nothing in memory.
    async fn follow(&self, db: &mut PgConnection) -> Result<std::convert::Infallible, ApplyError> {
        let mut place = place(&mut *db).await?;
        let blocked = Blocked::read(&mut *db).await?;
        let mut fold = Fold::new(&mut *db, Schema::Live, blocked, KEEP).await?;
        let mut source = source::from(self.pool.clone(), self.generation, place.at);
        let mut watcher = self.tail.watch();
        let mut pace = Pace::default();
        self.progress.reached(place.at);
        loop {
            pace.wait().await;
            let (items, full) = source.next(pace.limit()).await?;
            let Some(last) = items.last() else {
                pace.idle();
                watcher.wait().await;
                continue;
            };
            let applied = apply(db, &mut fold, Target::Checkpoint(CHECKPOINT, place), &items).await?;
            place.at = last.recorded.at;
            self.progress.reached(place.at);
            self.last.send_replace(Batch { events: items.len(), took: applied.longest });
            pace.wrote(items.len(), full, applied.longest);
        }
    }
}

/// Where the live read models are.
pub(crate) async fn place(db: &mut PgConnection) -> Result<Place, sqlx::Error> {
    let row: Option<(i32, String, i64, i64)> =
        sqlx::query_as("select generation, transaction_id::text, position, swaps from log.checkpoints where name = $1")
            .bind(CHECKPOINT)
            .fetch_optional(db)
            .await?;
    let Some((generation, transaction, position, swaps)) = row else {
        return Ok(Place { at: LogPosition::START, swaps: 0 });
    };
    let transaction_id = transaction.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    Ok(Place { at: LogPosition { generation, transaction_id, position }, swaps })
}
