//! Reads events that older builds wrote: each change of an event's shape adds one step here.
//!
//! Stored payloads are never edited. A step lifts one event type from a version to the next; the chain runs until the
//! version that this build writes. Golden histories (`domain/tests/golden`) keep every version readable.

use std::borrow::Cow;

use serde_json::Value;

use crate::event::DecodeError;

/// One change of an event's shape.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub event_type: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    /// Total: a payload of version `from` in, one of version `to` out.
    pub change: fn(Value) -> Value,
}

pub const STEPS: &[Step] = &[
    // Since connectors, the reader in an execution need not be a connection's call.
    Step { event_type: "credential.read", from: "1", to: "2", change: |payload| payload },
];

/// The payload in the shape of version `current`. Costs nothing when it has it already.
pub fn upcast<'a>(
    steps: &[Step],
    event_type: &str,
    version: &str,
    current: &str,
    payload: &'a str,
) -> Result<Cow<'a, str>, DecodeError> {
    if version == current {
        return Ok(Cow::Borrowed(payload));
    }
    let mut at = version;
    let mut value = serde_json::from_str(payload).map_err(|e| DecodeError::new(event_type, e))?;
    // Each step is taken once at most, so that a circle of steps ends.
    for _ in 0..steps.len() {
        let Some(step) = steps.iter().find(|s| s.event_type == event_type && s.from == at) else { break };
        value = (step.change)(value);
        at = step.to;
        if at == current {
            return Ok(Cow::Owned(value.to_string()));
        }
    }
    Err(unknown(event_type, version, current))
}

/// No chain of steps leads from `version` to `current`.
fn unknown(event_type: &str, version: &str, current: &str) -> DecodeError {
    match (version.parse::<u32>(), current.parse::<u32>()) {
        (Ok(stored), Ok(ours)) if stored < ours => {
            DecodeError::new(event_type, format!("no upcaster leads from version {version} to {current}"))
        }
        _ => DecodeError::newer(event_type, version),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CHAIN: &[Step] = &[
        Step { event_type: "a.b", from: "1", to: "2", change: |v| json!({"n": v["m"], "x": 1}) },
        Step {
            event_type: "a.b",
            from: "2",
            to: "3",
            change: |mut v| {
                v["x"] = json!(2);
                v
            },
        },
    ];

    fn error(version: &str, current: &str) -> String {
        upcast(CHAIN, "a.b", version, current, "{}").unwrap_err().to_string()
    }

    #[test]
    fn steps_chain_and_leave_others_alone() {
        assert_eq!(upcast(CHAIN, "a.b", "1", "3", r#"{"m":7}"#).unwrap(), r#"{"n":7,"x":2}"#);
        assert_eq!(upcast(CHAIN, "a.b", "3", "3", r#"{"n":7}"#).unwrap(), r#"{"n":7}"#);
        assert_eq!(upcast(CHAIN, "a.c", "1", "1", "{}").unwrap(), "{}");
    }

    #[test]
    fn a_version_without_a_way_to_ours_is_refused_in_words() {
        let newer =
            |v: &str| format!("event a.b version {v} is not known to this build; it was written by a newer one");
        assert_eq!(error("4", "3"), newer("4"));
        assert_eq!(error("10", "9"), newer("10"), "versions are numbers, not texts");
        assert_eq!(error("3-beta", "3"), newer("3-beta"));
        assert!(error("0", "3").contains("no upcaster leads from version 0 to 3"));
    }

    #[test]
    fn a_circle_of_steps_ends() {
        let circle: &[Step] = &[
            Step { event_type: "a.b", from: "1", to: "2", change: |v| v },
            Step { event_type: "a.b", from: "2", to: "1", change: |v| v },
        ];
        assert!(upcast(circle, "a.b", "1", "3", "{}").is_err());
    }
}
