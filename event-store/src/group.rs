//! Groups of consumers over all nodes: each partition of the log is processed by one member at a time, in order.
//!
//! A partition is a share of the aggregates (or of another key). It has a checkpoint of its own; members take partitions
//! by advisory locks, share them evenly, and take over those of a member that is gone. Delivery is at least once: after a
//! crash the events since the last checkpoint come again.

mod seats;

use std::{collections::BTreeMap, fmt::Display, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use domain::event::{LogPosition, RecordedEvent};
use futures::FutureExt;
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use uuid::Uuid;

use crate::{EventStore, FollowError, Follower};
use seats::Seats;

/// Waits of a handler that failed: doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// A session that is silent for longer is ended by the server.
const SLOWEST_BALANCE: Duration = Duration::from_secs(5);
/// A member whose session broke looks for another one.
const RECONNECT: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error("the group's checkpoints cannot be read: {0}")]
    Database(#[from] sqlx::Error),
    #[error(
        "the group {group} has {there} partitions and was joined with {asked}: their number is fixed by its checkpoints"
    )]
    Partitions { group: String, there: usize, asked: u32 },
    #[error("a group needs a name and one partition at least")]
    Empty,
}

/// How a member works. What concerns the whole group must be the same for all members.
#[derive(Debug, Clone, Copy)]
pub struct GroupOptions {
    /// Where a group begins that never ran.
    pub from: LogPosition,
    /// What must be handled in order, and thus by one member: the aggregate, if nothing else is said.
    pub key: fn(&RecordedEvent) -> Uuid,
    /// Events that are read at once, of all partitions.
    pub batch: usize,
    /// See `Follower::at_most_every`.
    pub at_most_every: Duration,
    /// Checkpoints are written after this many handled events or this long, whatever is first.
    pub checkpoint_events: u64,
    pub checkpoint_every: Duration,
    /// How often members look at each other.
    pub balance_every: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            from: LogPosition::START,
            key: |event| event.aggregate_id,
            batch: 500,
            at_most_every: Duration::ZERO,
            checkpoint_events: 1_000,
            checkpoint_every: Duration::from_millis(500),
            balance_every: Duration::from_secs(1),
        }
    }
}

/// The partition of a key, for ever: its two halves, mixed as SplitMix64 does it, modulo the number of partitions.
pub fn partition_of(key: Uuid, partitions: u32) -> u32 {
    let (high, low) = key.as_u64_pair();
    let mut mixed = high.rotate_left(32) ^ low;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed % u64::from(partitions.max(1))) as u32
}

/// One node's part in a group. It works while `run` does.
pub struct Member {
    store: EventStore,
    group: String,
    partitions: u32,
    options: GroupOptions,
}

impl EventStore {
    /// Joins a group, making its checkpoints if it never ran. `partitions` cannot change after that; with one, the group
    /// is a single active consumer with others standing by.
    pub async fn join_group(&self, name: &str, partitions: u32, options: GroupOptions) -> Result<Member, GroupError> {
        if name.is_empty() || partitions == 0 {
            return Err(GroupError::Empty);
        }
        seats::prepare(self.pool(), name, partitions, options.from).await?;
        Ok(Member { store: self.clone(), group: name.to_owned(), partitions, options })
    }
}

impl Member {
    /// Processes this member's share until `stop`: then what is under way is ended, checkpoints are written and the
    /// partitions given back. Dropping the future leaves at once.
    ///
    /// `handler` gets a partition and its next events in order. An error (or a panic) is told in the server's log, and
    /// the same events come again after a wait: nothing is skipped. The same events may come again after a crash, too.
    /// A broken connection ends handlers where they wait, since another member may take over.
    pub async fn run<H, F, E>(self, handler: H, stop: impl Future<Output = ()>)
    where
        H: Fn(u32, Vec<Arc<RecordedEvent>>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let handler = Arc::new(handler);
        let mut stop = std::pin::pin!(stop);
        let mut leaving = false;
        // Dropped with this future: nothing is processed without the locks.
        let mut tasks = JoinSet::new();
        while let Err(error) = self.session(&handler, &mut tasks, &mut stop, &mut leaving).await {
            tracing::warn!(group = self.group, %error, "the group's session broke; its partitions are taken again");
            tasks.shutdown().await;
            if leaving {
                return;
            }
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(RECONNECT) => {}
            }
        }
    }

    async fn session<H, F, E>(
        &self,
        handler: &Arc<H>,
        tasks: &mut JoinSet<u32>,
        stop: &mut (impl Future<Output = ()> + Unpin),
        leaving: &mut bool,
    ) -> Result<(), sqlx::Error>
    where
        H: Fn(u32, Vec<Arc<RecordedEvent>>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let seats = Seats::open(self.store.pool(), &self.group, self.partitions).await?;
        let mut desk = Desk { seats, owned: BTreeMap::new(), full: Arc::new(Notify::new()) };
        let mut balance = ticks(self.options.balance_every.min(SLOWEST_BALANCE));
        let mut save = ticks(self.options.checkpoint_every);
        loop {
            tokio::select! {
                () = &mut *stop, if !*leaving => {
                    *leaving = true;
                    desk.owned.values().for_each(Owned::release);
                }
                // Also while leaving: it keeps the session alive.
                _ = balance.tick() => {
                    for partition in desk.balance(*leaving).await? {
                        self.begin(&mut desk, tasks, handler, partition);
                    }
                }
                _ = save.tick() => desk.save(None).await?,
                () = desk.full.notified() => desk.save(None).await?,
                Some(ended) = tasks.join_next() => {
                    // An aborted task has no partition any more.
                    if let Ok(partition) = ended {
                        desk.save(Some(partition)).await?;
                        desk.give_back(partition).await?;
                    }
                }
            }
            if *leaving && desk.owned.is_empty() {
                desk.seats.close().await;
                return Ok(());
            }
        }
    }

    fn begin<H, F, E>(
        &self,
        desk: &mut Desk,
        tasks: &mut JoinSet<u32>,
        handler: &Arc<H>,
        (partition, from): (u32, LogPosition),
    ) where
        H: Fn(u32, Vec<Arc<RecordedEvent>>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let (progress, seen) = watch::channel(Progress { at: from, handled: 0 });
        let released = watch::Sender::new(false);
        let worker = Worker {
            group: self.group.clone(),
            partition,
            partitions: self.partitions,
            options: self.options,
            progress,
            full: desk.full.clone(),
            released: released.subscribe(),
        };
        let follower = self.store.follow_together(from).at_most_every(self.options.at_most_every);
        let task = tasks.spawn(worker.run(follower, handler.clone()));
        desk.owned.insert(partition, Owned { saved: from, progress: seen, released, task });
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval_at(Instant::now(), every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A partition that this member processes.
struct Owned {
    saved: LogPosition,
    progress: watch::Receiver<Progress>,
    released: watch::Sender<bool>,
    task: AbortHandle,
}

impl Owned {
    /// Ends its task behind what it handles now.
    fn release(&self) {
        self.released.send_replace(true);
    }
}

struct Desk {
    seats: Seats,
    owned: BTreeMap<u32, Owned>,
    /// Some partition has handled enough for a checkpoint.
    full: Arc<Notify>,
}

impl Desk {
    /// Gives back what is too much, and takes what is free and due; what was taken is returned with its checkpoint.
    async fn balance(&mut self, leaving: bool) -> Result<Vec<(u32, LogPosition)>, sqlx::Error> {
        let standing = self.seats.standing().await?;
        let mut taken = Vec::new();
        if leaving {
            return Ok(taken);
        }
        let me = self.seats.me();
        let share = standing.share(me, self.seats.partitions());
        for owned in self.owned.values().skip(share) {
            owned.release();
        }
        // Members begin at different places, so that they seldom ask for the same one.
        let count = self.seats.partitions();
        let first = me.unsigned_abs() % count;
        for partition in (0..count).map(|n| (first + n) % count) {
            if self.owned.len() + taken.len() >= share {
                break;
            }
            if standing.taken.contains(&partition) {
                continue;
            }
            if let Some(at) = self.seats.take(partition).await? {
                taken.push((partition, at));
            }
        }
        Ok(taken)
    }

    /// Writes the checkpoints that have moved, of one partition or of all.
    async fn save(&mut self, only: Option<u32>) -> Result<(), sqlx::Error> {
        let mut moves = Vec::new();
        for (partition, owned) in &mut self.owned {
            let at = owned.progress.borrow_and_update().at;
            if at != owned.saved && only.is_none_or(|p| p == *partition) {
                moves.push((*partition, owned.saved, at));
            }
        }
        if moves.is_empty() {
            return Ok(());
        }
        let moved = self.seats.save(&moves).await?;
        for (partition, _, to) in moves {
            if moved.contains(&partition) {
                if let Some(owned) = self.owned.get_mut(&partition) {
                    owned.saved = to;
                }
                continue;
            }
            // Somebody has set the checkpoint by hand: go on from there.
            tracing::warn!(partition, "the checkpoint was moved by somebody else");
            if let Some(owned) = self.owned.remove(&partition) {
                owned.task.abort();
            }
            self.seats.give_back(partition).await?;
        }
        Ok(())
    }

    async fn give_back(&mut self, partition: u32) -> Result<(), sqlx::Error> {
        match self.owned.remove(&partition) {
            Some(_) => self.seats.give_back(partition).await,
            None => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Progress {
    at: LogPosition,
    handled: u64,
}

/// The task of one partition.
struct Worker {
    group: String,
    partition: u32,
    partitions: u32,
    options: GroupOptions,
    progress: watch::Sender<Progress>,
    full: Arc<Notify>,
    released: watch::Receiver<bool>,
}

impl Worker {
    async fn run<H, F, E>(mut self, mut follower: Follower, handler: Arc<H>) -> u32
    where
        H: Fn(u32, Vec<Arc<RecordedEvent>>) -> F,
        F: Future<Output = Result<(), E>>,
        E: Display,
    {
        let mut counted = 0;
        loop {
            let next = tokio::select! {
                _ = self.released.wait_for(|released| *released) => break,
                next = follower.next(self.options.batch) => next,
            };
            let batch = match next {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::warn!(group = self.group, partition = self.partition, %error, "the log is read again");
                    // Another log than before: its stored checkpoint tells where to begin.
                    if matches!(error, FollowError::Lost { .. }) || self.rests(FIRST_RETRY).await {
                        break;
                    }
                    continue;
                }
            };
            let of_mine =
                |e: &&Arc<RecordedEvent>| partition_of((self.options.key)(e), self.partitions) == self.partition;
            let mine: Vec<_> = batch.iter().filter(of_mine).cloned().collect();
            let handled = mine.len() as u64;
            if handled > 0 && !self.handle(mine, &*handler).await {
                break;
            }
            counted += handled;
            self.progress.send_modify(|p| (p.at, p.handled) = (follower.at(), p.handled + handled));
            if counted >= self.options.checkpoint_events {
                counted = 0;
                self.full.notify_one();
            }
        }
        self.partition
    }

    /// Repeats until it is done; `false`: released before that.
    async fn handle<H, F, E>(&mut self, events: Vec<Arc<RecordedEvent>>, handler: &H) -> bool
    where
        H: Fn(u32, Vec<Arc<RecordedEvent>>) -> F,
        F: Future<Output = Result<(), E>>,
        E: Display,
    {
        let mut wait = FIRST_RETRY;
        loop {
            let done = AssertUnwindSafe(async { handler(self.partition, events.clone()).await }).catch_unwind().await;
            let reason = match done {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked".to_owned(),
            };
            let at = events.first().map(|e| e.at.to_string());
            let (group, partition) = (&self.group, self.partition);
            tracing::warn!(group, partition, reason, at, "a handler failed; it gets the same events again");
            if self.rests(wait).await {
                return false;
            }
            wait = (wait * 2).min(LAST_RETRY);
        }
    }

    /// `true`: released meanwhile.
    async fn rests(&mut self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.released.wait_for(|released| *released)).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_in_its_partition() {
        let keys: Vec<Uuid> = (0..6).map(|n| Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n)).collect();
        let partitions: Vec<u32> = keys.iter().map(|k| partition_of(*k, 16)).collect();
        assert_eq!(partitions, PINNED, "checkpoints of running groups depend on it");
        let mut counts = [0; 8];
        (0..8_000u128).for_each(|n| counts[partition_of(Uuid::from_u128(n << 40 | n), 8) as usize] += 1);
        assert!(counts.iter().all(|c| (700..1_300).contains(c)), "{counts:?}");
    }

    const PINNED: [u32; 6] = [5, 12, 12, 14, 9, 1];
}
