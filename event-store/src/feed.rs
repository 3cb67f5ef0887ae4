//! One reader of the log's end for a whole node: what it reads is kept in a bounded ring, and every follower that is
//! near the end takes its events from there.
//!
//! The ring holds every event of `(start, end]`, so a place within it is all that a follower needs in order to go on
//! without a gap or a double. The feed reads only while a follower waits at the end: without one nothing is polled, and
//! with one that is busy nothing is read ahead of it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::event::{LogPosition, RecordedEvent};
use moka::future::Cache;
use sqlx::PgPool;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::{
    read::{Batch, Server, next_batch, probe, weight},
    tail::{POLL, Tail},
};

/// The ring's size; what is older is read from the database again.
const RING_BYTES: usize = 8 * 1024 * 1024;
const RING_EVENTS: usize = 32_768;
/// Pages that partitions of a group share while they catch up.
const PAGES_BYTES: u64 = 16 * 1024 * 1024;
const PAGES_IDLE: Duration = Duration::from_secs(5);
/// Events that the feed reads at once.
const BATCH: usize = 1_024;
/// The first look again when something is committed but held back; doubled each time, up to the poll.
const FIRST_RETRY: Duration = Duration::from_millis(1);

/// Cheap to clone; the reading task ends with the store.
pub(crate) struct Feed {
    shared: Arc<Shared>,
    task: AbortHandle,
    pages: Cache<(LogPosition, usize), Arc<Batch>>,
}

struct Shared {
    ring: Mutex<Ring>,
    signal: watch::Sender<Signal>,
    wanted: Notify,
}

/// What waiting followers are woken by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signal {
    turns: u64,
    /// Changed: the feed could not read, or another server answers. Look for yourself.
    pub failures: u64,
}

/// Where a follower's place is.
pub(crate) enum Taken {
    /// In the ring, with events after it.
    Events(Vec<Arc<RecordedEvent>>, Server),
    /// At the ring's end, or so short behind it that the feed is there at once.
    End(Server),
    /// Not in the ring: read the database.
    Outside,
}

#[derive(Default)]
struct Ring {
    /// The server that the events were read from. `None`: the ring begins anew with the next follower at the end.
    server: Option<Server>,
    start: LogPosition,
    end: LogPosition,
    events: VecDeque<Arc<RecordedEvent>>,
    bytes: usize,
    /// Followers that wait at the end.
    waiting: usize,
}

impl Feed {
    pub(crate) fn start(pool: PgPool, tail: Tail) -> Self {
        let shared = Arc::new(Shared {
            ring: Mutex::new(Ring::default()),
            signal: watch::Sender::new(Signal::default()),
            wanted: Notify::new(),
        });
        let task = tokio::spawn(run(shared.clone(), pool, tail)).abort_handle();
        let pages = Cache::builder()
            .weigher(|_, batch: &Arc<Batch>| {
                let bytes = batch.events.iter().map(|e| weight(e)).sum::<usize>();
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .max_capacity(PAGES_BYTES)
            .time_to_idle(PAGES_IDLE)
            .build();
        Self { shared, task, pages }
    }

    /// To be asked before `take`: what changes after it is not missed by a wait on it.
    pub(crate) fn signal(&self) -> watch::Receiver<Signal> {
        self.shared.signal.subscribe()
    }

    pub(crate) fn take(&self, at: LogPosition, max: usize) -> Taken {
        self.shared.lock().take(at, max)
    }

    /// Makes the feed read, from `at` if nobody else waits. It goes on for as long as the guard lives.
    pub(crate) fn want(&self, at: LogPosition, server: Server) -> Wanted {
        let mut ring = self.shared.lock();
        // A ring that rested is moved to where the log is now, in place of reading all that nobody asked for.
        if ring.server.is_none() || (ring.waiting == 0 && at > ring.end) {
            ring.begin(at, server);
        }
        ring.waiting += 1;
        drop(ring);
        self.shared.wanted.notify_one();
        Wanted(self.shared.clone())
    }

    /// A batch far from the end that others are likely to want as well. Final, since it is older than every running
    /// transaction; an empty one is not, and is not kept.
    pub(crate) async fn page(&self, pool: &PgPool, at: LogPosition, max: usize) -> Result<Arc<Batch>, sqlx::Error> {
        let read = async {
            let batch = next_batch(pool, at, max).await.map_err(Some)?;
            if batch.events.is_empty() { Err(None) } else { Ok(Arc::new(batch)) }
        };
        match self.pages.try_get_with::<_, Option<sqlx::Error>>((at, max), read).await {
            Ok(page) => Ok(page),
            Err(_) => next_batch(pool, at, max).await.map(Arc::new),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A follower that waits at the end.
pub(crate) struct Wanted(Arc<Shared>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to read on, if anybody waits.
    fn work(&self) -> Option<(LogPosition, Server)> {
        let ring = self.lock();
        ring.server.filter(|_| ring.waiting > 0).map(|server| (ring.end, server))
    }

    fn read(&self, from: LogPosition, batch: Vec<Arc<RecordedEvent>>) {
        let mut ring = self.lock();
        // It may have been moved meanwhile.
        if ring.server.is_some() && ring.end == from {
            ring.push(batch);
        }
        drop(ring);
        self.signal.send_modify(|s| s.turns = s.turns.wrapping_add(1));
    }

    /// Everybody looks for himself; the ring begins anew where the server is another one.
    fn failed(&self, lost: bool) {
        if lost {
            self.lock().clear();
        }
        self.signal.send_modify(|s| s.failures = s.failures.wrapping_add(1));
    }
}

impl Ring {
    fn begin(&mut self, at: LogPosition, server: Server) {
        self.clear();
        (self.server, self.start, self.end) = (Some(server), at, at);
    }

    fn clear(&mut self) {
        self.server = None;
        self.events = VecDeque::new();
        self.bytes = 0;
    }

    fn take(&self, at: LogPosition, max: usize) -> Taken {
        let Some(server) = self.server else { return Taken::Outside };
        if at < self.start {
            return Taken::Outside;
        }
        let first = self.events.partition_point(|e| e.at <= at);
        let last = self.events.len().min(first.saturating_add(max.max(1)));
        if first == last {
            return Taken::End(server);
        }
        Taken::Events(self.events.range(first..last).cloned().collect(), server)
    }

    fn push(&mut self, batch: Vec<Arc<RecordedEvent>>) {
        for event in batch {
            self.end = event.at;
            self.bytes += weight(&event);
            self.events.push_back(event);
        }
        while self.bytes > RING_BYTES || self.events.len() > RING_EVENTS {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= weight(&oldest);
            self.start = oldest.at;
        }
    }
}

async fn run(shared: Arc<Shared>, pool: PgPool, tail: Tail) {
    let mut watcher = tail.watch();
    let mut retry = FIRST_RETRY;
    // Nobody has said that there is something: ask for less.
    let mut quiet = false;
    loop {
        let Some((from, server)) = shared.work() else {
            shared.wanted.notified().await;
            quiet = false;
            continue;
        };
        let looked = match quiet {
            true => probe(&pool, from).await.map(|(server, held)| Batch { server, events: Vec::new(), held }),
            false => next_batch(&pool, from, BATCH).await,
        };
        match looked {
            Ok(batch) if batch.server != server => shared.failed(true),
            Ok(batch) if !batch.events.is_empty() => {
                retry = FIRST_RETRY;
                shared.read(from, batch.events);
            }
            Ok(batch) if batch.held && quiet => quiet = false,
            Ok(batch) if batch.held => {
                // The end of an older transaction says nothing to us, unless it was an append here.
                watcher.wait_at_most(retry).await;
                retry = (retry * 2).min(POLL);
            }
            Ok(_) => {
                retry = FIRST_RETRY;
                quiet = !watcher.wait_at_most(POLL).await;
            }
            Err(error) => {
                tracing::debug!(%error, "the feed reads again in a moment");
                shared.failed(false);
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    fn place(position: i64) -> LogPosition {
        LogPosition { generation: 1, transaction_id: 5, position }
    }

    fn event(position: i64, size: usize) -> Arc<RecordedEvent> {
        Arc::new(RecordedEvent {
            at: place(position),
            workspace_id: Uuid::nil(),
            aggregate_type: "organization".into(),
            aggregate_id: Uuid::nil(),
            sequence: 1,
            event_type: "organization.created".into(),
            event_version: "1".into(),
            payload: "x".repeat(size),
            metadata: "{}".into(),
            event_id: Uuid::nil(),
            recorded_at: DateTime::UNIX_EPOCH,
        })
    }

    fn positions(taken: Taken) -> Option<Vec<i64>> {
        match taken {
            Taken::Events(events, _) => Some(events.iter().map(|e| e.at.position).collect()),
            Taken::End(_) => Some(Vec::new()),
            Taken::Outside => None,
        }
    }

    #[test]
    fn a_place_in_the_ring_goes_on_without_gap_or_double() {
        let mut ring = Ring::default();
        assert_eq!(positions(ring.take(place(0), 9)), None);
        ring.begin(place(10), DateTime::UNIX_EPOCH);
        assert_eq!(positions(ring.take(place(10), 9)), Some(vec![]));
        ring.push(vec![event(11, 1), event(13, 1), event(14, 1)]);
        assert_eq!(positions(ring.take(place(9), 9)), None, "the 10th is not there");
        assert_eq!(positions(ring.take(place(10), 9)), Some(vec![11, 13, 14]));
        assert_eq!(positions(ring.take(place(10), 2)), Some(vec![11, 13]));
        assert_eq!(positions(ring.take(place(12), 9)), Some(vec![13, 14]));
        assert_eq!(positions(ring.take(place(14), 9)), Some(vec![]));
        assert_eq!(positions(ring.take(place(20), 9)), Some(vec![]), "read from the database ahead of the feed");
    }

    #[test]
    fn what_falls_out_of_the_ring_is_outside() {
        let mut ring = Ring::default();
        ring.begin(place(0), DateTime::UNIX_EPOCH);
        ring.push((1..=20).map(|n| event(n, 1_000_000)).collect());
        let first = ring.start.position;
        assert!(ring.bytes <= RING_BYTES && first >= 10, "{first}");
        assert_eq!(positions(ring.take(place(first - 1), 99)), None);
        assert_eq!(positions(ring.take(place(first), 99)), Some((first + 1..=20).collect()));
    }
}
