//! Following the log from any place: what is there already, then what comes, in order and without a gap.

use std::{sync::Arc, time::Duration};

use domain::event::{LogPosition, RecordedEvent};
use sqlx::PgPool;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use crate::{
    EventStore,
    feed::{Signal, Taken},
    read::{Server, next_batch, read_event},
    tail::{POLL, Watcher},
};

/// The first look again on another server's pool: a replica has an event some time after its commit.
const FIRST_RETRY: Duration = Duration::from_millis(2);
/// A batch of so many, among those that are paced, shows a busy log.
const BUSY: usize = 24;

/// Why a follower has nothing to give.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The next call goes on where this one failed.
    #[error("the log cannot be read: {0}")]
    Database(#[from] sqlx::Error),
    /// Another server answers, and its log does not have the event this reader was at: a standby was promoted that had
    /// not got everything. Begin again from a checkpoint that is stored in the log's own database.
    #[error("the log does not have the event at {at} any more (a standby was promoted that had not received it)")]
    Lost { at: LogPosition },
}

/// One reader of the log, at a place of its own.
pub struct Follower {
    store: EventStore,
    source: Source,
    at: LogPosition,
    /// The event at `at`, when it was given here.
    last: Option<Uuid>,
    server: Option<Server>,
    pace: Duration,
    /// When the last batch was given, unless there was more at once, and how long the next one waits from then.
    given: Option<(Instant, Duration)>,
}

enum Source {
    /// The node's feed near the end, the store's pool behind it.
    Feed { signal: watch::Receiver<Signal>, pages: bool },
    /// Another server.
    Pool { pool: PgPool, watcher: Watcher, retry: Duration },
}

impl EventStore {
    /// A reader of everything after `from`: `LogPosition::START` or the place of an event.
    ///
    /// All followers of a node share one reader of the log's end.
    pub fn follow(&self, from: LogPosition) -> Follower {
        Follower::new(self, from, Source::Feed { signal: self.feed().signal(), pages: false })
    }

    /// As `follow`, reading on another server of the same log, such as a read replica. It reads for itself alone.
    ///
    /// The rule of the order holds on a hot standby too: its snapshots count a transaction as running from the first
    /// record of any later one until the record of its end.
    pub fn follow_on(&self, pool: PgPool, from: LogPosition) -> Follower {
        Follower::new(self, from, Source::Pool { pool, watcher: self.tail().watch(), retry: FIRST_RETRY })
    }

    /// A follower among others that catch up from the same place: they share what they read.
    pub(crate) fn follow_together(&self, from: LogPosition) -> Follower {
        Follower::new(self, from, Source::Feed { signal: self.feed().signal(), pages: true })
    }
}

impl Follower {
    fn new(store: &EventStore, from: LogPosition, source: Source) -> Self {
        Self { store: store.clone(), source, at: from, last: None, server: None, pace: Duration::ZERO, given: None }
    }

    /// Gives the next batch no sooner than this after the last one, so that a log in use is read in batches; four times as
    /// long on a busy log, where each batch costs what its events' writers could use. After a quiet time the first event is
    /// given at once, and who is behind is not held up: a full batch follows at once.
    pub fn at_most_every(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// The next events, one at least and `max` at most; waits at the log's end. Dropping the future loses nothing.
    pub async fn next(&mut self, max: usize) -> Result<Vec<Arc<RecordedEvent>>, FollowError> {
        if let Some((given, pace)) = self.given {
            tokio::time::sleep_until(given + pace).await;
        }
        let batch = match self.source {
            Source::Feed { .. } => self.next_from_feed(max).await?,
            Source::Pool { .. } => self.next_from_pool(max).await?,
        };
        if let Some(last) = batch.last() {
            self.at = last.at;
            self.last = Some(last.event_id);
        }
        let pace = if batch.len() < BUSY { self.pace } else { self.pace * 4 };
        self.given = (batch.len() < max && !pace.is_zero()).then(|| (Instant::now(), pace));
        Ok(batch)
    }

    /// The place of the last event given; where it began at first.
    pub fn at(&self) -> LogPosition {
        self.at
    }

    async fn next_from_feed(&mut self, max: usize) -> Result<Vec<Arc<RecordedEvent>>, FollowError> {
        loop {
            let Source::Feed { signal, pages } = &mut self.source else { return Ok(Vec::new()) };
            let (pages, failures) = (*pages, signal.borrow_and_update().failures);
            let server = match self.store.feed().take(self.at, max) {
                Taken::Events(events, server) => {
                    self.meet(server).await?;
                    return Ok(events);
                }
                Taken::End(server) => server,
                Taken::Outside => {
                    let (events, server) = self.look(max, pages).await?;
                    self.meet(server).await?;
                    if !events.is_empty() {
                        return Ok(events);
                    }
                    server
                }
            };
            self.meet(server).await?;
            let wanted = self.store.feed().want(self.at, server);
            // Another follower may have moved the ring past this place meanwhile; nothing would wake this one then.
            if !matches!(self.store.feed().take(self.at, 1), Taken::End(_)) {
                continue;
            }
            let Source::Feed { signal, .. } = &mut self.source else { return Ok(Vec::new()) };
            // The sender lives in the store that this follower holds.
            let _ = signal.changed().await;
            drop(wanted);
            if signal.borrow().failures != failures {
                let (events, server) = self.look(max, false).await?;
                self.meet(server).await?;
                if !events.is_empty() {
                    return Ok(events);
                }
            }
        }
    }

    async fn look(&self, max: usize, pages: bool) -> Result<(Vec<Arc<RecordedEvent>>, Server), sqlx::Error> {
        let pool = self.store.pool();
        if pages {
            let page = self.store.feed().page(pool, self.at, max).await?;
            return Ok((page.events.clone(), page.server));
        }
        let batch = next_batch(pool, self.at, max).await?;
        Ok((batch.events, batch.server))
    }

    async fn next_from_pool(&mut self, max: usize) -> Result<Vec<Arc<RecordedEvent>>, FollowError> {
        loop {
            let Source::Pool { pool, .. } = &self.source else { return Ok(Vec::new()) };
            let batch = next_batch(pool, self.at, max).await?;
            self.meet(batch.server).await?;
            let Source::Pool { watcher, retry, .. } = &mut self.source else { return Ok(Vec::new()) };
            if !batch.events.is_empty() {
                *retry = FIRST_RETRY;
                return Ok(batch.events);
            }
            // A word of an append is too early for a replica: it only shortens the looks that follow.
            *retry = if watcher.wait_at_most(*retry).await { FIRST_RETRY } else { (*retry * 2).min(POLL) };
        }
    }

    /// A server that did not answer before must have the event this reader is at. Then every event it gets from now on
    /// comes after it: transaction ids go on from the newest one in its log.
    async fn meet(&mut self, server: Server) -> Result<(), FollowError> {
        if self.server.is_some_and(|known| known != server) && self.at != LogPosition::START {
            let pool = match &self.source {
                Source::Feed { .. } => self.store.pool(),
                Source::Pool { pool, .. } => pool,
            };
            let there = read_event(pool, self.at).await?.map(|event| event.event_id);
            if there.is_none() || self.last.is_some_and(|last| there != Some(last)) {
                return Err(FollowError::Lost { at: self.at });
            }
        }
        self.server = Some(server);
        Ok(())
    }
}
