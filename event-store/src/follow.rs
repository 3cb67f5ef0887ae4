//! Following the log from any place: what is there already, then what comes, in order and without a gap.

use domain::event::{LogPosition, RecordedEvent};

use crate::{EventStore, read_after, tail::Watcher};

/// One reader of the log, at a place of its own.
pub struct Follower {
    store: EventStore,
    at: LogPosition,
    watcher: Watcher,
}

impl EventStore {
    /// A reader of everything after `from`.
    pub fn follow(&self, from: LogPosition) -> Follower {
        Follower { store: self.clone(), at: from, watcher: self.tail().watch() }
    }
}

impl Follower {
    /// The next events, one at least and `max` at most; waits at the log's end. Dropping the future loses nothing.
    pub async fn next(&mut self, max: usize) -> Result<Vec<RecordedEvent>, sqlx::Error> {
        loop {
            let limit = i64::try_from(max.max(1)).unwrap_or(i64::MAX);
            let batch = read_after(self.store.pool(), self.store.generation(), self.at, limit).await?;
            if let Some(last) = batch.last() {
                self.at = last.at;
                return Ok(batch);
            }
            self.watcher.wait().await;
        }
    }

    /// The place of the last event given; where it began at first.
    pub fn at(&self) -> LogPosition {
        self.at
    }
}
