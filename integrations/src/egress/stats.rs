//! What the client counts of itself, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::error::EgressError;

/// How requests end, each with the label it has in metrics.
const OUTCOMES: [&str; 17] = [
    "2xx",
    "3xx",
    "4xx",
    "5xx",
    "blocked",
    "invalid",
    "dns",
    "connect",
    "tls",
    "timeout",
    "interrupted",
    "protocol",
    "too_large",
    "redirect",
    "busy",
    "breaker_open",
    "held_back",
];

/// Counters since the start, and what is so now.
#[derive(Debug, Clone, PartialEq)]
pub struct EgressStats {
    /// Requests by outcome.
    pub requests: Vec<(&'static str, u64)>,
    /// Requests that had to wait for a turn at their host or for an API's limit, and for how long together.
    pub waited: u64,
    pub waited_for: Duration,
    /// Repetitions by the client itself.
    pub retries: u64,
    pub under_way: usize,
    /// Requests that wait for a turn at their host.
    pub waiting: usize,
    pub open_breakers: usize,
}

#[derive(Default)]
pub(super) struct Counters {
    outcomes: [AtomicU64; OUTCOMES.len()],
    waited: AtomicU64,
    waited_micros: AtomicU64,
    retries: AtomicU64,
}

impl Counters {
    pub(super) fn ended(&self, result: Result<u16, &EgressError>) {
        let label = match result {
            Ok(status) => ["2xx", "2xx", "2xx", "3xx", "4xx", "5xx"].get(usize::from(status) / 100).unwrap_or(&"5xx"),
            Err(error) => label(error),
        };
        if let Some(at) = OUTCOMES.iter().position(|outcome| *outcome == label) {
            self.outcomes[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn waited(&self, time: Duration) {
        self.waited.fetch_add(1, Ordering::Relaxed);
        self.waited_micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or_default(), Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, under_way: usize, waiting: usize, open_breakers: usize) -> EgressStats {
        let counted = self.outcomes.iter().map(|count| count.load(Ordering::Relaxed));
        EgressStats {
            requests: OUTCOMES.into_iter().zip(counted).collect(),
            waited: self.waited.load(Ordering::Relaxed),
            waited_for: Duration::from_micros(self.waited_micros.load(Ordering::Relaxed)),
            retries: self.retries.load(Ordering::Relaxed),
            under_way,
            waiting,
            open_breakers,
        }
    }
}

fn label(error: &EgressError) -> &'static str {
    match error {
        EgressError::InvalidUrl { .. } | EgressError::InvalidRequest { .. } | EgressError::Client { .. } => "invalid",
        EgressError::BlockedScheme { .. } | EgressError::BlockedAddress { .. } | EgressError::BlockedPort { .. } => {
            "blocked"
        }
        EgressError::NotApproved { .. } => "not_approved",
        EgressError::RedirectRefused { .. } | EgressError::TooManyRedirects { .. } => "redirect",
        EgressError::Dns { .. } => "dns",
        EgressError::Connect { .. } => "connect",
        EgressError::Tls { .. } => "tls",
        EgressError::Timeout { .. } => "timeout",
        EgressError::Interrupted { .. } => "interrupted",
        EgressError::Protocol { .. } => "protocol",
        EgressError::ResponseTooLarge { .. } => "too_large",
        EgressError::Busy { .. } => "busy",
        EgressError::BreakerOpen { .. } => "breaker_open",
        EgressError::HeldBack { .. } => "held_back",
    }
}
