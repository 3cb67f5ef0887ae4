//! When a failed attempt is tried again.

use chrono::{DateTime, TimeDelta, Utc};

use crate::workflow::definition::Retry;

/// How an attempt failed, as far as repeating it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The request never reached the server (DNS, refused, TLS).
    NotSent,
    /// It may have: the connection broke or time ran out while waiting.
    Unknown { timeout: bool },
    /// It was held back because the API said that nothing is left of its limit.
    HeldBack,
    /// The server answered with this status.
    Status(u16),
    /// Repeating cannot help: an expression, a blocked address, a missing credential.
    Final,
}

/// Statuses that do not say whether anything was done. 520 and 524 are a well-known proxy's.
fn may_follow_effect(status: u16) -> bool {
    matches!(status, 500 | 502 | 504 | 520 | 524)
}

/// May an attempt that failed so have taken effect? Told from what the log keeps; yes when in doubt.
pub(super) fn may_have_acted(code: &str, http_status: Option<u16>) -> bool {
    match http_status {
        Some(status) => status >= 500 && status != 503,
        None => matches!(code, "TIMEOUT" | "NETWORK" | "BAD_ANSWER"),
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Retry(DateTime<Utc>),
    Fail,
    OutcomeUnknown,
}

/// `repeatable`: the operation may be repeated when its outcome is unknown. `random` is from 0 to 1.
pub fn verdict(
    retry: &Retry,
    attempt: u32,
    failure: Failure,
    repeatable: bool,
    retry_after_s: Option<i64>,
    now: DateTime<Utc>,
    random: f64,
) -> Verdict {
    let class = match failure {
        Failure::Final => return Verdict::Fail,
        Failure::NotSent => "network",
        Failure::HeldBack => "429",
        Failure::Unknown { .. } if !repeatable => return Verdict::OutcomeUnknown,
        Failure::Unknown { timeout: true } => "timeout",
        Failure::Unknown { timeout: false } => "network",
        Failure::Status(429) => "429",
        // 503 says that nothing was done; these may come after the effect, of the server or of one in front of it.
        Failure::Status(status) if !repeatable && may_follow_effect(status) => return Verdict::OutcomeUnknown,
        Failure::Status(503) => "5xx",
        Failure::Status(status) if status >= 500 && repeatable => "5xx",
        Failure::Status(_) => return Verdict::Fail,
    };
    if attempt >= retry.max_attempts || !retry.on.iter().any(|c| c == class) {
        return Verdict::Fail;
    }
    let backoff = retry.initial_interval_ms as f64 * retry.multiplier.powi(attempt.saturating_sub(1) as i32);
    let capped = backoff.min(retry.max_interval_ms as f64);
    let jittered = capped * (1.0 - retry.jitter * random);
    let asked = retry_after_s.unwrap_or(0).clamp(0, 3_600) * 1_000;
    Verdict::Retry(now + TimeDelta::milliseconds((jittered as i64).max(asked)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_repeated_is_repeated() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let of = |failure, repeatable| verdict(&Retry::default(), 1, failure, repeatable, None, now, 0.0);
        let second = Verdict::Retry(now + TimeDelta::seconds(1));
        assert_eq!(of(Failure::NotSent, false), second);
        assert_eq!(of(Failure::HeldBack, false), second);
        assert_eq!(of(Failure::Unknown { timeout: true }, false), Verdict::OutcomeUnknown);
        assert_eq!(of(Failure::Unknown { timeout: true }, true), second);
        assert_eq!(of(Failure::Status(500), true), second);
        for status in [500, 502, 504, 520, 524] {
            assert_eq!(of(Failure::Status(status), false), Verdict::OutcomeUnknown, "{status}");
        }
        for status in [302, 400, 402, 409, 501, 505] {
            assert_eq!(of(Failure::Status(status), false), Verdict::Fail, "{status}");
        }
        assert_eq!(of(Failure::Status(429), false), second);
        assert_eq!(of(Failure::Status(503), false), second);
        assert_eq!(of(Failure::Status(404), true), Verdict::Fail);
        assert_eq!(of(Failure::Final, true), Verdict::Fail);
    }

    #[test]
    fn waits_grow_are_capped_and_honour_the_server() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let retry = Retry { max_attempts: 10, ..Retry::default() };
        let wait = |attempt, after| match verdict(&retry, attempt, Failure::Status(429), false, after, now, 0.0) {
            Verdict::Retry(at) => (at - now).num_milliseconds(),
            other => panic!("{other:?}"),
        };
        assert_eq!([wait(1, None), wait(2, None), wait(3, None), wait(9, None)], [1_000, 2_000, 4_000, 30_000]);
        assert_eq!(wait(1, Some(7)), 7_000);
        assert_eq!(verdict(&retry, 10, Failure::Status(429), false, None, now, 0.0), Verdict::Fail);
    }
}
