//! Watches how the calls of connections go, and records a change of their health.
//!
//! A connection's health is in its stream, and every attempt has loaded it anyway; what this node has seen since then is
//! here. A call that goes well on a healthy connection costs a look into a map, and nothing else: no load, no append.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use commands::{App, Context, connection::change_health};
use domain::{
    connection::{
        Standing,
        health::{Change, Health, Observation, WINDOW, assess},
    },
    ids::ConnectionId,
};
use integrations::egress::EgressError;
use tokio_util::task::TaskTracker;

/// Connections that are remembered; only those with troubles are.
const MOST: usize = 10_000;

#[derive(Clone)]
pub(crate) struct HealthWatch {
    app: App,
    troubled: Arc<Mutex<HashMap<ConnectionId, Recent>>>,
    under_way: TaskTracker,
}

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
        let Some((from, change)) = self.note(id, standing, seen) else { return };
        let watch = self.clone();
        self.under_way.spawn(async move {
            match change_health(&watch.app, &context, id, from, change.clone()).await {
                Ok(true) => tracing::info!(connection = %id, to = change.to.as_str(), "a connection's health changed"),
                Ok(false) => {}
                // The next call sees the same again.
                Err(error) => tracing::warn!(connection = %id, %error, "a change of health could not be recorded"),
            }
            if let Some(recent) = watch.lock().get_mut(&id) {
                recent.telling = false;
            }
        });
    }

    /// The change that is due, and the health it was seen in.
    fn note(&self, id: ConnectionId, standing: Standing, seen: Observation) -> Option<(Health, Change)> {
        let well = seen == Observation::Success || seen == Observation::Answered;
        let mut troubled = self.lock();
        if well && standing.health == Health::Healthy && !troubled.contains_key(&id) {
            return None;
        }
        if troubled.len() >= MOST {
            // What is forgotten is seen again, if it goes on.
            troubled.retain(|_, recent| recent.telling);
        }
        let new = || Recent { standing, seen: VecDeque::new(), telling: false };
        let recent = troubled.entry(id).or_insert_with(new);
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
        let change = assess(&recent.standing, recent.seen.make_contiguous(), self.app.now());
        if change.is_some() && !recent.telling {
            recent.telling = true;
            return Some((from, change?));
        }
        let calm = recent.seen.iter().all(|seen| *seen == Observation::Success || *seen == Observation::Answered);
        if calm && from == Health::Healthy && !recent.telling {
            troubled.remove(&id);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Recent>> {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
