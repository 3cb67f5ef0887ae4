//! Keeps a credential's values out of what is recorded of a call.

use domain::call::{CallFacts, without_secret};
use serde_json::{Map, Value};

/// Shorter ones would strike out half of the words there are, and are no secrets.
const SHORTEST: usize = 4;
const STRUCK: &str = "[redacted]";

/// The values of a credential whose schema says `writeOnly`.
pub(super) fn secrets_of(schema: &Value, credential: &Map<String, Value>) -> Vec<String> {
    let secret = |name: &str| schema["properties"][name]["writeOnly"] == Value::Bool(true);
    let values = credential.iter().filter(|(name, _)| secret(name));
    values.filter_map(|(_, value)| value.as_str().map(str::to_owned)).collect()
}

pub(super) fn facts(mut facts: CallFacts, secrets: &[String]) -> CallFacts {
    for secret in secrets {
        facts.path = without_secret(&facts.path, secret);
    }
    facts
}

/// Strikes them out of every text and every name, wherever a service echoes them.
pub(super) fn value(value: &mut Value, secrets: &[String]) {
    match value {
        Value::String(text) => strike(text, secrets),
        Value::Array(items) => items.iter_mut().for_each(|item| self::value(item, secrets)),
        Value::Object(map) => map_of(map, secrets),
        _ => {}
    }
}

pub(super) fn map_of(map: &mut Map<String, Value>, secrets: &[String]) {
    let told = |name: &String| secrets.iter().any(|s| s.len() >= SHORTEST && name.contains(s.as_str()));
    for name in map.keys().filter(|name| told(name)).cloned().collect::<Vec<_>>() {
        if let Some(inner) = map.remove(&name) {
            let mut name = name;
            strike(&mut name, secrets);
            map.insert(name, inner);
        }
    }
    map.values_mut().for_each(|inner| value(inner, secrets));
}

fn strike(text: &mut String, secrets: &[String]) {
    for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST) {
        if text.contains(secret.as_str()) {
            *text = text.replace(secret.as_str(), STRUCK);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_echoed_is_struck_out() {
        let schema =
            json!({ "properties": { "token": { "writeOnly": true }, "name": {}, "pin": { "writeOnly": true } } });
        let credential = json!({ "token": "s3cret", "name": "open", "pin": "1" });
        let secrets = secrets_of(&schema, credential.as_object().unwrap());
        let mut echoed = json!({ "a": ["Bearer s3cret"], "s3cret!": { "b": "open 1" } });
        value(&mut echoed, &secrets);
        assert_eq!(echoed, json!({ "a": ["Bearer [redacted]"], "[redacted]!": { "b": "open 1" } }));
    }
}
