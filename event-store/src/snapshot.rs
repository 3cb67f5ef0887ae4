//! Snapshots: the folded states of long streams, written behind loads, so that a cold load reads a few events only.
//!
//! Derived and expendable. A snapshot is used only by a build that folds as its writer did, only when it is undamaged,
//! and only when the event that it ends with is in the log.

use std::{sync::Arc, time::Duration};

use domain::{FOLD_FINGERPRINT, aggregate::Decider};
use sha2::{Digest, Sha256};
use sqlx::{PgPool, Row, postgres::PgRow};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{EventStore, Loaded, cache::Cache};

/// Snapshots that wait to be written; a load that finds the queue full leaves none.
const QUEUE: usize = 64;
/// Snapshots of another shape are kept this long, for a build that is rolled back or not yet replaced.
const OTHER_SHAPES: &str = "7 days";

/// Writes snapshots, one at a time: they must not take the appends' connections.
pub(crate) struct Snapshots {
    queue: mpsc::Sender<Job>,
    every: i64,
}

enum Job {
    Write(Box<dyn FnOnce() -> serde_json::Result<Snapshot> + Send>),
    Discard { aggregate_type: &'static str, aggregate_id: Uuid, sequence: i64 },
}

/// The state in a snapshot, or why it is of no use.
pub(crate) type Opened<A> = Result<Loaded<A>, String>;

/// A row of `log.snapshots` of this build's shape.
pub(crate) struct Snapshot {
    aggregate_type: &'static str,
    aggregate_id: Uuid,
    workspace: Uuid,
    sequence: i64,
    event_id: Uuid,
    state: String,
}

impl Snapshot {
    fn of<A: Decider>(loaded: &Loaded<A>) -> serde_json::Result<Self> {
        Ok(Self {
            aggregate_type: A::TYPE,
            aggregate_id: loaded.id,
            workspace: loaded.workspace.unwrap_or_default(),
            sequence: loaded.sequence,
            event_id: loaded.last_event.unwrap_or_default(),
            state: serde_json::to_string(&loaded.state)?,
        })
    }

    /// The snapshot in a row of `load.rs`, with its sequence; or why it is none to use.
    pub(crate) fn read<A: Decider>(id: Uuid, row: &PgRow) -> Result<Option<(i64, Opened<A>)>, sqlx::Error> {
        let Some(sequence) = row.try_get::<Option<i64>, _>("snapshot_sequence")? else { return Ok(None) };
        let snapshot = Snapshot {
            aggregate_type: A::TYPE,
            aggregate_id: id,
            workspace: row.try_get("snapshot_workspace")?,
            sequence,
            event_id: row.try_get("snapshot_event")?,
            state: row.try_get("snapshot_state")?,
        };
        let digest: Vec<u8> = row.try_get("snapshot_digest")?;
        let is_whole = digest == snapshot.digest();
        Ok(Some((
            sequence,
            if is_whole { snapshot.open().map_err(|e| e.to_string()) } else { Err("it is damaged".into()) },
        )))
    }

    fn open<A: Decider>(self) -> serde_json::Result<Loaded<A>> {
        let mut loaded = Loaded::fresh(self.aggregate_id);
        loaded.state = serde_json::from_str(&self.state)?;
        loaded.sequence = self.sequence;
        loaded.workspace = Some(self.workspace);
        loaded.last_event = Some(self.event_id);
        loaded.size.grow(self.state.len());
        Ok(loaded)
    }

    fn digest(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(FOLD_FINGERPRINT);
        hash.update(self.aggregate_type);
        hash.update(self.aggregate_id);
        hash.update(self.workspace);
        hash.update(self.sequence.to_be_bytes());
        hash.update(self.event_id);
        hash.update(&self.state);
        hash.finalize().to_vec()
    }

    async fn write(self, pool: &PgPool) -> Result<(), sqlx::Error> {
        sqlx::query(
            "insert into log.snapshots
               (aggregate_type, aggregate_id, shape, workspace_id, sequence, event_id, state, digest)
             values ($1, $2, $3, $4, $5, $6, $7::json, $8)
             on conflict (aggregate_type, aggregate_id, shape) do update
               set workspace_id = excluded.workspace_id, sequence = excluded.sequence, event_id = excluded.event_id,
                   state = excluded.state, digest = excluded.digest, created_at = now()
             where snapshots.sequence < excluded.sequence",
        )
        .bind(self.aggregate_type)
        .bind(self.aggregate_id)
        .bind(FOLD_FINGERPRINT)
        .bind(self.workspace)
        .bind(self.sequence)
        .bind(self.event_id)
        .bind(&self.state)
        .bind(self.digest())
        .execute(pool)
        .await?;
        Ok(())
    }
}

impl Snapshots {
    pub(crate) fn start(pool: PgPool, every: i64, cache: Arc<Cache>) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(run(pool, jobs, cache));
        Self { queue, every }
    }

    /// After a load: leaves a snapshot when it was a long one.
    pub(crate) fn offer<A: Decider>(&self, loaded: &Loaded<A>) {
        if self.every <= 0 || i64::from(loaded.folded) <= self.every {
            return;
        }
        // Asked for before the state is copied.
        if let Ok(place) = self.queue.try_reserve() {
            let loaded = loaded.clone();
            place.send(Job::Write(Box::new(move || Snapshot::of(&loaded))));
        }
    }

    /// An unusable snapshot would stand in the way of a good one.
    pub(crate) fn discard<A: Decider>(&self, id: Uuid, sequence: i64, why: &str) {
        tracing::warn!(aggregate = A::TYPE, %id, sequence, why, "a snapshot is not used");
        // A full queue: the next load finds it again.
        let _ = self.queue.try_send(Job::Discard { aggregate_type: A::TYPE, aggregate_id: id, sequence });
    }
}

async fn run(pool: PgPool, mut jobs: mpsc::Receiver<Job>, cache: Arc<Cache>) {
    let mut tidy = tokio::time::interval(Duration::from_secs(60));
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(job) => {
                    if let Err(error) = work(&pool, job).await {
                        tracing::warn!(%error, "a snapshot could not be written");
                    }
                }
                None => return,
            },
            _ = tidy.tick() => cache.tidy(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("the state is no JSON: {0}")]
    State(#[from] serde_json::Error),
}

async fn work(pool: &PgPool, job: Job) -> Result<(), Fault> {
    match job {
        Job::Write(make) => make()?.write(pool).await?,
        Job::Discard { aggregate_type, aggregate_id, sequence } => {
            let sql = "delete from log.snapshots
                        where aggregate_type = $1 and aggregate_id = $2 and shape = $3 and sequence = $4";
            let delete = sqlx::query(sql).bind(aggregate_type).bind(aggregate_id).bind(FOLD_FINGERPRINT).bind(sequence);
            delete.execute(pool).await?;
        }
    }
    Ok(())
}

impl EventStore {
    /// Deletes snapshots that other builds left, once they are a week old. Gives their number.
    pub async fn sweep_snapshots(&self) -> Result<u64, sqlx::Error> {
        let sql =
            format!("delete from log.snapshots where shape <> $1 and created_at < now() - interval '{OTHER_SHAPES}'");
        Ok(sqlx::query(&sql).bind(FOLD_FINGERPRINT).execute(self.pool()).await?.rows_affected())
    }
}
