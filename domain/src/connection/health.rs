//! A connection's health: decided purely, from how its calls went since it last changed.
//!
//! The state is folded from the connection's own stream, so every node knows the same one; what each node has seen since
//! is its own. Whoever sees enough appends the change, and who is second finds it changed already.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// How many calls are looked back at.
pub const WINDOW: usize = 20;
/// Calls in a row without a connection.
const UNREACHABLE_AFTER: usize = 3;
/// Calls in a row with 401; one alone may be one operation's own.
const UNAUTHORISED_AFTER: usize = 2;
/// Calls in a row with 401 or 403, of a credential that has worked.
const FORBIDDEN_AFTER: usize = 3;
/// Faults that make a connection degraded, when they are half of the calls.
const FAULTS: usize = 5;
/// Calls in a row without a fault that end it.
const RECOVERED_AFTER: usize = 5;
/// After a recovery nothing gets worse for this long: two operations of which one always fails must not swing it.
const SETTLES: TimeDelta = TimeDelta::seconds(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing is known against it.
    #[default]
    Healthy,
    /// It answers, but half of the calls meet a fault of its own or its limit.
    Degraded,
    /// It does not accept the credential (any more).
    CredentialExpired,
    /// No connection comes about.
    Unreachable,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::CredentialExpired => "credential_expired",
            Health::Unreachable => "unreachable",
        }
    }
}

/// Where a connection stands, as its stream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    pub health: Health,
    /// When it changed last.
    pub since: Option<DateTime<Utc>>,
    /// Has the credential ever been seen to work?
    pub worked: bool,
}

/// How one call went, as far as health is concerned. `what` is public: no values, no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// 2xx or 3xx.
    Success,
    /// The API is there and had something against this one request: 400, 404, 422, or 401 to a call without credential.
    Answered,
    /// 401 or 403 to a call with the credential.
    Refused { status: u16 },
    /// The server did not accept the credential before it looked at the request: a client certificate.
    NotAccepted { what: String },
    /// 5xx, 429, no answer in time, or a broken one.
    Fault { what: String },
    /// DNS, TCP or TLS did not come about.
    NoConnection { what: String },
}

impl Observation {
    /// Of an answer. `with_credential`: the call carried one.
    pub fn of_status(status: u16, with_credential: bool) -> Self {
        match status {
            401 | 403 if with_credential => Observation::Refused { status },
            429 | 500.. => Observation::Fault { what: format!("it answers {status}") },
            400.. => Observation::Answered,
            _ => Observation::Success,
        }
    }
}

/// A change that has been seen to be due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub to: Health,
    pub reason: String,
}

/// What the observations since the last change, oldest first, make of a connection; `None`: it stays.
pub fn assess(standing: &Standing, recent: &[Observation], now: DateTime<Utc>) -> Option<Change> {
    let to = |to: Health, reason: String| Some(Change { to, reason });
    match (standing.health, recent.last()?) {
        (Health::Unreachable, Observation::Success | Observation::Answered) => {
            return to(Health::Healthy, "it answers again".into());
        }
        (Health::Unreachable, Observation::Fault { what }) => {
            return to(Health::Degraded, format!("connections come about again, but {what}"));
        }
        (Health::Unreachable, Observation::Refused { .. } | Observation::NotAccepted { .. }) => {
            return to(Health::CredentialExpired, refusal(recent.last()?));
        }
        (Health::CredentialExpired, Observation::Success) => {
            return to(Health::Healthy, "the credential is accepted again".into());
        }
        (Health::Degraded, _) if in_a_row(recent, is_well) >= RECOVERED_AFTER => {
            return to(Health::Healthy, format!("{RECOVERED_AFTER} calls in a row without a fault"));
        }
        _ => {}
    }
    let settling = standing.health == Health::Healthy && standing.since.is_some_and(|since| now - since < SETTLES);
    if settling { None } else { worse(standing, recent) }
}

fn worse(standing: &Standing, recent: &[Observation]) -> Option<Change> {
    let last = recent.last()?;
    if let Observation::NoConnection { what } = last
        && standing.health != Health::Unreachable
        && in_a_row(recent, |o| matches!(o, Observation::NoConnection { .. })) >= UNREACHABLE_AFTER
    {
        let reason = format!("{UNREACHABLE_AFTER} calls in a row without a connection: {what}");
        return Some(Change { to: Health::Unreachable, reason });
    }
    let known = matches!(standing.health, Health::CredentialExpired | Health::Unreachable);
    if !known && is_refused(standing, recent) {
        return Some(Change { to: Health::CredentialExpired, reason: refusal(last) });
    }
    let faults = recent.iter().filter(|o| !is_fine(o)).count();
    if let Observation::Fault { what } | Observation::NoConnection { what } = last
        && standing.health == Health::Healthy
        && faults >= FAULTS
        && faults * 2 >= recent.len()
    {
        let reason = format!("{faults} of the last {} calls met a fault: {what}", recent.len());
        return Some(Change { to: Health::Degraded, reason });
    }
    None
}

fn is_refused(standing: &Standing, recent: &[Observation]) -> bool {
    let is_sure = |o: &Observation| matches!(o, Observation::Refused { status: 401 } | Observation::NotAccepted { .. });
    let unauthorised = in_a_row(recent, is_sure);
    let refused = in_a_row(recent, |o| is_sure(o) || matches!(o, Observation::Refused { .. }));
    let worked = standing.worked || recent.contains(&Observation::Success);
    unauthorised >= UNAUTHORISED_AFTER || (worked && refused >= FORBIDDEN_AFTER)
}

fn refusal(last: &Observation) -> String {
    match last {
        Observation::NotAccepted { what } => format!("{what}; store a new one"),
        Observation::Refused { status: 403 } => {
            "the API answers 403 to everything: the credential lost its rights, or is a wrong one".into()
        }
        _ => "the API answers 401: the credential is not accepted; store a new one".into(),
    }
}

/// How many of the newest are so.
fn in_a_row(recent: &[Observation], is_so: impl Fn(&Observation) -> bool) -> usize {
    recent.iter().rev().take_while(|o| is_so(o)).count()
}

fn is_fine(observation: &Observation) -> bool {
    !matches!(observation, Observation::Fault { .. } | Observation::NoConnection { .. })
}

fn is_well(observation: &Observation) -> bool {
    matches!(observation, Observation::Success | Observation::Answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    /// `.` success, `a` answered, `1` 401, `3` 403, `f` fault, `x` no connection.
    fn seen(text: &str) -> Vec<Observation> {
        let of = |c| match c {
            '.' => Observation::Success,
            'a' => Observation::Answered,
            '1' => Observation::Refused { status: 401 },
            '3' => Observation::Refused { status: 403 },
            'c' => Observation::NotAccepted { what: "the client certificate has expired".into() },
            'f' => Observation::of_status(503, true),
            'x' => Observation::NoConnection { what: "connection refused".into() },
            other => panic!("{other}"),
        };
        text.chars().map(of).collect()
    }

    fn after(health: Health, worked: bool, text: &str) -> Option<Health> {
        let standing = Standing { health, since: None, worked };
        assess(&standing, &seen(text), now()).map(|change| change.to)
    }

    #[test]
    fn a_connection_gets_worse_only_for_good_reason() {
        use Health::*;
        for (text, expected) in [
            ("", None),
            (".....", None),
            ("xx", None),
            ("xx.x", None),
            ("xxx", Some(Unreachable)),
            ("1", None),
            ("1.1.1.1.", None),
            ("11", Some(CredentialExpired)),
            ("cc", Some(CredentialExpired)),
            ("1c", Some(CredentialExpired)),
            ("333", None),
            (".333", Some(CredentialExpired)),
            (".133", Some(CredentialExpired)),
            ("aaaaaaaaaa", None),
            ("ffff", None),
            ("fffff", Some(Degraded)),
            (".f.f.f.f.f", Some(Degraded)),
            ("..f..f..f..f..f", None),
            ("xxfffx", Some(Degraded)),
            // What came before is not said again by a call that went well.
            (".f.f.f.f.f.", None),
        ] {
            assert_eq!(after(Healthy, false, text), expected, "{text}");
        }
        assert_eq!(after(Healthy, true, "333"), Some(CredentialExpired), "it had worked before");
        assert_eq!(after(Degraded, false, "fffff"), None, "it is so already");
        assert_eq!(after(Degraded, false, "11"), Some(CredentialExpired));
    }

    #[test]
    fn a_connection_recovers() {
        use Health::*;
        assert_eq!(after(Unreachable, false, "x"), None);
        assert_eq!(after(Unreachable, false, "x."), Some(Healthy));
        assert_eq!(after(Unreachable, false, "a"), Some(Healthy));
        assert_eq!(after(Unreachable, false, "f"), Some(Degraded));
        assert_eq!(after(Unreachable, false, "1"), Some(CredentialExpired));
        assert_eq!(after(CredentialExpired, false, "a"), None, "a 404 says nothing of the credential");
        assert_eq!(after(CredentialExpired, false, "."), Some(Healthy));
        assert_eq!(after(CredentialExpired, false, "xxx"), Some(Unreachable));
        assert_eq!(after(Degraded, false, "f...."), None);
        assert_eq!(after(Degraded, false, "f....."), Some(Healthy));
    }

    #[test]
    fn two_operations_of_which_one_fails_do_not_swing_it() {
        let since = Some(now() - TimeDelta::seconds(59));
        let standing = Standing { health: Health::Healthy, since, worked: true };
        assert_eq!(assess(&standing, &seen("11111"), now()), None);
        let later = now() + TimeDelta::seconds(1);
        assert_eq!(assess(&standing, &seen("11111"), later).map(|c| c.to), Some(Health::CredentialExpired));
    }

    #[test]
    fn statuses_are_sorted() {
        assert_eq!(Observation::of_status(401, false), Observation::Answered);
        assert_eq!(Observation::of_status(401, true), Observation::Refused { status: 401 });
        assert_eq!(Observation::of_status(404, true), Observation::Answered);
        assert_eq!(Observation::of_status(302, true), Observation::Success);
        assert!(matches!(Observation::of_status(429, true), Observation::Fault { .. }));
        assert!(matches!(Observation::of_status(500, false), Observation::Fault { .. }));
    }
}
