//! Watches how the calls of connections go, and records a change of their health.
//!
//! A connection's health is in its stream, and every attempt has loaded it anyway; what this node has seen since then is
//! here. A call that goes well on a healthy connection costs a look into a map, and nothing else: no load, no append.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use commands::{App, Context, connection::change_health};
use domain::{
    connection::{
        Standing,
        health::{Change, Health, Observation, WINDOW, assess},
    },
    ids::ConnectionId,
};
use integrations::egress::{EgressError, TlsFault};
use tokio_util::task::TaskTracker;

/// Connections that are remembered; only those with troubles are.
const MOST: usize = 10_000;

#[derive(Clone)]
pub(crate) struct HealthWatch {
    app: App,
    troubled: Arc<Mutex<Troubled>>,
    under_way: TaskTracker,
}

/// Connections of which this node has seen trouble.
#[derive(Default)]
struct Troubled(HashMap<ConnectionId, Recent>);

/// What this node has seen of a connection since its health changed last.
struct Recent {
    standing: Standing,
    seen: VecDeque<Observation>,
    /// A change is being appended.
    telling: bool,
}

/// What a failed request shows of the connection; `None`: nothing, it was refused or held back here.
pub(crate) fn observation_of(error: &EgressError) -> Option<Observation> {
    let what = error.to_string();
    match error {
        EgressError::Tls { fault: TlsFault::ClientCertificate, reason, .. } => {
            Some(Observation::NotAccepted { what: reason.clone() })
        }
        EgressError::Dns { .. }
        | EgressError::Connect { .. }
        | EgressError::Tls { .. }
        | EgressError::Timeout { sent: false, .. } => Some(Observation::NoConnection { what }),
        EgressError::Timeout { .. } | EgressError::Interrupted { .. } | EgressError::Protocol { .. } => {
            Some(Observation::Fault { what })
        }
        _ => None,
    }
}

impl HealthWatch {
    pub fn new(app: App, under_way: TaskTracker) -> Self {
        Self { app, troubled: Arc::default(), under_way }
    }

    /// Takes in how a call went. `standing` is the connection's as it was loaded for that call. A change is appended
    /// beside the execution, which does not wait for it.
    pub fn observe(&self, context: Context, id: ConnectionId, standing: Standing, seen: Observation) {
        let noted = self.lock().note(id, standing, seen, self.app.now());
        let Some((from, change)) = noted else { return };
        let watch = self.clone();
        self.under_way.spawn(async move {
            match change_health(&watch.app, &context, id, from, change.clone()).await {
                Ok(true) => tracing::info!(connection = %id, to = change.to.as_str(), "a connection's health changed"),
                Ok(false) => {}
                // The next call sees the same again.
                Err(error) => tracing::warn!(connection = %id, %error, "a change of health could not be recorded"),
            }
            watch.lock().told(id);
        });
    }

    fn lock(&self) -> MutexGuard<'_, Troubled> {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Troubled {
    /// The change that is due, and the health it was seen in.
    fn note(
        &mut self,
        id: ConnectionId,
        standing: Standing,
        seen: Observation,
        now: DateTime<Utc>,
    ) -> Option<(Health, Change)> {
        if is_well(&seen) && standing.health == Health::Healthy && !self.0.contains_key(&id) {
            return None;
        }
        if self.0.len() >= MOST {
            // What is forgotten is seen again, if it goes on.
            self.0.retain(|_, recent| recent.telling);
        }
        let new = || Recent { standing, seen: VecDeque::new(), telling: false };
        let recent = self.0.entry(id).or_insert_with(new);
        if recent.standing.since < standing.since {
            // Changed meanwhile, here or by another node: what was seen before is in that.
            (recent.standing, recent.seen) = (standing, VecDeque::new());
        }
        recent.standing.worked |= standing.worked;
        recent.seen.push_back(seen);
        if recent.seen.len() > WINDOW {
            recent.seen.pop_front();
        }
        let from = recent.standing.health;
        if recent.telling {
            return None;
        }
        let change = assess(&recent.standing, recent.seen.make_contiguous(), now);
        recent.telling = change.is_some();
        if change.is_none() && from == Health::Healthy && recent.seen.iter().all(is_well) {
            self.0.remove(&id);
        }
        change.map(|change| (from, change))
    }

    /// The change was appended, or could not be.
    fn told(&mut self, id: ConnectionId) {
        if let Some(recent) = self.0.get_mut(&id) {
            recent.telling = false;
        }
    }
}

fn is_well(seen: &Observation) -> bool {
    matches!(seen, Observation::Success | Observation::Answered)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn gone() -> Observation {
        observation_of(&EgressError::Dns { host: "a.example".into() }).unwrap()
    }

    #[test]
    fn good_calls_of_a_healthy_connection_leave_nothing() {
        let (mut node, id) = (Troubled::default(), ConnectionId::default());
        let healthy = Standing::default();
        let began = std::time::Instant::now();
        for _ in 0..100_000 {
            assert_eq!(node.note(id, healthy, Observation::Success, now()), None);
        }
        println!("{} ns a call", began.elapsed().as_nanos() / 100_000);
        assert!(node.0.is_empty());
        node.note(id, healthy, gone(), now());
        assert_eq!(node.0.len(), 1);
        // Trouble that stays alone is forgotten when it has left the window.
        (0..WINDOW).for_each(|_| drop(node.note(id, healthy, Observation::Success, now())));
        assert!(node.0.is_empty());
    }

    #[test]
    fn a_change_is_told_once_and_another_nodes_change_begins_anew() {
        let (mut node, id) = (Troubled::default(), ConnectionId::default());
        let healthy = Standing::default();
        assert_eq!((node.note(id, healthy, gone(), now()), node.note(id, healthy, gone(), now())), (None, None));
        let (from, change) = node.note(id, healthy, gone(), now()).unwrap();
        assert_eq!((from, change.to), (Health::Healthy, Health::Unreachable));
        assert!(change.reason.contains("a.example"), "{change:?}");
        assert_eq!(node.note(id, healthy, gone(), now()), None, "it is being told");
        node.told(id);
        // Another node has found it healthy meanwhile: what was seen before that does not count any more.
        let recovered = Standing { since: Some(now()), worked: true, ..healthy };
        let later = now() + TimeDelta::seconds(90);
        assert_eq!(node.note(id, recovered, gone(), later), None);
        // A call that had begun before knows less.
        assert_eq!(node.note(id, healthy, gone(), later), None);
        assert_eq!(node.note(id, recovered, gone(), later).map(|(_, c)| c.to), Some(Health::Unreachable));
        node.told(id);
        let unreachable = Standing { health: Health::Unreachable, since: Some(later), worked: true };
        assert_eq!(node.note(id, unreachable, gone(), later), None, "it is so already");
        let back = node.note(id, unreachable, Observation::Answered, later).map(|(from, c)| (from, c.to));
        assert_eq!(back, Some((Health::Unreachable, Health::Healthy)));
    }

    #[test]
    fn what_was_held_back_here_says_nothing_of_the_connection() {
        let host = || "a.example".to_owned();
        let retry_in = std::time::Duration::from_secs(1);
        for error in [
            EgressError::Busy { host: host(), waited: retry_in },
            EgressError::BreakerOpen { host: host(), retry_in },
            EgressError::HeldBack { host: host(), retry_in },
            EgressError::BlockedAddress { host: host() },
            EgressError::ResponseTooLarge { limit: 1 },
        ] {
            assert_eq!(observation_of(&error), None, "{error}");
        }
        let late = EgressError::Timeout { host: host(), after: retry_in, sent: true };
        assert!(matches!(observation_of(&late), Some(Observation::Fault { .. })));
        let never = EgressError::Timeout { host: host(), after: retry_in, sent: false };
        assert!(matches!(observation_of(&never), Some(Observation::NoConnection { .. })));
    }
}
