//! What is wrong with a value by its JSON Schema: every fault with its place, in words that never hold the value.

use domain::{error::FieldError, expression};
use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::Value;

/// `path` goes before each field; empty for none. With `unevaluated`, a text with an expression in it fits anything.
pub(super) fn faults(schema: &Value, value: &Value, path: &str, unevaluated: bool) -> Vec<FieldError> {
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        // A test compiles every schema there is.
        Err(error) => return vec![FieldError::new(path, format!("its schema is broken: {error}"))],
    };
    let found = validator.iter_errors(value).filter(|error| !(unevaluated && is_open(error.instance())));
    let mut faults: Vec<FieldError> = found.flat_map(|error| told(&error, path)).collect();
    // Two keywords may find the same; one sentence is enough.
    let mut seen = std::collections::BTreeSet::new();
    faults.retain(|fault| seen.insert(fault.field.clone()));
    faults
}

fn is_open(value: &Value) -> bool {
    value.as_str().is_some_and(expression::is_template)
}

fn told(error: &ValidationError<'_>, path: &str) -> Vec<FieldError> {
    let at = place(path, error.instance_path().as_str());
    let inner = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    let message = match error.kind() {
        ValidationErrorKind::Required { property } => {
            return vec![FieldError::new(inner(property.as_str().unwrap_or_default()), "is required")];
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            return unexpected.iter().map(|name| FieldError::new(inner(name), "is not a known field here")).collect();
        }
        ValidationErrorKind::Type { .. } => format!("must be {}", types(error)),
        ValidationErrorKind::Enum { options } => format!("must be one of {}", listed(options)),
        ValidationErrorKind::MinLength { limit: 1 } => "must not be empty".to_owned(),
        ValidationErrorKind::MinLength { limit } => format!("must have at least {limit} characters"),
        ValidationErrorKind::MaxLength { limit } => format!("must have at most {limit} characters"),
        ValidationErrorKind::Minimum { limit } => format!("must be at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("must be at most {limit}"),
        ValidationErrorKind::MinItems { limit } => format!("must have at least {limit} items"),
        ValidationErrorKind::MaxItems { limit } => format!("must have at most {limit} items"),
        ValidationErrorKind::Pattern { pattern } => format!("must match {pattern}"),
        _ => error.masked().to_string(),
    };
    vec![FieldError::new(at, message)]
}

/// `a string`, `a string or a list`.
fn types(error: &ValidationError<'_>) -> String {
    let wanted = match error.kind() {
        ValidationErrorKind::Type { kind: jsonschema::error::TypeKind::Single(one) } => vec![one.to_string()],
        ValidationErrorKind::Type { kind: jsonschema::error::TypeKind::Multiple(set) } => {
            set.iter().map(|one| one.to_string()).collect()
        }
        _ => Vec::new(),
    };
    let word = |name: &String| match name.trim_matches('"') {
        "string" => "a text".to_owned(),
        "array" => "a list".to_owned(),
        "object" => "an object".to_owned(),
        "integer" => "a whole number".to_owned(),
        "number" => "a number".to_owned(),
        "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    };
    wanted.iter().map(word).collect::<Vec<_>>().join(" or ")
}

fn listed(options: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    options.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ")
}

/// `/attachments/0/name` behind `config` is `config.attachments[0].name`.
fn place(path: &str, pointer: &str) -> String {
    let mut place = path.to_owned();
    for part in pointer.split('/').filter(|part| !part.is_empty()) {
        match part.parse::<usize>() {
            Ok(index) => place.push_str(&format!("[{index}]")),
            Err(_) => {
                if !place.is_empty() {
                    place.push('.');
                }
                place.push_str(&part.replace("~1", "/").replace("~0", "~"));
            }
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_has_its_place_and_no_value() {
        let schema = json!({
            "type": "object", "required": ["a", "b"], "additionalProperties": false,
            "properties": {
                "a": { "type": "integer" }, "b": { "type": "string" }, "c": { "enum": ["x", "y"] },
                "list": { "type": "array", "items": { "type": "object", "required": ["n"] } },
                "both": { "type": ["string", "array"] },
            },
        });
        let value = json!({ "a": "s3cret", "c": "s3cret", "list": [{ "n": 1 }, {}], "both": 7, "zz": "s3cret" });
        let mut found = faults(&schema, &value, "config", false);
        found.sort_by(|a, b| a.field.cmp(&b.field));
        let told: Vec<String> = found.iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
        assert_eq!(
            told,
            [
                "config.a: must be a whole number",
                "config.b: is required",
                "config.both: must be a text or a list",
                "config.c: must be one of x, y",
                "config.list[1].n: is required",
                "config.zz: is not a known field here",
            ]
        );
    }

    #[test]
    fn expressions_fit_anything_until_they_are_evaluated() {
        let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } } });
        let value = json!({ "a": "{{ input.a }}" });
        assert_eq!(faults(&schema, &value, "", true), []);
        assert_eq!(faults(&schema, &value, "", false)[0].field, "a");
    }
}
