//! Turns: changes of one stream on one node go one after the other, so that each decides on what the one before it left.
//!
//! Without them, callers that change the same stream at the same time all decide on the same state, one wins, and the
//! others load and decide again, against whoever came meanwhile. A busy stream then starves its slowest caller.
//!
//! A turn is a courtesy, never a lock that anything relies on: the append still sees whether a command decided on the
//! present state. Who stands in a line that does not move goes without one, so a database that is away holds nobody.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use domain::aggregate::Decider;
use tokio::{sync::OwnedMutexGuard, time::timeout};
use uuid::Uuid;

use crate::{EventStore, append::StreamKey};

/// One turn takes an append, some milliseconds even on a busy log: when none ends for this long, the line stands still.
const STUCK: Duration = Duration::from_millis(500);
/// A line that moves this long and is not through is longer than turns can help.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lines of streams that somebody is at now; nothing is kept of the others.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<StreamKey, Arc<Line>>>>);

/// Those who want to change one stream.
#[derive(Default)]
struct Line {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Turns that began.
    begun: AtomicU64,
}

/// The caller's turn at a stream, given back when this is dropped.
#[must_use = "the turn ends when this is dropped"]
pub struct Turn {
    held: Option<OwnedMutexGuard<()>>,
    line: Option<Arc<Line>>,
    key: StreamKey,
    turns: Turns,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, HashMap<StreamKey, Arc<Line>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In the order of asking, for whoever asks within the patience of those before.
    async fn take(&self, key: StreamKey) -> Turn {
        let line = Some(self.lock().entry(key).or_default().clone());
        // Made before the wait, and the only one here that has the line: a caller that is cancelled in it leaves it as well,
        // and the last one to leave takes it from the map.
        let mut turn = Turn { held: None, line, key, turns: self.clone() };
        let Some(line) = &turn.line else { return turn };
        let held = match line.turn.clone().try_lock_owned() {
            Ok(held) => Some(held),
            Err(_) => timeout(PATIENCE, line.wait()).await.ok().flatten(),
        };
        line.begun.fetch_add(1, Relaxed);
        turn.held = held;
        turn
    }
}

impl Line {
    /// `None`: the line stands still.
    async fn wait(&self) -> Option<OwnedMutexGuard<()>> {
        let turn = self.turn.clone().lock_owned();
        tokio::pin!(turn);
        loop {
            let before = self.begun.load(Relaxed);
            match timeout(STUCK, &mut turn).await {
                Ok(held) => return Some(held),
                Err(_) if self.begun.load(Relaxed) == before => return None,
                Err(_) => {}
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut lines = self.turns.lock();
        self.line = None;
        // Only the map's own handle is left, and none can be made without the map's lock.
        if lines.get(&self.key).is_some_and(|line| Arc::strong_count(line) == 1) {
            lines.remove(&self.key);
        }
    }
}

impl EventStore {
    /// Waits for this node's turn to change a stream; see the module. Ask before `recall` or `load`, drop after `keep`,
    /// and never hold two.
    pub async fn turn<A: Decider>(&self, id: Uuid) -> Turn {
        self.inner.turns.take((A::TYPE, id)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: StreamKey = ("a", Uuid::nil());

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_order_one_at_a_time_and_leave_nothing() {
        let turns = Turns::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = turns.take(KEY).await;
        let mut waiting = Vec::new();
        for n in 0..3 {
            let (turns, order) = (turns.clone(), order.clone());
            waiting.push(tokio::spawn(async move {
                let _turn = turns.take(KEY).await;
                order.lock().unwrap().push(n);
            }));
            // So that each stands in the line before the next one comes.
            tokio::task::yield_now().await;
        }
        // Another stream has a line of its own.
        drop(turns.take(("a", Uuid::from_u128(1))).await);
        assert!(order.lock().unwrap().is_empty(), "nobody passes the one whose turn it is");
        waiting.remove(1).abort();
        drop(first);
        for task in waiting {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 2]);
        assert!(turns.lock().is_empty(), "a stream that nobody is at takes no memory");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_cancelled_as_the_last_one_in_the_line_leaves_nothing() {
        let turns = Turns::default();
        let first = turns.take(KEY).await;
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take(KEY).await.held.is_some() }
        });
        tokio::task::yield_now().await;
        // The turn is free, and its caller goes before it hears of it.
        drop(first);
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert!(turns.lock().is_empty(), "a stream that nobody is at takes no memory");
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_in_a_line_that_does_not_move_goes_without() {
        let turns = Turns::default();
        let slow = turns.take(KEY).await;
        let impatient = turns.take(KEY).await;
        assert!(slow.held.is_some() && impatient.held.is_none());
        drop((slow, impatient));
        assert!(turns.lock().is_empty());

        // Twenty turns of 300 ms are longer than a standstill, but the line moves.
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move {
                    let turn = turns.take(KEY).await;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    turn.held.is_some()
                })
            })
            .collect();
        for task in waiting {
            assert!(task.await.unwrap());
        }
        assert!(turns.lock().is_empty());
    }
}
