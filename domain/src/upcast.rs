//! Reads events that older builds wrote: each change of an event's shape adds one step here.
//!
//! Stored payloads are never edited. A step turns version n of one event type into n + 1; the chain runs until
//! the current version is reached. Golden histories in the tests keep every version readable.

use std::borrow::Cow;

use crate::event::DecodeError;

/// `(event type, from version, to version, change)`.
type Step = (&'static str, &'static str, &'static str, fn(serde_json::Value) -> serde_json::Value);

/// No event has changed its shape yet.
const STEPS: &[Step] = &[];

/// The payload in the shape this build reads. Costs nothing when there is no step for the type.
pub fn upcast<'a>(event_type: &str, version: &str, payload: &'a str) -> Result<Cow<'a, str>, DecodeError> {
    run(STEPS, event_type, version, payload)
}

fn run<'a>(steps: &[Step], event_type: &str, version: &str, payload: &'a str) -> Result<Cow<'a, str>, DecodeError> {
    let mut at = version.to_owned();
    let mut changed: Option<serde_json::Value> = None;
    while let Some((_, _, to, change)) = steps.iter().find(|(t, from, _, _)| *t == event_type && *from == at) {
        let value = match changed.take() {
            Some(value) => value,
            None => serde_json::from_str(payload).map_err(|e| DecodeError::new(event_type, e))?,
        };
        changed = Some(change(value));
        at = (*to).to_owned();
    }
    Ok(changed.map_or(Cow::Borrowed(payload), |v| Cow::Owned(v.to_string())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_chain_and_leave_others_alone() {
        let steps: &[Step] = &[
            ("a.b", "1", "2", |v| json!({"n": v["m"], "x": 1})),
            ("a.b", "2", "3", |mut v| {
                v["x"] = json!(2);
                v
            }),
        ];
        assert_eq!(run(steps, "a.b", "1", r#"{"m":7}"#).unwrap(), r#"{"n":7,"x":2}"#);
        assert_eq!(run(steps, "a.b", "3", r#"{"n":7}"#).unwrap(), r#"{"n":7}"#);
        assert_eq!(run(steps, "a.c", "1", "{}").unwrap(), "{}");
    }
}
