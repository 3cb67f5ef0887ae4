//! Places at a host: so many requests of this node are under way to it at once, and the others wait their turn.
//!
//! Workspaces take turns, so that one with a thousand requests makes another's single one wait for one call and not for a
//! thousand. Waiting is bounded in number and in time; who waits too long is turned away before anything was sent.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::ids::WorkspaceId;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Requests that may wait for one host.
const MOST_WAITING: usize = 1_000;

/// All hosts that have requests under way.
pub(super) struct Gates {
    places: usize,
    patience: Duration,
    hosts: Mutex<HashMap<String, Host>>,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Host {
    taken: usize,
    /// In the order of their turns; none is empty.
    queues: VecDeque<(Option<WorkspaceId>, VecDeque<oneshot::Sender<Place>>)>,
}

/// A place at a host, until it is dropped.
pub(super) struct Place {
    gates: Arc<Gates>,
    /// Empty: handed on already.
    host: String,
}

/// Requests that wait now.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gates {
    pub(super) fn new(places: usize, patience: Duration) -> Arc<Self> {
        let (hosts, waiting) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Self { places: places.max(1), patience, hosts, waiting })
    }

    /// A place at the host. `Err`: how long it was waited for.
    pub(super) async fn enter(
        self: &Arc<Self>,
        host: &str,
        workspace: Option<WorkspaceId>,
        deadline: Instant,
    ) -> Result<Place, Duration> {
        let began = Instant::now();
        let turn = {
            let mut hosts = self.lock();
            let state = hosts.entry(host.to_owned()).or_default();
            if state.taken < self.places {
                state.taken += 1;
                return Ok(Place { gates: self.clone(), host: host.to_owned() });
            }
            state.queue(workspace).ok_or(Duration::ZERO)?
        };
        let _waits = Waits::begin(&self.waiting);
        // A place that comes at the very moment in which patience ends is dropped with the channel, and goes on.
        match timeout_at(deadline.min(began + self.patience), turn).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(began.elapsed()),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Requests under way, to all hosts.
    pub(super) fn under_way(&self) -> usize {
        self.lock().values().map(|host| host.taken).sum()
    }

    /// Whose turn it is; `None`: nobody's, and the place is given up.
    fn next(&self, host: &str) -> Option<oneshot::Sender<Place>> {
        let mut hosts = self.lock();
        let state = hosts.get_mut(host)?;
        let next = state.next();
        if next.is_none() {
            state.taken = state.taken.saturating_sub(1);
            if state.taken == 0 {
                hosts.remove(host);
            }
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    /// Joins the queue; `None` when it is full of people who still wait.
    fn queue(&mut self, workspace: Option<WorkspaceId>) -> Option<oneshot::Receiver<Place>> {
        let waiting = |host: &Self| host.queues.iter().map(|(_, queue)| queue.len()).sum::<usize>();
        if waiting(self) >= MOST_WAITING {
            for (_, queue) in &mut self.queues {
                queue.retain(|turn| !turn.is_closed());
            }
            self.queues.retain(|(_, queue)| !queue.is_empty());
            if waiting(self) >= MOST_WAITING {
                return None;
            }
        }
        let (turn, place) = oneshot::channel();
        match self.queues.iter_mut().find(|(of, _)| *of == workspace) {
            Some((_, queue)) => queue.push_back(turn),
            None => self.queues.push_back((workspace, VecDeque::from([turn]))),
        }
        Some(place)
    }

    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        let (workspace, mut queue) = self.queues.pop_front()?;
        let turn = queue.pop_front();
        if !queue.is_empty() {
            self.queues.push_back((workspace, queue));
        }
        turn
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let host = std::mem::take(&mut self.host);
        if host.is_empty() {
            return;
        }
        let mut place = Place { gates: self.gates.clone(), host };
        while let Some(turn) = self.gates.next(&place.host) {
            match turn.send(place) {
                Ok(()) => return,
                // Gone meanwhile: the next one.
                Err(back) => place = back,
            }
        }
        place.host.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn workspace(n: u128) -> Option<WorkspaceId> {
        Some(WorkspaceId(uuid::Uuid::from_u128(n)))
    }

    #[tokio::test]
    async fn workspaces_take_turns() {
        let gates = Gates::new(1, LONG);
        let far = Instant::now() + LONG;
        let first = gates.enter("a:80", workspace(1), far).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (number, of) in [1, 1, 1, 1, 2, 3].into_iter().enumerate() {
            let (entered, order) = (gates.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                let _place = entered.enter("a:80", workspace(of), far).await.unwrap();
                order.lock().unwrap().push(of);
            }));
            while gates.waiting() <= number {
                tokio::task::yield_now().await;
            }
        }
        // Another host is not held up by it.
        drop(gates.enter("b:80", workspace(1), far).await.unwrap());
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [1, 2, 3, 1, 1, 1]);
        assert_eq!((gates.waiting(), gates.under_way(), gates.lock().len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_and_a_place_of_somebody_gone_goes_on() {
        let gates = Gates::new(1, Duration::from_secs(10));
        let far = Instant::now() + LONG;
        let held = gates.enter("a:80", None, far).await.unwrap();
        let waited = gates.enter("a:80", None, far).await.err().unwrap();
        assert_eq!(waited, Duration::from_secs(10));
        let soon = Instant::now() + Duration::from_secs(1);
        assert_eq!(gates.enter("a:80", None, soon).await.err().unwrap(), Duration::from_secs(1));
        // Two that are gone stand before the third.
        let third = tokio::spawn({
            let gates = gates.clone();
            async move { gates.enter("a:80", None, far).await.map(|_place| ()) }
        });
        tokio::task::yield_now().await;
        drop(held);
        third.await.unwrap().unwrap();
        assert_eq!(gates.under_way(), 0);
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let gates = Gates::new(1, LONG);
        let far = Instant::now() + LONG;
        let _held = gates.enter("a:80", None, far).await.unwrap();
        let mut turns: Vec<_> = {
            let mut hosts = gates.lock();
            (0..MOST_WAITING).map(|_| hosts.get_mut("a:80").unwrap().queue(None).unwrap()).collect()
        };
        assert_eq!(gates.enter("a:80", None, far).await.err().unwrap(), Duration::ZERO);
        turns.truncate(10);
        let mut hosts = gates.lock();
        assert!(hosts.get_mut("a:80").unwrap().queue(None).is_some(), "those who left make room");
    }
}
