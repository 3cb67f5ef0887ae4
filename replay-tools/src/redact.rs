//! What may be printed of a payload: everything but sealed values, which are ciphertext to us anyway.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// Longest text of one value in a summary, characters.
const VALUE: usize = 60;
/// Longest summary, characters.
const SUMMARY: usize = 160;

/// Keys that were destroyed: subject and version.
pub(crate) type Erased = HashSet<(String, i32)>;

/// A sealed value (`{s, k, n, c}`) becomes `sealed`, wherever it stands; `erased`, when its key is gone.
pub(crate) fn redact(value: Value, erased: &Erased) -> Value {
    match value {
        Value::Object(fields) if is_sealed(&fields) => {
            Value::from(if is_erased(&fields, erased) { "erased" } else { "sealed" })
        }
        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k, redact(v, erased))).collect::<Map<_, _>>().into(),
        Value::Array(items) => items.into_iter().map(|item| redact(item, erased)).collect(),
        scalar => scalar,
    }
}

fn is_erased(fields: &Map<String, Value>, erased: &Erased) -> bool {
    let version = fields["k"].as_i64().and_then(|version| i32::try_from(version).ok());
    let subject = fields["s"].as_str();
    subject.zip(version).is_some_and(|(subject, version)| erased.contains(&(subject.to_owned(), version)))
}

fn is_sealed(fields: &Map<String, Value>) -> bool {
    fields.len() == 4 && ["s", "k", "n", "c"].iter().all(|k| fields.contains_key(*k))
}

/// `name=CRM source={"kind":"url",…} auth=…`, cut to a line. `payload` must be redacted.
pub(crate) fn summary(payload: &Value) -> String {
    let Value::Object(fields) = payload else { return cut(&payload.to_string(), SUMMARY) };
    let parts: Vec<String> = fields
        .iter()
        .map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{name}={}", cut(&text.replace(['\n', '\r', '\t'], " "), VALUE))
        })
        .collect();
    cut(&parts.join(" "), SUMMARY)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sealed_values_are_named_at_any_depth() {
        let sealed = json!({"s": "user:1", "k": 1, "n": "bm8=", "c": "Y2lwaGVy"});
        let gone = json!({"s": "user:1", "k": 2, "n": "bm8=", "c": "Y2lwaGVy"});
        let payload = json!({"email": sealed, "list": [{"x": gone}], "plain": {"s": 1}});
        let out = redact(payload.clone(), &Erased::from([("user:1".to_owned(), 2)]));
        assert_eq!(out, json!({"email": "sealed", "list": [{"x": "erased"}], "plain": {"s": 1}}));
        let out = redact(payload, &Erased::new());
        assert_eq!(summary(&out), r#"email=sealed list=[{"x":"sealed"}] plain={"s":1}"#);
    }

    #[test]
    fn summaries_are_cut_between_characters() {
        let text = summary(&json!({"name": "é".repeat(100)}));
        assert_eq!(text.chars().count(), "name=".len() + VALUE + 1);
    }
}
