//! A circuit breaker for each host and workspace: what keeps failing is left alone for a while, then tried once.
//!
//! It counts what shows the host to be unwell: no connection, no answer in time, a broken answer, 5xx. A 401, 403, 404 or
//! 429 is an answer of a host that is well. Each workspace has its own, because the fault may lie in what one workspace
//! sends: its operations, its credential, a path of its own. So no tenant can close a host for another; the price is
//! that each finds out for itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::ids::WorkspaceId;
use tokio::time::Instant;

/// How far back failures count.
const WINDOW: Duration = Duration::from_secs(30);
/// The first pause; each failed probe doubles it…
const PAUSE: Duration = Duration::from_secs(15);
/// …up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A probe that has not come back for this long is given up: its caller is gone.
const LOST_PROBE: Duration = Duration::from_secs(310);
/// While a probe is under way, the others are told to come back after this.
const SOON: Duration = Duration::from_secs(2);
/// Hosts that are remembered, never more; see `make_room`.
const MOST: usize = 10_000;

pub(super) struct Breakers {
    /// Failures that open one; 0: none ever opens.
    failures: usize,
    known: Mutex<HashMap<(WorkspaceId, String), Breaker>>,
}

/// Only hosts that failed lately have one.
struct Breaker {
    /// When, and whether it failed; of the last [`WINDOW`].
    outcomes: VecDeque<(Instant, bool)>,
    open: Option<Open>,
}

struct Open {
    until: Instant,
    pause: Duration,
    /// When the one call that may try began.
    probe: Option<Instant>,
}

/// A call that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Usual,
    /// What comes of it closes the breaker, or opens it again.
    Probe,
}

impl Breakers {
    pub(super) fn new(failures: usize) -> Self {
        Self { failures, known: Mutex::default() }
    }

    /// May a call go out? `Err`: not before so long. `asked`: a person wants to know, and is the probe.
    pub(super) fn pass(&self, workspace: WorkspaceId, host: &str, asked: bool, now: Instant) -> Result<Pass, Duration> {
        let mut known = self.lock();
        if known.is_empty() {
            return Ok(Pass::Usual);
        }
        let breaker = known.get_mut(&(workspace, host.to_owned()));
        let Some(open) = breaker.and_then(|breaker| breaker.open.as_mut()) else { return Ok(Pass::Usual) };
        if asked {
            return Ok(Pass::Probe);
        }
        if now < open.until {
            return Err(open.until - now);
        }
        if open.probe.is_some_and(|began| now - began < LOST_PROBE) {
            return Err(SOON);
        }
        open.probe = Some(now);
        Ok(Pass::Probe)
    }

    /// What came of a call that was let through.
    pub(super) fn report(&self, workspace: WorkspaceId, host: &str, pass: Pass, failed: bool, now: Instant) {
        if self.failures == 0 {
            return;
        }
        let mut known = self.lock();
        if known.is_empty() && !failed {
            return;
        }
        let key = (workspace, host.to_owned());
        match (known.get_mut(&key), failed) {
            (None, false) => {}
            (None, true) => {
                if known.len() >= MOST {
                    make_room(&mut known, now);
                }
                let mut breaker = Breaker { outcomes: VecDeque::new(), open: None };
                breaker.count(true, self.failures, now);
                known.insert(key, breaker);
            }
            (Some(breaker), failed) => match (&mut breaker.open, pass) {
                (Some(_), Pass::Probe) if !failed => drop(known.remove(&key)),
                (Some(open), Pass::Probe) => {
                    let pause = (open.pause * 2).min(LONGEST_PAUSE);
                    *open = Open { until: now + pause, pause, probe: None };
                }
                // Began before it opened.
                (Some(_), Pass::Usual) => {}
                (None, _) => {
                    breaker.count(failed, self.failures, now);
                    if breaker.open.is_none() && !breaker.outcomes.iter().any(|(_, failed)| *failed) {
                        known.remove(&key);
                    }
                }
            },
        }
    }

    /// A probe that was never sent.
    pub(super) fn give_back(&self, workspace: WorkspaceId, host: &str) {
        if let Some(breaker) = self.lock().get_mut(&(workspace, host.to_owned()))
            && let Some(open) = &mut breaker.open
        {
            open.probe = None;
        }
    }

    /// Those that are open now.
    pub(super) fn open(&self) -> usize {
        self.lock().values().filter(|breaker| breaker.open.is_some()).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(WorkspaceId, String), Breaker>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what is closed and idle, then if need be what is closed, then what is open: the longest idle ones first, an
/// eighth at once, so that it is not looked for at each new host.
fn make_room(known: &mut HashMap<(WorkspaceId, String), Breaker>, now: Instant) {
    known.retain(|_, breaker| breaker.open.is_some() || breaker.seen_within(WINDOW, now));
    if known.len() < MOST {
        return;
    }
    let rank = |breaker: &Breaker| match &breaker.open {
        None => (false, breaker.outcomes.back().map(|(at, _)| *at)),
        Some(open) => (true, Some(open.until)),
    };
    let mut order: Vec<_> = known.iter().map(|(key, breaker)| (rank(breaker), key.clone())).collect();
    order.select_nth_unstable_by(MOST / 8, |a, b| a.0.cmp(&b.0));
    for (_, key) in order.into_iter().take(MOST / 8) {
        known.remove(&key);
    }
}

impl Breaker {
    fn seen_within(&self, window: Duration, now: Instant) -> bool {
        self.outcomes.back().is_some_and(|(at, _)| now - *at <= window)
    }

    fn count(&mut self, failed: bool, limit: usize, now: Instant) {
        self.outcomes.push_back((now, failed));
        while self.outcomes.front().is_some_and(|(at, _)| now - *at > WINDOW) || self.outcomes.len() > limit * 10 {
            self.outcomes.pop_front();
        }
        let failures = self.outcomes.iter().filter(|(_, failed)| *failed).count();
        if failures >= limit && failures * 2 >= self.outcomes.len() {
            self.open = Some(Open { until: now + PAUSE, pause: PAUSE, probe: None });
            self.outcomes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "api.example:443";

    fn workspace(n: u128) -> WorkspaceId {
        WorkspaceId(uuid::Uuid::from_u128(n))
    }

    fn failing(breakers: &Breakers, times: usize, at: Instant) {
        for _ in 0..times {
            assert_eq!(breakers.pass(workspace(1), HOST, false, at), Ok(Pass::Usual));
            breakers.report(workspace(1), HOST, Pass::Usual, true, at);
        }
    }

    #[test]
    fn it_opens_for_one_workspace_and_one_host_and_closes_by_a_probe() {
        let breakers = Breakers::new(5);
        let t = Instant::now();
        let after = |seconds| t + Duration::from_secs(seconds);
        let pass = |at| breakers.pass(workspace(1), HOST, false, at);
        failing(&breakers, 4, t);
        // What is long ago does not count.
        failing(&breakers, 4, after(31));
        assert_eq!(breakers.open(), 0);
        failing(&breakers, 1, after(31));
        assert_eq!((breakers.open(), pass(after(32))), (1, Err(Duration::from_secs(14))));
        assert_eq!(breakers.pass(workspace(2), HOST, false, after(32)), Ok(Pass::Usual), "another tenant's");
        assert_eq!(breakers.pass(workspace(1), "other.example:443", false, after(32)), Ok(Pass::Usual));
        // A call that was under way all the time changes nothing.
        breakers.report(workspace(1), HOST, Pass::Usual, false, after(40));
        assert_eq!(breakers.open(), 1);
        // Half open: one probe, no second one.
        assert_eq!(pass(after(46)), Ok(Pass::Probe));
        assert_eq!(pass(after(46)), Err(SOON));
        breakers.report(workspace(1), HOST, Pass::Probe, true, after(47));
        assert_eq!(pass(after(50)), Err(Duration::from_secs(27)), "the pause has doubled");
        assert_eq!(pass(after(77)), Ok(Pass::Probe));
        breakers.give_back(workspace(1), HOST);
        assert_eq!(pass(after(77)), Ok(Pass::Probe));
        breakers.report(workspace(1), HOST, Pass::Probe, false, after(78));
        assert_eq!((breakers.open(), pass(after(78)), breakers.lock().len()), (0, Ok(Pass::Usual), 0));
    }

    #[test]
    fn however_many_hosts_fail_so_many_are_remembered_and_open_ones_the_longest() {
        let breakers = Breakers::new(2);
        let t = Instant::now();
        let fail = |host: &str, times: usize, at| {
            (0..times).for_each(|_| breakers.report(workspace(1), host, Pass::Usual, true, at));
        };
        fail(HOST, 2, t);
        (1..MOST).for_each(|n| fail(&format!("idle{n}"), 1, t));
        assert_eq!(breakers.lock().len(), MOST);
        let later = t + WINDOW + Duration::from_secs(1);
        fail("one more", 1, later);
        assert_eq!(breakers.lock().len(), 2, "what was idle is forgotten at once");
        // All of them have failed lately: the bound holds, and closed ones go first.
        (0..2 * MOST).for_each(|n| {
            fail(&format!("busy{n}"), 1, later + Duration::from_millis(n as u64 / 10));
            assert!(breakers.lock().len() <= MOST);
        });
        assert_eq!(breakers.open(), 1);
        assert!(breakers.lock().contains_key(&(workspace(1), format!("busy{}", 2 * MOST - 1))));
        // Even if each is open.
        (0..2 * MOST).for_each(|n| fail(&format!("open{n}"), 2, later + Duration::from_secs(9 + n as u64 / 1_000)));
        assert!(breakers.open() <= MOST && breakers.lock().len() <= MOST);
        assert!(breakers.lock().contains_key(&(workspace(1), format!("open{}", 2 * MOST - 1))));
    }

    #[test]
    fn a_person_who_tests_is_the_probe() {
        let breakers = Breakers::new(1);
        let t = Instant::now();
        failing(&breakers, 1, t);
        assert!(breakers.pass(workspace(1), HOST, false, t).is_err());
        assert_eq!(breakers.pass(workspace(1), HOST, true, t), Ok(Pass::Probe));
        breakers.report(workspace(1), HOST, Pass::Probe, false, t);
        assert_eq!(breakers.pass(workspace(1), HOST, false, t), Ok(Pass::Usual));
    }

    #[test]
    fn a_lost_probe_and_long_pauses() {
        let breakers = Breakers::new(1);
        let mut at = Instant::now();
        failing(&breakers, 1, at);
        for pause in [15, 30, 60, 120, 240, 300, 300] {
            assert_eq!(breakers.pass(workspace(1), HOST, false, at), Err(Duration::from_secs(pause)));
            at += Duration::from_secs(pause);
            assert_eq!(breakers.pass(workspace(1), HOST, false, at), Ok(Pass::Probe));
            breakers.report(workspace(1), HOST, Pass::Probe, true, at);
        }
        at += LONGEST_PAUSE;
        assert_eq!(breakers.pass(workspace(1), HOST, false, at), Ok(Pass::Probe));
        assert_eq!(breakers.pass(workspace(1), HOST, false, at + LOST_PROBE), Ok(Pass::Probe), "the first is lost");
    }

    #[test]
    fn half_of_the_calls_must_fail_and_zero_switches_it_off() {
        let breakers = Breakers::new(5);
        let t = Instant::now();
        failing(&breakers, 1, t);
        for failed in [false, false, true].into_iter().cycle().take(30) {
            breakers.report(workspace(1), HOST, Pass::Usual, failed, t);
        }
        assert_eq!(breakers.open(), 0);
        let off = Breakers::new(0);
        failing(&off, 1_000, t);
        assert_eq!((off.open(), off.lock().len()), (0, 0));
    }
}
