//! Read your writes: which position of the log an actor must be able to see.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use domain::event::LogPosition;
use poem::Request;

use crate::{problem::Problem, state::ApiState};

/// A write's answer carries it, a read may send it back. Opaque to clients.
pub const HEADER: &str = "X-Event-Position";

/// Actors remembered; twice as many at most are kept.
const GENERATION: usize = 4096;

/// The last write of each actor on this node. Bounded: the longest silent are forgotten, and by then seen anyway.
#[derive(Default)]
pub struct LastWrites(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<String, LogPosition>,
    old: HashMap<String, LogPosition>,
}

impl LastWrites {
    pub fn note(&self, actor: &str, at: LogPosition) {
        if at == LogPosition::START {
            return;
        }
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= GENERATION {
            generations.old = std::mem::take(&mut generations.young);
        }
        let known = generations.young.entry(actor.to_owned()).or_insert(at);
        *known = at.max(*known);
    }

    pub fn of(&self, actor: &str) -> Option<LogPosition> {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        [&generations.young, &generations.old].into_iter().filter_map(|map| map.get(actor)).max().copied()
    }
}

/// Waits until the read models show what this reader has written or names; 503 rather than a stale answer.
pub async fn await_for(state: &ApiState, request: &Request, actor: &str) -> Result<(), Problem> {
    let named = match request.header(HEADER) {
        Some(text) => Some(text.parse().map_err(|()| Problem::field(HEADER, "is no position of this service's log"))?),
        None => None,
    };
    let Some(wanted) = named.max(state.last_writes().of(actor)) else { return Ok(()) };
    if reached(state, wanted).await {
        return Ok(());
    }
    Err(Problem::unavailable("the read models lag behind").with_retry_after(1))
}

/// Do the read models show this position within the configured time?
pub async fn reached(state: &ApiState, wanted: LogPosition) -> bool {
    wanted == LogPosition::START || state.reads().wait_for(wanted, state.config().freshness_wait).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: i64) -> LogPosition {
        LogPosition { generation: 1, transaction_id: position as u64, position }
    }

    #[test]
    fn the_latest_write_counts_and_memory_is_bounded() {
        let writes = LastWrites::default();
        writes.note("a", at(5));
        writes.note("a", at(3));
        writes.note("a", LogPosition::START);
        assert_eq!(writes.of("a"), Some(at(5)));
        assert_eq!(writes.of("b"), None);
        for n in 0..(3 * GENERATION as i64) {
            writes.note(&format!("actor {n}"), at(n + 1));
        }
        assert_eq!(writes.of("a"), None, "the longest silent is forgotten");
        assert_eq!(writes.of(&format!("actor {}", 3 * GENERATION as i64 - 1)), Some(at(3 * GENERATION as i64)));
        let generations = writes.0.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
    }
}
