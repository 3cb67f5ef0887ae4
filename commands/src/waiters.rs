//! Who waits on this node for an execution's end, or for a document to be read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use crate::Failure;

/// The log is looked at this often, should another node do the work.
const LOOK: Duration = Duration::from_millis(200);

/// A hint, not the truth: waiters look at the log when they wake, and every now and then anyway.
#[derive(Default)]
pub struct Waiters(Mutex<HashMap<Uuid, (Arc<Notify>, usize)>>);

impl Waiters {
    /// An execution has ended or stands still; a connection's document is read.
    pub fn ended(&self, id: Uuid) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((notify, _)) = map.get(&id) {
            notify.notify_waiters();
        }
    }

    /// Looks at the log until `look` says that it is over, or time is up: now, whenever somebody on this node reports, and
    /// every now and then, should another node do the work. Gives what was seen last.
    pub(crate) async fn until<T, F>(&self, id: Uuid, limit: Duration, look: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Look<T>, Failure>>,
    {
        let deadline = Instant::now() + limit;
        let waiting = self.register(id);
        loop {
            // Registered before the look: an end in between is not missed.
            let mut notified = std::pin::pin!(waiting.notify.notified());
            notified.as_mut().enable();
            let seen = match look().await? {
                Look::Over(seen) => return Ok(seen),
                Look::Open(seen) => seen,
            };
            let now = Instant::now();
            if now >= deadline {
                return Ok(seen);
            }
            let _ = timeout_at(deadline.min(now + LOOK), notified).await;
        }
    }

    fn register(&self, id: Uuid) -> Waiting<'_> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = map.entry(id).or_default();
        entry.1 += 1;
        Waiting { waiters: self, id, notify: entry.0.clone() }
    }
}

/// What a waiter saw.
pub(crate) enum Look<T> {
    Over(T),
    Open(T),
}

/// One who waits; not any more when this is dropped.
struct Waiting<'a> {
    waiters: &'a Waiters,
    id: Uuid,
    notify: Arc<Notify>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut map = self.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = map.get_mut(&self.id) {
            entry.1 -= 1;
            if entry.1 == 0 {
                map.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_looks_when_it_is_told_and_now_and_then_and_leaves_nothing() {
        let (waiters, looks) = (Waiters::default(), AtomicUsize::new(0));
        let id = Uuid::from_u128(1);
        let look = |end: usize| {
            let looks = &looks;
            move || async move {
                let n = looks.fetch_add(1, SeqCst) + 1;
                Ok(if n >= end { Look::Over(n) } else { Look::Open(n) })
            }
        };
        let began = Instant::now();
        let told = async { waiters.ended(id) };
        let (seen, ()) = tokio::join!(waiters.until(id, LOOK * 10, look(2)), told);
        assert_eq!((seen.unwrap(), began.elapsed()), (2, Duration::ZERO), "told of it at once");
        assert_eq!(waiters.until(id, LOOK * 10, look(4)).await.unwrap(), 4, "nobody told");
        assert_eq!(began.elapsed(), LOOK);
        assert_eq!(waiters.until(id, LOOK * 2, look(100)).await.unwrap(), 7, "time is up");
        assert_eq!(began.elapsed(), LOOK * 3);
        // Who is cancelled leaves as well.
        let _ = timeout_at(Instant::now() + LOOK, waiters.until(id, LOOK * 9, look(100))).await;
        assert!(waiters.0.lock().unwrap().is_empty());
    }
}
