//! What a webhook's receiver is told of an event.

use chrono::SecondsFormat;
use domain::{
    event::RecordedEvent,
    ids::{EventId, WorkspaceId},
};
use serde_json::{Value, json};

/// `{type, timestamp, data}`. Sealed fields and hashes are left out: who may read them asks the API.
pub(super) fn of(event: &RecordedEvent, name: &str) -> String {
    let mut payload: Value = serde_json::from_str(&event.payload).unwrap_or(Value::Null);
    veil(&mut payload);
    let size = payload.to_string().len();
    if size > 16 * 1024 {
        payload = json!({ "omitted": format!("{size} bytes; read the event from the API") });
    }
    json!({
        "type": name,
        "timestamp": event.recorded_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "data": {
            "eventId": EventId(event.event_id),
            "workspaceId": WorkspaceId(event.workspace_id),
            "resource": { "type": event.aggregate_type, "id": domain::ids::typed(&event.aggregate_type, event.aggregate_id) },
            "sequence": event.sequence,
            "position": event.at.to_string(),
            "details": payload,
        },
    })
    .to_string()
}

/// Removes, wherever they occur, sealed values (`{s, k, n, c}`, or a blob of one), hashes and secrets: a receiver is
/// told no more than a reader of the log.
fn veil(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, item| !is_confidential(name) && !is_sealed(item));
            map.values_mut().for_each(veil);
        }
        Value::Array(items) => {
            items.retain(|item| !is_sealed(item));
            items.iter_mut().for_each(veil);
        }
        _ => {}
    }
}

/// `hash`, `tokenHash`, `valueHash` and any other hash; what is a secret by its name.
fn is_confidential(name: &str) -> bool {
    name == "hash" || name.ends_with("Hash") || ["secret", "password", "token"].contains(&name)
}

fn is_sealed(value: &Value) -> bool {
    let keys = |wanted: &[&str]| {
        value.as_object().is_some_and(|m| m.len() == wanted.len() && wanted.iter().all(|k| m.contains_key(*k)))
    };
    keys(&["s", "k", "n", "c"]) || keys(&["blob", "size"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_values_never_leave() {
        let mut value = json!({
            "a": {"s": "x", "k": 1, "n": "", "c": ""},
            "b": {"input": {"blob": "h", "size": 1}, "n": 2},
            "c": [{"s": "x", "k": 1, "n": "", "c": ""}, 3],
        });
        veil(&mut value);
        assert_eq!(value, json!({"b": {"n": 2}, "c": [3]}));
    }

    #[test]
    fn hashes_and_secrets_never_leave_however_deep() {
        let mut value = json!({
            "hash": "0cea", "name": "key", "prefix": "ak_1",
            "deep": [{"tokenHash": "1", "valueHash": "2", "kind": "bearer"}, {"passwordHash": "3", "password": "4"}],
            "more": {"secret": "5", "token": "6", "tokens": 7, "hashed": true},
        });
        veil(&mut value);
        let left = json!({
            "name": "key", "prefix": "ak_1",
            "deep": [{"kind": "bearer"}, {}],
            "more": {"tokens": 7, "hashed": true},
        });
        assert_eq!(value, left);
    }
}
