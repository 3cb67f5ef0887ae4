//! The projector: one over all nodes follows the log and keeps every view, others stand by.
//!
//! All views share one cursor, the row `read_models` of `log.checkpoints`. (A view of its own pace would get a row of
//! its own: nothing in a view knows the cursor.) Lock, reads and writes use one connection: an instance that loses it
//! has lost the lock and its transaction together, so that two never write at once; compare-and-set stands behind.

use std::{future::Future, time::Duration};

use domain::event::LogPosition;
use event_store::Tail;
use sqlx::{Executor, PgConnection, PgPool};

use crate::{
    apply::{ApplyError, Target, apply},
    progress::Progress,
    view::Schema,
};

/// Name of the projection checkpoint.
pub const CHECKPOINT: &str = "read_models";
/// Cluster-wide key of the session advisory lock; the database is part of the lock.
const LOCK: i64 = 0x6170_6971_5052_4f4a;
/// Events a batch. Larger ones are faster, but while a write transaction is open no reader of the log sees past it.
const BATCH: i64 = 250;
const STANDBY: Duration = Duration::from_millis(500);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

pub struct Projector {
    pool: PgPool,
    generation: i32,
    tail: Tail,
    progress: Progress,
}

impl Projector {
    /// `pool` logs in as `apiq_projector`; one connection of it is taken out for good while this runs.
    pub fn new(pool: PgPool, generation: i32, tail: Tail) -> Self {
        Self { pool, generation, tail, progress: Progress::default() }
    }

    /// For `ReadModels`: tells at once what this projector has done.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
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
        // A plan made while the tables were small must not outlive that: plans are cheap, sequential scans are not.
        db.execute("set plan_cache_mode = force_custom_plan").await?;
        while !sqlx::query_scalar::<_, bool>("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut db).await? {
            tokio::time::sleep(STANDBY).await;
        }
        tracing::info!("this projector is the active one");
        let mut watcher = self.tail.watch();
        let mut at = event_store::checkpoint(&mut db, CHECKPOINT).await?;
        self.progress.reached(at);
        loop {
            match self.step(&mut db, at).await? {
                Some(reached) => at = reached,
                None => watcher.wait().await,
            }
        }
    }

    /// One batch; `None` at the log's end.
    async fn step(&self, db: &mut PgConnection, at: LogPosition) -> Result<Option<LogPosition>, ApplyError> {
        let events = event_store::read_after(&mut *db, self.generation, at, BATCH).await?;
        let Some(last) = events.last() else { return Ok(None) };
        apply(db, Target { schema: Schema::Live, checkpoint: Some((CHECKPOINT, at)) }, &events).await?;
        self.progress.reached(last.at);
        Ok(Some(last.at))
    }
}
