//! What the lanes know to be committed: the last sequences of streams they wrote or checked, on one timeline.
//!
//! The log never loses an event on one timeline, so a head that was seen committed is a predecessor that needs no second
//! look, and a command that expects less has lost its race. Only the lanes' own connections teach it: what a pool's
//! connection read may come from a server that is no longer the primary.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::append::StreamKey;

/// Of each of two halves: when the young one is full, the old one is forgotten.
const HALF: usize = 32_768;

#[derive(Default)]
pub(super) struct Heads(Mutex<State>);

#[derive(Default)]
struct State {
    timeline: i64,
    young: HashMap<StreamKey, i64>,
    old: HashMap<StreamKey, i64>,
}

/// How a timeline relates to the newest one that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entered {
    Same,
    /// The first one, or a later one: everything known before was forgotten.
    New {
        first: bool,
    },
    /// A server that was left behind still answers.
    Behind,
}

impl Heads {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lane's new connection is on `timeline`.
    pub fn enter(&self, timeline: i64) -> Entered {
        let mut state = self.lock();
        let first = state.timeline == 0;
        match timeline.cmp(&state.timeline) {
            std::cmp::Ordering::Equal => Entered::Same,
            std::cmp::Ordering::Less => Entered::Behind,
            std::cmp::Ordering::Greater => {
                *state = State { timeline, ..State::default() };
                Entered::New { first }
            }
        }
    }

    /// The last sequence known to be committed. It may be behind, never ahead.
    pub fn get(&self, timeline: i64, key: &StreamKey) -> Option<i64> {
        let state = self.lock();
        if state.timeline != timeline {
            return None;
        }
        state.young.get(key).or_else(|| state.old.get(key)).copied()
    }

    pub fn learn(&self, timeline: i64, heads: impl IntoIterator<Item = (StreamKey, i64)>) {
        let mut state = self.lock();
        if state.timeline != timeline {
            return;
        }
        for (key, sequence) in heads {
            let known = state.young.get(&key).or_else(|| state.old.get(&key)).copied().unwrap_or(0);
            state.young.insert(key, sequence.max(known));
            if state.young.len() >= HALF {
                state.old = std::mem::take(&mut state.young);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn key(n: u128) -> StreamKey {
        ("a", Uuid::from_u128(n))
    }

    #[test]
    fn another_timeline_knows_nothing() {
        let heads = Heads::default();
        assert_eq!(heads.enter(1), Entered::New { first: true });
        heads.learn(1, [(key(1), 5)]);
        assert_eq!(heads.get(1, &key(1)), Some(5));
        assert_eq!(heads.enter(2), Entered::New { first: false });
        assert_eq!(heads.get(2, &key(1)), None);
        // A lane that is still on the old one teaches nothing and is told.
        heads.learn(1, [(key(1), 6)]);
        assert_eq!(heads.get(2, &key(1)), None);
        assert_eq!(heads.enter(1), Entered::Behind);
    }

    #[test]
    fn it_never_goes_back_and_stays_bounded() {
        let heads = Heads::default();
        heads.enter(1);
        heads.learn(1, [(key(1), 5)]);
        heads.learn(1, [(key(1), 3)]);
        assert_eq!(heads.get(1, &key(1)), Some(5));
        heads.learn(1, (10..10 + 3 * HALF as u128).map(|n| (key(n), 1)));
        let state = heads.lock();
        assert!(state.young.len() <= HALF && state.old.len() <= HALF);
        drop(state);
        assert_eq!(heads.get(1, &key(1)), None);
    }
}
