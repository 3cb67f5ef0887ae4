//! How a node uses the log.

/// The defaults are those of the server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Batches that may commit at once.
    pub writers: usize,
    /// Queries that may read streams at once; those asked for meanwhile are read together.
    pub readers: usize,
    /// Bound of the cache of folded streams, in bytes, about. 0: nothing is cached.
    pub cache_bytes: u64,
    /// A load that folds more events than this leaves a snapshot. 0: none are written.
    pub snapshot_every: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self { writers: 2, readers: 2, cache_bytes: 16 * 1024 * 1024, snapshot_every: 200 }
    }
}
