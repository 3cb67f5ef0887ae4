//! What may be printed of a payload: everything but sealed values, which are ciphertext to us anyway.

use serde_json::{Map, Value};

/// Longest text of one value in a summary, characters.
const VALUE: usize = 60;
/// Longest summary, characters.
const SUMMARY: usize = 160;

/// A sealed value (`{s, k, n, c}`) becomes `sealed`, wherever it stands.
pub(crate) fn redact(value: Value) -> Value {
    match value {
        Value::Object(fields) if is_sealed(&fields) => Value::from("sealed"),
        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k, redact(v))).collect::<Map<_, _>>().into(),
        Value::Array(items) => items.into_iter().map(redact).collect(),
        scalar => scalar,
    }
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
        let payload = json!({"email": sealed, "list": [{"x": sealed}], "plain": {"s": 1}});
        let out = redact(payload);
        assert_eq!(out, json!({"email": "sealed", "list": [{"x": "sealed"}], "plain": {"s": 1}}));
        assert_eq!(summary(&out), r#"email=sealed list=[{"x":"sealed"}] plain={"s":1}"#);
    }

    #[test]
    fn summaries_are_cut_between_characters() {
        let text = summary(&json!({"name": "é".repeat(100)}));
        assert_eq!(text.chars().count(), "name=".len() + VALUE + 1);
    }
}
