//! Keeps a credential's values out of what is recorded of a call.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose};
use domain::call::CallFacts;
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

/// A credential's secrets in every form in which a service may echo them.
pub(super) struct Secrets {
    /// Longest first, so that no form leaves the rest of another one standing.
    forms: Vec<String>,
}

impl Secrets {
    pub(super) fn of(values: &[String]) -> Self {
        let long = values.iter().filter(|value| value.len() >= SHORTEST);
        let forms: BTreeSet<String> = long.flat_map(|value| forms_of(value)).collect();
        let mut forms: Vec<String> = forms.into_iter().collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Self { forms }
    }

    /// Whatever the case: words of services are told in upper case.
    pub(super) fn are_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.forms.iter().any(|form| text.contains(&form.to_lowercase()))
    }

    fn strike(&self, text: &mut String) {
        for form in &self.forms {
            if text.contains(form.as_str()) {
                *text = text.replace(form.as_str(), STRUCK);
            }
        }
    }
}

/// As it is, inside JSON, in a form, in a path, in base64 and in hexadecimal digits.
fn forms_of(secret: &str) -> Vec<String> {
    let hex = |upper: bool| -> String {
        let digits = |byte: u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
        secret.bytes().map(digits).collect()
    };
    let mut forms = vec![secret.to_owned(), hex(true), hex(false)];
    let quoted = Value::from(secret).to_string();
    forms.push(quoted.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned());
    let in_form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    for encoded in [in_form, percent(secret, b"-._~"), percent(secret, b"-._~!$&'()*+,;=:@")] {
        forms.push(digits_in_lower_case(&encoded));
        forms.push(encoded);
    }
    for engine in [general_purpose::STANDARD_NO_PAD, general_purpose::URL_SAFE_NO_PAD] {
        forms.push(engine.encode(secret));
    }
    forms.push(general_purpose::STANDARD.encode(secret));
    forms.push(general_purpose::URL_SAFE.encode(secret));
    forms.retain(|form| form.len() >= SHORTEST);
    forms
}

fn percent(text: &str, keep: &[u8]) -> String {
    let encode = |byte: u8| match byte.is_ascii_alphanumeric() || keep.contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// `%3A` to `%3a`, and nothing else.
fn digits_in_lower_case(encoded: &str) -> String {
    let mut digits = 0;
    let lower = |c: char| {
        let inside = digits > 0;
        digits = if c == '%' { 2 } else { digits.max(1) - 1 };
        if inside { c.to_ascii_lowercase() } else { c }
    };
    encoded.chars().map(lower).collect()
}

pub(super) fn facts(mut facts: CallFacts, secrets: &Secrets) -> CallFacts {
    secrets.strike(&mut facts.path);
    facts
}

/// Strikes them out of every text and every name, wherever a service echoes them.
pub(super) fn value(value: &mut Value, secrets: &Secrets) {
    match value {
        Value::String(text) => secrets.strike(text),
        Value::Array(items) => items.iter_mut().for_each(|item| self::value(item, secrets)),
        Value::Object(map) => map_of(map, secrets),
        _ => {}
    }
}

pub(super) fn map_of(map: &mut Map<String, Value>, secrets: &Secrets) {
    let told = |name: &String| secrets.forms.iter().any(|form| name.contains(form.as_str()));
    for name in map.keys().filter(|name| told(name)).cloned().collect::<Vec<_>>() {
        if let Some(inner) = map.remove(&name) {
            let mut name = name;
            secrets.strike(&mut name);
            map.insert(name, inner);
        }
    }
    map.values_mut().for_each(|inner| value(inner, secrets));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::connectors::outcome::Refusal;

    #[test]
    fn what_is_echoed_is_struck_out() {
        let schema =
            json!({ "properties": { "token": { "writeOnly": true }, "name": {}, "pin": { "writeOnly": true } } });
        let credential = json!({ "token": "s3cret", "name": "open", "pin": "1" });
        let secrets = Secrets::of(&secrets_of(&schema, credential.as_object().unwrap()));
        let mut echoed = json!({ "a": ["Bearer s3cret"], "s3cret!": { "b": "open 1" } });
        value(&mut echoed, &secrets);
        assert_eq!(echoed, json!({ "a": ["Bearer [redacted]"], "[redacted]!": { "b": "open 1" } }));
    }

    #[test]
    fn every_form_is_struck_out() {
        let secrets = Secrets::of(&["s:3 \"?é".to_owned()]);
        for echoed in [
            "s:3 \"?é",
            r#"s:3 \"?é"#,
            "s%3A3+%22%3F%C3%A9",
            "s%3a3+%22%3f%c3%a9",
            "s%3A3%20%22%3F%C3%A9",
            "s%3a3%20%22%3f%c3%a9",
            "s:3%20%22%3F%C3%A9",
            "czozICI/w6k=",
            "czozICI/w6k",
            "czozICI_w6k",
            "733a3320223fc3a9",
            "733A3320223FC3A9",
        ] {
            let mut text = format!("a={echoed}&b");
            secrets.strike(&mut text);
            assert_eq!(text, "a=[redacted]&b", "{echoed}");
        }
        let mut inside = "the token s3cret-and-more and s3cret".to_owned();
        Secrets::of(&["s3cret".to_owned(), "s3cret-and-more".to_owned()]).strike(&mut inside);
        assert_eq!(inside, "the token [redacted] and [redacted]");
    }

    #[test]
    fn a_services_word_that_holds_a_secret_is_not_told() {
        let long = "t0k3n-".repeat(20);
        let secrets = Secrets::of(&[long.clone(), "xoxb-77".to_owned()]);
        let told = |word: &str| {
            let mut refusal = Refusal::of_word("Slack", word, 400);
            refusal.redact("Slack", &secrets);
            (refusal.code, refusal.message)
        };
        let kept = ("SLACK_ERROR".to_owned(), "Slack answered error.".to_owned());
        assert_eq!(told(&format!("bad {long}")), kept, "cut short it would not be found");
        assert_eq!(told("XOXB-77 is unknown"), kept);
        assert_eq!(told("eG94Yi03Nw=="), kept);
        assert_eq!(told("channel_not_found").0, "SLACK_CHANNEL_NOT_FOUND");
    }
}
