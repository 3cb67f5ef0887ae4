//! The commands that wait: bounded in number and bytes, in order for each stream.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::{Notify, oneshot};

use super::Outcome;
use crate::{Append, AppendError, append::StreamKey};

const MAX_WAITING: usize = 4_096;
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// One batch.
const MAX_COMMANDS: usize = 256;
const MAX_EVENTS: usize = 2_048;
const MAX_BYTES: usize = 4 * 1024 * 1024;

pub(super) struct Waiting {
    pub append: Append,
    pub answer: oneshot::Sender<Outcome>,
    pub bytes: usize,
}

impl Waiting {
    pub fn new(append: Append, answer: oneshot::Sender<Outcome>) -> Self {
        let bytes = append.bytes();
        Self { append, answer, bytes }
    }

    fn keys(&self) -> impl Iterator<Item = StreamKey> + '_ {
        self.append.streams.iter().map(|s| s.key())
    }
}

/// What group append has done since the start, and what waits now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct AppendStats {
    /// Commands that wait now, and their bytes.
    pub waiting: u64,
    pub waiting_bytes: u64,
    /// Commands acknowledged, and their events.
    pub commands: u64,
    pub events: u64,
    /// Transactions, and how many of them were COPYs.
    pub batches: u64,
    pub copies: u64,
    /// Batches that had to be done again in another way, because something in them could not be stored.
    pub fallbacks: u64,
    pub conflicts: u64,
    /// Commands turned away because too many waited.
    pub overloaded: u64,
    /// Connections lost while a batch was under way; each batch was settled after it.
    pub interruptions: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub commands: AtomicU64,
    pub events: AtomicU64,
    pub batches: AtomicU64,
    pub copies: AtomicU64,
    pub fallbacks: AtomicU64,
    pub conflicts: AtomicU64,
    pub overloaded: AtomicU64,
    pub interruptions: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Streams of batches that lanes are at: their next commands wait for the outcome.
    under_way: HashSet<StreamKey>,
    closed: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something can be taken.
    ready: Notify,
    pub counters: Counters,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, waiting: Waiting) -> Result<(), AppendError> {
        let mut state = self.lock();
        if state.closed {
            return Err(AppendError::Unavailable("the log is shutting down".into()));
        }
        let full = state.waiting.len() >= MAX_WAITING || state.bytes + waiting.bytes > MAX_WAITING_BYTES;
        if full && !state.waiting.is_empty() {
            self.counters.overloaded.fetch_add(1, Relaxed);
            return Err(AppendError::Overloaded);
        }
        state.bytes += waiting.bytes;
        state.waiting.push_back(waiting);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// What can be committed together now; waits for it. `None` at shutdown, when nothing is left.
    pub async fn take(&self) -> Option<Vec<Waiting>> {
        loop {
            let ready = self.ready.notified();
            {
                let mut state = self.lock();
                let batch = state.take();
                if !batch.is_empty() {
                    // Another lane may find something for itself.
                    if !state.waiting.is_empty() {
                        self.ready.notify_one();
                    }
                    return Some(batch);
                }
                if state.closed && state.waiting.is_empty() {
                    // The next lane that waits.
                    self.ready.notify_one();
                    return None;
                }
            }
            ready.await;
        }
    }

    /// The batch's streams are free again.
    pub fn done(&self, keys: &[StreamKey]) {
        let mut state = self.lock();
        for key in keys {
            state.under_way.remove(key);
        }
        if !state.waiting.is_empty() || state.closed {
            drop(state);
            self.ready.notify_one();
        }
    }

    pub fn close(&self) {
        self.lock().closed = true;
        // Every lane must hear it: those that wait, and the one that is about to.
        self.ready.notify_waiters();
        self.ready.notify_one();
    }

    pub fn stats(&self) -> AppendStats {
        let (waiting, waiting_bytes) = {
            let state = self.lock();
            (state.waiting.len() as u64, state.bytes as u64)
        };
        let c = &self.counters;
        AppendStats {
            waiting,
            waiting_bytes,
            commands: c.commands.load(Relaxed),
            events: c.events.load(Relaxed),
            batches: c.batches.load(Relaxed),
            copies: c.copies.load(Relaxed),
            fallbacks: c.fallbacks.load(Relaxed),
            conflicts: c.conflicts.load(Relaxed),
            overloaded: c.overloaded.load(Relaxed),
            interruptions: c.interruptions.load(Relaxed),
        }
    }
}

impl State {
    /// At most one command a stream; a command that is passed over holds back later ones of its streams.
    fn take(&mut self) -> Vec<Waiting> {
        let mut batch: Vec<Waiting> = Vec::new();
        let mut held: HashSet<StreamKey> = HashSet::new();
        let mut rest = VecDeque::new();
        let (mut events, mut bytes) = (0, 0);
        while let Some(waiting) = self.waiting.pop_front() {
            let full = batch.len() >= MAX_COMMANDS || events >= MAX_EVENTS || bytes >= MAX_BYTES;
            if full {
                self.waiting.push_front(waiting);
                break;
            }
            if waiting.keys().any(|k| held.contains(&k) || self.under_way.contains(&k)) {
                held.extend(waiting.keys());
                rest.push_back(waiting);
                continue;
            }
            held.extend(waiting.keys());
            events += waiting.append.events();
            bytes += waiting.bytes;
            batch.push(waiting);
        }
        rest.append(&mut self.waiting);
        self.waiting = rest;
        self.bytes -= bytes;
        self.under_way.extend(batch.iter().flat_map(Waiting::keys));
        batch
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{NewEvent, StreamAppend};

    fn waiting(ids: &[u128]) -> Waiting {
        let event = NewEvent {
            event_id: Uuid::nil(),
            event_type: "a.b".into(),
            event_version: "1".into(),
            payload: "{}".into(),
        };
        let stream = |id: &u128| StreamAppend {
            aggregate_type: "a",
            aggregate_id: Uuid::from_u128(*id),
            expected: 0,
            predecessor: None,
            events: vec![event.clone()],
        };
        let streams = ids.iter().map(stream).collect();
        let append = Append { workspace_id: Uuid::nil(), streams, metadata: "{}".into(), claim: None };
        Waiting::new(append, oneshot::channel().0)
    }

    fn ids(batch: &[Waiting]) -> Vec<Vec<u128>> {
        batch.iter().map(|w| w.keys().map(|(_, id)| id.as_u128()).collect()).collect()
    }

    #[test]
    fn a_stream_is_in_one_batch_at_a_time_and_in_order() {
        let queue = Queue::default();
        for streams in [&[1][..], &[2], &[1, 3], &[3], &[4]] {
            queue.push(waiting(streams)).unwrap();
        }
        let first = queue.lock().take();
        // [3] must wait: [1, 3] came before it.
        assert_eq!(ids(&first), [vec![1], vec![2], vec![4]]);
        assert!(queue.lock().take().is_empty(), "stream 1 is under way");
        queue.done(&[("a", Uuid::from_u128(1))]);
        assert_eq!(ids(&queue.lock().take()), [vec![1, 3]]);
        queue.done(&[("a", Uuid::from_u128(1)), ("a", Uuid::from_u128(3))]);
        assert_eq!(ids(&queue.lock().take()), [vec![3]]);
        assert_eq!(queue.stats().waiting_bytes, 0);
    }

    #[test]
    fn too_many_are_turned_away_and_counted() {
        let queue = Queue::default();
        for n in 0..MAX_WAITING {
            queue.push(waiting(&[n as u128])).unwrap();
        }
        assert!(matches!(queue.push(waiting(&[9])), Err(AppendError::Overloaded)));
        let stats = queue.stats();
        assert_eq!((stats.waiting, stats.overloaded), (MAX_WAITING as u64, 1));
        assert_eq!(queue.lock().take().len(), MAX_COMMANDS);
    }
}
