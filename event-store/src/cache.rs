//! Folded streams in memory, bounded by bytes: committed states only, none older than the last `forget`.

use std::{
    any::{Any, TypeId},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::aggregate::Decider;
use moka::{ops::compute::Op, sync};
use uuid::Uuid;

use crate::{EventStore, Loaded};

/// What an entry costs beside its state: key, bookkeeping, allocations.
const OVERHEAD: u64 = 256;
/// An idle node gives the memory back.
const IDLE: Duration = Duration::from_secs(600);

/// Two states of one stream (of two builds' types, say) never meet: the type is part of the key.
type Key = (TypeId, Uuid);

#[derive(Clone)]
struct Entry {
    epoch: u64,
    sequence: i64,
    weight: u32,
    /// A `Loaded<A>`.
    state: Arc<dyn Any + Send + Sync>,
}

pub(crate) struct Cache {
    entries: sync::Cache<Key, Entry>,
    /// Raised by `forget`: what was begun before it is not kept, and what was kept before it is not given.
    epoch: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How the cache does. `bytes` is an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStats {
    /// Loads that found a state to begin with.
    pub hits: u64,
    pub misses: u64,
    pub entries: u64,
    pub bytes: u64,
}

impl Cache {
    pub(crate) fn new(bytes: u64) -> Self {
        let entries = sync::Cache::builder()
            .max_capacity(bytes)
            .weigher(|_: &Key, entry: &Entry| entry.weight)
            .time_to_idle(IDLE)
            .build();
        Self { entries, epoch: AtomicU64::new(0), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    pub(crate) fn get<A: Decider>(&self, id: Uuid) -> Option<Loaded<A>> {
        let entry = self.entries.get(&key::<A>(id)).filter(|entry| entry.epoch == self.epoch());
        let found = entry.and_then(|entry| entry.state.downcast::<Loaded<A>>().ok());
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found.map(|state| Loaded::clone(&state))
    }

    /// Takes a committed state, unless there is a newer one.
    pub(crate) fn put<A: Decider>(&self, mut loaded: Loaded<A>) {
        let Some(epoch) = loaded.epoch.filter(|_| loaded.sequence > 0) else { return };
        let (key, sequence) = (key::<A>(loaded.id), loaded.sequence);
        let size = loaded.size.settle(&loaded.state) + size_of::<Loaded<A>>() as u64 + OVERHEAD;
        let weight = u32::try_from(size).unwrap_or(u32::MAX);
        let entry = Entry { epoch, sequence, weight, state: Arc::new(loaded) };
        self.entries.entry(key).and_compute_with(|held| {
            let newer = held.is_some_and(|held| (held.value().epoch, held.value().sequence) >= (epoch, sequence));
            // Asked here, under the key's lock: `forget` empties the cache after it has raised the epoch.
            if newer || epoch != self.epoch() { Op::Nop } else { Op::Put(entry) }
        });
    }

    pub(crate) fn remove<A: Decider>(&self, id: Uuid) {
        self.entries.invalidate(&key::<A>(id));
    }

    pub(crate) fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate_all();
    }

    /// Drops what is over the bound, forgotten or idle; happens by itself while the cache is used.
    pub(crate) fn tidy(&self) {
        self.entries.run_pending_tasks();
    }

    fn stats(&self) -> CacheStats {
        self.tidy();
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: self.entries.entry_count(),
            bytes: self.entries.weighted_size(),
        }
    }
}

fn key<A: Decider>(id: Uuid) -> Key {
    (TypeId::of::<A>(), id)
}

/// About how many bytes a state takes: its JSON's length, as last measured, and the payloads folded into it since.
///
/// Measuring costs as much as the state is long, so it is done again only when the payloads since then could have
/// doubled it. A state that its events replace rather than grow (a session's tokens) is found small again by that.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Size {
    measured: u64,
    since: u64,
}

impl Size {
    /// A payload of so many bytes was folded.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.since += bytes as u64;
    }

    fn settle<A: Decider>(&mut self, state: &A) -> u64 {
        if self.since > self.measured {
            let mut counter = Counter(0);
            // A state that cannot be written as JSON counts as what was folded into it.
            if serde_json::to_writer(&mut counter, state).is_ok() {
                *self = Size { measured: counter.0, since: 0 };
            }
        }
        self.measured + self.since
    }
}

struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl EventStore {
    /// Keeps the state after a successful append, for the next `load` or `recall` on this node. Only for states whose
    /// every event is committed: after `append` has answered with a place.
    pub fn keep<A: Decider>(&self, loaded: Loaded<A>) {
        self.inner.cache.put(loaded);
    }

    /// Empties the cache, also of loads under way: the server may be another one now (a promoted standby, a restored
    /// backup) and not hold what was cached.
    pub fn forget_cached(&self) {
        self.inner.cache.forget();
    }

    pub fn cache_stats(&self) -> CacheStats {
        self.inner.cache.stats()
    }
}
