//! The log on Postgres: append, load, read in order, wake up readers, blobs, checkpoints.
//!
//! Order is `(generation, transaction_id, position)`; readers see only transactions older than every running one, so
//! that nothing can appear behind them. Every appended event's predecessor was seen committed by the append itself.

mod append;
mod blobs;
mod cache;
mod checkpoint;
mod follow;
mod hash_record;
mod idempotency;
mod load;
mod options;
mod pool;
mod read;
mod snapshot;
mod tail;
mod writer;

use std::sync::Arc;

pub use append::{Append, AppendError, Appended, NewEvent, StreamAppend};
pub use blobs::{BlobError, read_blob};
pub use cache::CacheStats;
pub use checkpoint::{Checkpoint, advance, checkpoint, checkpoints};
pub use follow::Follower;
pub use hash_record::hash_record;
pub use idempotency::{Claim, Remembered};
pub use load::{LoadError, Loaded};
pub use options::Options;
pub use pool::{DatabaseRole, connect_pool, migrate};
pub use read::{EVENT_COLUMNS, event_of, read_after, read_event, read_stream};
pub use sqlx::Error as DatabaseError;
use sqlx::PgPool;
pub use tail::Tail;

/// Why the log cannot be opened: each is one clear sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the database cannot be reached: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the database's schema is not up to date: {0}; run `apiq migrate`")]
    Schema(String),
    #[error(
        "this log was written by another Postgres cluster (a restored dump?): run `apiq migrate --adopt` to go on from it"
    )]
    OtherCluster,
}

/// The store as one node uses it. Cheap to clone.
#[derive(Clone)]
pub struct EventStore {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    generation: i32,
    writer: writer::Writer,
    tail: Tail,
    cache: Arc<cache::Cache>,
    snapshots: snapshot::Snapshots,
}

impl EventStore {
    /// Opens the log: checks the cluster, starts the writers and the wake-up tasks.
    ///
    /// `pool` logs in as `apiq_writer`.
    pub async fn open(pool: PgPool, options: Options) -> Result<Self, OpenError> {
        let generation = pool::check_cluster(&pool).await?;
        let tail = Tail::start(pool.clone());
        let writer = writer::Writer::start(pool.clone(), generation, tail.clone(), options.writers.max(1));
        let cache = Arc::new(cache::Cache::new(options.cache_bytes));
        let snapshots = snapshot::Snapshots::start(pool.clone(), options.snapshot_every, cache.clone());
        Ok(Self { inner: Arc::new(Inner { pool, generation, writer, tail, cache, snapshots }) })
    }

    /// Appends one command's events: all or none, in one atomic step, over one or several streams.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        append.check()?;
        self.inner.writer.submit(append).await
    }

    /// Wakes when something may have been appended, here or on another node.
    pub fn tail(&self) -> Tail {
        self.inner.tail.clone()
    }

    pub fn generation(&self) -> i32 {
        self.inner.generation
    }

    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }
}
