//! Repeating safe requests that failed for the moment: documents, tests.
//!
//! Steps of workflows and deliveries have retry policies of their own, which are in the log; they do not ask for this.
//! Pauses grow and are jittered, `Retry-After` is honoured, the request's time limit counts for all tries together, and
//! each host has a budget: when most requests fail, repeating them all would make it worse.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use http::Method;

use super::error::EgressError;
use super::request::{OutboundRequest, OutboundResponse};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Repetitions that a host has to give away when all is well…
const BUDGET: f64 = 10.0;
/// …and what each request adds to what is left of them.
const EARNED: f64 = 0.2;

/// The pauses before each repetition of a request; none where it may not be repeated.
pub(super) fn pauses(request: &OutboundRequest) -> impl Iterator<Item = Duration> {
    let safe = matches!(request.method, Method::GET | Method::HEAD);
    let times = if safe { request.retries } else { 0 };
    ExponentialBuilder::new()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_max_times(times)
        .with_jitter()
        .build()
        .take(times)
}

/// Is it worth another try, and how long does the server want it to wait? `None`: it is not.
pub(super) fn again(result: &Result<OutboundResponse, EgressError>) -> Option<Duration> {
    match result {
        Ok(answer) if matches!(answer.status, 429 | 502 | 503 | 504) => Some(answer.retry_after.unwrap_or_default()),
        Ok(_) => None,
        Err(error) if error.is_transient() => Some(error.retry_in().unwrap_or_default()),
        Err(_) => None,
    }
}

/// What each host has left. Only hosts that failed lately are in it.
#[derive(Default)]
pub(super) struct RetryBudget(Mutex<HashMap<String, f64>>);

impl RetryBudget {
    /// A first try.
    pub(super) fn earn(&self, host: &str) {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = hosts.get_mut(host) {
            *left += EARNED;
            if *left >= BUDGET {
                hosts.remove(host);
            }
        }
    }

    /// A repetition, if there is one left.
    pub(super) fn spend(&self, host: &str) -> bool {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = hosts.entry(host.to_owned()).or_insert(BUDGET);
        let enough = *left >= 1.0;
        if enough {
            *left -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_only_safe_requests_have_any() {
        let of = |method, retries| {
            pauses(&OutboundRequest::new(method, "http://a.example/").retries(retries)).collect::<Vec<_>>()
        };
        assert_eq!((of(Method::POST, 3).len(), of(Method::GET, 0).len()), (0, 0));
        let waits = of(Method::GET, 8);
        assert_eq!(waits.len(), 8);
        for (wait, floor) in waits.iter().zip([250u64, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]) {
            assert!(*wait >= Duration::from_millis(floor), "{waits:?}");
        }
        assert_ne!(of(Method::GET, 4), of(Method::GET, 4), "jitter");
    }

    #[test]
    fn a_failing_host_uses_its_budget_up() {
        let budget = RetryBudget::default();
        assert_eq!((0..20).filter(|_| budget.spend("a")).count(), 10);
        assert!(budget.spend("b"), "another host's");
        (0..4).for_each(|_| budget.earn("a"));
        assert!(!budget.spend("a"));
        (0..4).for_each(|_| budget.earn("a"));
        assert!(budget.spend("a"));
        (0..60).for_each(|_| budget.earn("a"));
        assert!(!budget.0.lock().unwrap().contains_key("a"), "it is well again");
    }
}
