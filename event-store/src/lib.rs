//! The log on Postgres: append, load, read in order, wake up readers, blobs, checkpoints.
//!
//! Order is `(generation, transaction_id, position)`; readers see only transactions older than every running one, so
//! that nothing can appear behind them. Every appended event's predecessor was seen committed before its transaction began.

mod ahead;
mod append;
mod blobs;
mod cache;
mod checkpoint;
mod documents;
mod feed;
mod follow;
mod gather;
mod group;
mod hash_record;
mod idempotency;
mod lag;
mod load;
mod options;
mod pool;
mod read;
mod snapshot;
mod storable;
mod tail;
mod turn;
mod writer;

use std::sync::Arc;

pub use ahead::ReadAhead;
pub use append::{Append, AppendError, Appended, MAX_COMMAND, MAX_COMMAND_BYTES, MAX_PAYLOAD, NewEvent, StreamAppend};
pub use blobs::{BlobError, read_blob, read_blobs};
pub use cache::CacheStats;
pub use checkpoint::{Checkpoint, advance, checkpoint, checkpoints};
pub use documents::{CacheBounds, CacheSize, CachedDocument, DocumentCache, FetchedDocument};
pub use follow::{FollowError, Follower};
pub use group::{GroupError, GroupOptions, Member, partition_of};
pub use hash_record::hash_record;
pub use idempotency::{Claim, Remembered};
pub use lag::{ConsumerLag, HELD_TOO_LONG, LogHealth, MOST_COUNTED, OldestTransaction};
pub use load::{LoadError, Loaded};
pub use options::Options;
pub use pool::{ClusterIdentity, DatabaseRole, VANISHED, cluster_of, connect_pool, migrate};
pub use read::{EVENT_COLUMNS, event_of, read_after, read_event, read_stream};
pub use sqlx::Error as DatabaseError;
use sqlx::PgPool;
pub use tail::Tail;
pub use turn::Turn;
pub use writer::AppendStats;

use self::{gather::Gather, writer::Writer};

/// Why the log cannot be opened: each is one clear sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the database cannot be reached: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the database's schema is not up to date: {0}; run `apiq migrate`")]
    Schema(String),
    #[error(
        "the database's schema is newer than this build (it has migration {version}, which this build does not know): \
         start the newer version"
    )]
    Newer { version: i64 },
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
    writer: Writer,
    gather: Gather,
    tail: Tail,
    feed: feed::Feed,
    first_seen: lag::FirstSeen,
    cache: Arc<cache::Cache>,
    snapshots: snapshot::Snapshots,
    turns: turn::Turns,
}

impl EventStore {
    /// Opens the log: checks schema and cluster, starts the writers and the wake-up tasks.
    ///
    /// `pool` logs in as `apiq_writer`.
    pub async fn open(pool: PgPool, options: Options) -> Result<Self, OpenError> {
        let generation = pool::check_cluster(&mut *pool.acquire().await?).await?;
        let tail = Tail::start(pool.clone());
        let feed = feed::Feed::start(pool.clone(), tail.clone());
        let cache = Arc::new(cache::Cache::new(options.cache_bytes));
        let snapshots = snapshot::Snapshots::start(pool.clone(), options.snapshot_every, cache.clone());
        let known = cache.clone();
        let writer = Writer::start(pool.clone(), generation, tail.clone(), options.writers, move || known.forget());
        let gather = Gather::start(pool.clone(), options.readers);
        let first_seen = lag::FirstSeen::default();
        let turns = turn::Turns::default();
        let inner = Inner { pool, generation, writer, gather, tail, feed, first_seen, cache, snapshots, turns };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Appends one command's events: all or none, in one atomic step, over one or several streams.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        append.check()?;
        self.inner.writer.submit(append).await
    }

    /// What group append has done and what waits in it.
    pub fn append_stats(&self) -> AppendStats {
        self.inner.writer.stats()
    }

    /// Wakes when something may have been appended, here or on another node.
    pub fn tail(&self) -> Tail {
        self.inner.tail.clone()
    }

    pub(crate) fn feed(&self) -> &feed::Feed {
        &self.inner.feed
    }

    pub(crate) fn first_seen(&self) -> &lag::FirstSeen {
        &self.inner.first_seen
    }

    pub fn generation(&self) -> i32 {
        self.inner.generation
    }

    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }
}
