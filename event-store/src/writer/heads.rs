//! What the lanes know to be committed: the last events of streams they wrote, on one timeline.
//!
//! The log never loses an event on one timeline, so a head that was seen committed is a predecessor that needs no second
//! look, and a command that expects less has lost its race. Only the lanes' own connections teach it: what a pool's
//! connection read may come from a server that is no longer the primary.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

use crate::append::StreamKey;

/// Of each of two halves: when the young one is full, the old one is forgotten.
const HALF: usize = 32_768;

#[derive(Default)]
pub(super) struct Heads(Mutex<State>);

#[derive(Default)]
struct State {
    timeline: i64,
    young: HashMap<StreamKey, Head>,
    old: HashMap<StreamKey, Head>,
}

/// A stream's last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub sequence: i64,
    pub event_id: Uuid,
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

    /// The last event known to be committed. It may be behind, never ahead.
    pub fn get(&self, timeline: i64, key: &StreamKey) -> Option<Head> {
        let state = self.lock();
        if state.timeline != timeline {
            return None;
        }
        state.young.get(key).or_else(|| state.old.get(key)).copied()
    }

    /// A connection was lost: whatever is found after it, nothing is taken for granted.
    pub fn forget(&self) {
        let mut state = self.lock();
        *state = State { timeline: state.timeline, ..State::default() };
    }

    pub fn learn(&self, timeline: i64, heads: impl IntoIterator<Item = (StreamKey, Head)>) {
        let mut state = self.lock();
        if state.timeline != timeline {
            return;
        }
        for (key, head) in heads {
            let known = state.young.get(&key).or_else(|| state.old.get(&key)).copied();
            let newest = known.filter(|k| k.sequence > head.sequence).unwrap_or(head);
            state.young.insert(key, newest);
            if state.young.len() >= HALF {
                state.old = std::mem::take(&mut state.young);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u128) -> StreamKey {
        ("a", Uuid::from_u128(n))
    }

    fn head(sequence: i64) -> Head {
        Head { sequence, event_id: Uuid::from_u128(sequence as u128) }
    }

    #[test]
    fn another_timeline_knows_nothing() {
        let heads = Heads::default();
        assert_eq!(heads.enter(1), Entered::New { first: true });
        heads.learn(1, [(key(1), head(5))]);
        assert_eq!(heads.get(1, &key(1)), Some(head(5)));
        assert_eq!(heads.enter(2), Entered::New { first: false });
        assert_eq!(heads.get(2, &key(1)), None);
        // A lane that is still on the old one teaches nothing and is told.
        heads.learn(1, [(key(1), head(6))]);
        assert_eq!(heads.get(2, &key(1)), None);
        assert_eq!(heads.enter(1), Entered::Behind);
    }

    #[test]
    fn it_never_goes_back_and_stays_bounded() {
        let heads = Heads::default();
        heads.enter(1);
        heads.learn(1, [(key(1), head(5))]);
        heads.learn(1, [(key(1), head(3))]);
        assert_eq!(heads.get(1, &key(1)), Some(head(5)));
        heads.learn(1, (10..10 + 3 * HALF as u128).map(|n| (key(n), head(1))));
        let state = heads.lock();
        assert!(state.young.len() <= HALF && state.old.len() <= HALF);
        drop(state);
        assert_eq!(heads.get(1, &key(1)), None);
    }
}
