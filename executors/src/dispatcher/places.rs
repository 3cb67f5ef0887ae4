//! Places for attempts: so many in all, so many for each webhook, and a short line behind them.
//!
//! A receiver that does not answer holds its own places and no others. Who finds the line full is left in the read
//! models, where the sweep finds it later.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::ids::{DeliveryId, WebhookId, WorkspaceId};
use tokio::sync::Notify;

/// Attempts of this process at one time.
pub(super) const AT_ONCE: usize = 64;
/// Those to one webhook.
pub(super) const EACH: usize = 8;
/// Deliveries of one webhook that wait in memory for a place.
pub(super) const LINE: usize = 64;
/// Those of all webhooks.
const LINES: usize = 1_024;
/// A delivery that was just tried here is not looked at again this long: what still names it is behind.
const JUST_NOW: Duration = Duration::from_secs(2);

/// A delivery that wants an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Job {
    pub workspace: WorkspaceId,
    pub webhook: WebhookId,
    pub id: DeliveryId,
}

#[derive(Clone, Default)]
pub(super) struct Places {
    state: Arc<Mutex<State>>,
    /// A webhook's line has become empty.
    drained: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// Under way or in a line.
    known: HashSet<DeliveryId>,
    just_now: VecDeque<(Instant, DeliveryId)>,
    lately: HashSet<DeliveryId>,
    under_way: usize,
    each: HashMap<WebhookId, usize>,
    waiting: usize,
    lines: HashMap<WebhookId, VecDeque<Job>>,
    /// Webhooks with a line, each once, the next first.
    turns: VecDeque<WebhookId>,
}

/// The right to make one attempt. Give it back by `next`; when it is dropped, it is free as well.
pub(super) struct Place {
    places: Places,
    job: Job,
}

impl Places {
    /// A place at once, or none: it is under way already, or there is no room.
    pub(super) fn take(&self, job: Job) -> Option<Place> {
        let mut state = self.lock();
        if state.knows(job.id) || !state.has_room(job.webhook) {
            return None;
        }
        state.known.insert(job.id);
        state.begin(job.webhook);
        Some(Place { places: self.clone(), job })
    }

    /// A place at once; else it waits in its webhook's line, if that is not full.
    pub(super) fn offer(&self, job: Job) -> Option<Place> {
        if let Some(place) = self.take(job) {
            return Some(place);
        }
        let mut state = self.lock();
        let line = state.lines.get(&job.webhook).map_or(0, VecDeque::len);
        if state.knows(job.id) || line >= LINE || state.waiting >= LINES {
            return None;
        }
        state.known.insert(job.id);
        state.waiting += 1;
        state.lines.entry(job.webhook).or_default().push_back(job);
        if line == 0 {
            state.turns.push_back(job.webhook);
        }
        None
    }

    /// Somebody who waits, if there is a place for them. Webhooks take turns.
    pub(super) fn next(&self) -> Option<Place> {
        let mut state = self.lock();
        let free = state.turns.iter().position(|webhook| state.has_room(*webhook))?;
        let webhook = state.turns.remove(free)?;
        let line = state.lines.get_mut(&webhook)?;
        let job = line.pop_front()?;
        if line.is_empty() {
            state.lines.remove(&webhook);
            self.drained.notify_one();
        } else {
            state.turns.push_back(webhook);
        }
        state.waiting -= 1;
        state.begin(webhook);
        Some(Place { places: self.clone(), job })
    }

    /// Returns when a line has become empty since the last call.
    pub(super) async fn drained(&self) {
        self.drained.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn job(&self) -> Job {
        self.job
    }

    /// Gives the place back; whoever is next gets it.
    pub(super) fn next(self) -> Option<Place> {
        let places = self.places.clone();
        drop(self);
        places.next()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.known.remove(&self.job.id);
        state.remember(self.job.id);
        state.under_way -= 1;
        if let Some(each) = state.each.get_mut(&self.job.webhook) {
            *each -= 1;
            if *each == 0 {
                state.each.remove(&self.job.webhook);
            }
        }
    }
}

impl State {
    fn has_room(&self, webhook: WebhookId) -> bool {
        self.under_way < AT_ONCE && self.each.get(&webhook).is_none_or(|each| *each < EACH)
    }

    fn begin(&mut self, webhook: WebhookId) {
        self.under_way += 1;
        *self.each.entry(webhook).or_default() += 1;
    }

    fn knows(&mut self, id: DeliveryId) -> bool {
        while self.just_now.front().is_some_and(|(at, _)| at.elapsed() >= JUST_NOW) {
            if let Some((_, old)) = self.just_now.pop_front() {
                self.lately.remove(&old);
            }
        }
        self.known.contains(&id) || self.lately.contains(&id)
    }

    fn remember(&mut self, id: DeliveryId) {
        if self.lately.insert(id) {
            self.just_now.push_back((Instant::now(), id));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn job(webhook: u128, id: u128) -> Job {
        Job {
            workspace: WorkspaceId(Uuid::nil()),
            webhook: WebhookId(Uuid::from_u128(webhook)),
            id: DeliveryId(Uuid::from_u128(webhook << 64 | id)),
        }
    }

    #[test]
    fn a_receiver_that_does_not_answer_holds_its_own_places_only() {
        let places = Places::default();
        let dead: Vec<_> = (0..1_000).filter_map(|id| places.offer(job(1, id))).collect();
        assert_eq!(dead.len(), EACH);
        assert_eq!(places.lock().waiting, LINE, "the rest is left to the sweep");
        let other = places.offer(job(2, 0)).expect("another webhook has room");
        assert!(places.next().is_none(), "nobody waits who could go");
        // Its line moves when one of its own places is free, in the order of coming.
        let next = dead.into_iter().next().unwrap().next().unwrap();
        assert_eq!(next.job(), job(1, EACH as u128));
        assert!(other.next().is_some(), "the other seven of the dead one were dropped");
    }

    #[test]
    fn all_places_are_few_and_webhooks_take_turns() {
        let places = Places::default();
        let mut held: Vec<_> = (0..100).filter_map(|hook| places.take(job(hook, 0))).collect();
        assert_eq!(held.len(), AT_ONCE);
        for (hook, id) in [(200, 0), (200, 1), (201, 0)] {
            assert!(places.offer(job(hook, id)).is_none());
        }
        let turns: Vec<_> = (0..3).map(|_| held.pop().unwrap().next().map(|place| place.job())).collect();
        assert_eq!(turns, [job(200, 0), job(201, 0), job(200, 1)].map(Some));
    }

    #[test]
    fn nothing_is_under_way_twice_nor_again_at_once() {
        let places = Places::default();
        let place = places.take(job(1, 1));
        assert!(place.is_some() && places.take(job(1, 1)).is_none() && places.offer(job(1, 1)).is_none());
        assert_eq!(places.lock().waiting, 0);
        drop(place);
        assert!(places.offer(job(1, 1)).is_none(), "what names it now is behind");
        assert!(places.take(job(1, 2)).is_some());
        let state = places.lock();
        assert_eq!((state.under_way, state.each.len(), state.known.len()), (0, 0, 0));
    }
}
