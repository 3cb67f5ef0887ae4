//! What was opened, kept in memory until it is forgotten.
//!
//! Each entry bears the generation that its reading began in. Whoever reads a key while everything is forgotten, because
//! one was destroyed, puts something back that is never given out: without that, an erased key would live on here.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use moka::future::Cache;

/// How long an opened key is kept: one that was destroyed elsewhere is gone sooner, see `Keyring::look`.
const LIFE: Duration = Duration::from_secs(300);
const MOST: u64 = 10_000;

/// Taken before something is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

#[derive(Clone)]
pub(crate) struct Opened<K, V> {
    kept: Cache<K, (Generation, V)>,
    generation: Arc<AtomicU64>,
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Opened<K, V> {
    pub(crate) fn new() -> Self {
        Self { kept: Cache::builder().max_capacity(MOST).time_to_live(LIFE).build(), generation: Arc::default() }
    }

    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(SeqCst))
    }

    pub(crate) async fn get(&self, key: &K) -> Option<V> {
        let (read_in, value) = self.kept.get(key).await?;
        (read_in == self.generation()).then_some(value)
    }

    /// `read_in`: taken before the value was read.
    pub(crate) async fn put(&self, key: K, value: V, read_in: Generation) {
        if read_in == self.generation() {
            self.kept.insert(key, (read_in, value)).await;
        }
    }

    pub(crate) async fn forget_one(&self, key: &K) {
        self.kept.invalidate(key).await;
    }

    pub(crate) fn forget(&self) {
        self.generation.fetch_add(1, SeqCst);
        self.kept.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_read_before_everything_was_forgotten_is_never_given_out() {
        let opened = Opened::<u8, u8>::new();
        let before = opened.generation();
        opened.put(1, 10, before).await;
        assert_eq!(opened.get(&1).await, Some(10));
        opened.forget();
        assert_eq!(opened.get(&1).await, None);
        // A slow reader comes back with what it read before.
        opened.put(1, 10, before).await;
        assert_eq!(opened.get(&1).await, None);
        // Even one that had passed the look at the generation.
        opened.kept.insert(1, (before, 10)).await;
        assert_eq!(opened.get(&1).await, None);
        opened.put(1, 11, opened.generation()).await;
        assert_eq!(opened.get(&1).await, Some(11));
        opened.forget_one(&1).await;
        assert_eq!(opened.get(&1).await, None);
    }
}
