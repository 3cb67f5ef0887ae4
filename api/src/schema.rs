//! Checks a JSON value against a registered schema and names every fault, not the first only.

use domain::error::FieldError;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use serde_json::Value;

use crate::types::ID_FORMAT;

/// More would help nobody.
const MOST_FAULTS: usize = 100;

pub struct Checker<'a> {
    registry: &'a Registry,
    faults: Vec<FieldError>,
}

/// Every fault of `value`, with its path (`steps[1].endpoint`; the body itself is `body`).
pub fn faults(registry: &Registry, schema: &MetaSchemaRef, value: &Value) -> Vec<FieldError> {
    let mut checker = Checker { registry, faults: Vec::new() };
    checker.check(schema, value, "");
    checker.faults
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Checker<'_> {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(FieldError::new(if path.is_empty() { "body" } else { path }, message));
        }
    }

    fn check(&mut self, schema: &MetaSchemaRef, value: &Value, path: &str) {
        let registry = self.registry;
        match schema {
            MetaSchemaRef::Inline(schema) => self.check_schema(schema, value, path),
            MetaSchemaRef::Reference(name) => {
                if let Some(schema) = registry.schemas.get(name) {
                    self.check_schema(schema, value, path);
                }
            }
        }
    }

    fn check_schema(&mut self, schema: &MetaSchema, value: &Value, path: &str) {
        for part in &schema.all_of {
            self.check(part, value, path);
        }
        match (schema.ty, value) {
            // Free JSON: only what Postgres cannot hold is refused.
            ("", _) if schema.all_of.is_empty() => self.check_free(value, path),
            ("", _) => {}
            (_, Value::Null) if schema.nullable => {}
            (_, Value::Null) => self.add(path, "must not be null; leave the field out instead"),
            ("object", Value::Object(map)) => self.check_object(schema, map, path),
            ("array", Value::Array(items)) => self.check_array(schema, items, path),
            ("string", Value::String(text)) => self.check_text(schema, text, path),
            ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => {
                self.check_number(schema, number.as_f64(), path);
            }
            ("integer", Value::Number(_)) => self.add(path, "must be a whole number"),
            ("number", Value::Number(number)) => self.check_number(schema, number.as_f64(), path),
            ("boolean", Value::Bool(_)) => {}
            (wanted, found) => {
                let wanted = match wanted {
                    "object" => "an object",
                    "array" => "a list",
                    "string" => "a text",
                    "integer" => "a whole number",
                    "number" => "a number",
                    _ => "a boolean",
                };
                self.add(path, format!("must be {wanted}, not {}", name_of(found)));
            }
        }
    }

    fn check_object(&mut self, schema: &MetaSchema, map: &serde_json::Map<String, Value>, path: &str) {
        for name in &schema.required {
            if !map.contains_key(*name) {
                self.add(&join(path, name), "is required");
            }
        }
        for (name, value) in map {
            let at = join(path, name);
            let known = schema.properties.iter().find(|(known, _)| known == name);
            match (known, &schema.additional_properties) {
                (Some((_, schema)), _) => self.check(schema, value, &at),
                (None, Some(schema)) => self.check(schema, value, &at),
                (None, None) => self.add(&printable(&at), "is no field of this body"),
            }
        }
    }

    fn check_array(&mut self, schema: &MetaSchema, items: &[Value], path: &str) {
        let (min, max) = (schema.min_items.unwrap_or(0), schema.max_items.unwrap_or(usize::MAX));
        if items.len() < min || items.len() > max {
            self.add(path, range_sentence(min, max, "entries"));
        }
        if let Some(item_schema) = &schema.items {
            for (index, item) in items.iter().enumerate().take(10_000) {
                self.check(item_schema, item, &format!("{path}[{index}]"));
            }
        }
    }

    fn check_text(&mut self, schema: &MetaSchema, text: &str, path: &str) {
        if text.contains('\0') {
            self.add(path, "must not contain the character NUL");
        }
        if !schema.enum_items.is_empty() && !schema.enum_items.iter().any(|item| item == text) {
            let choices: Vec<_> = schema.enum_items.iter().filter_map(Value::as_str).collect();
            self.add(path, format!("must be one of {}", choices.join(", ")));
        }
        let (min, max) = (schema.min_length.unwrap_or(0), schema.max_length.unwrap_or(usize::MAX));
        // Bytes are at least as many as characters: most texts need no count.
        if text.len() < min || text.len() > max {
            let count = text.chars().count();
            if count < min || count > max {
                self.add(path, range_sentence(min, max, "characters"));
            }
        }
        match schema.format {
            Some("date-time") if chrono::DateTime::parse_from_rfc3339(text).is_err() => {
                self.add(path, "must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z");
            }
            Some(ID_FORMAT) => self.check_id(schema, text, path),
            _ => {}
        }
    }

    fn check_id(&mut self, schema: &MetaSchema, text: &str, path: &str) {
        let pattern = schema.pattern.as_deref().unwrap_or_default();
        let prefix = pattern.trim_start_matches('^').split_inclusive('_').next().unwrap_or_default();
        // Any prefix will do for the suffix's own check.
        let good = text
            .strip_prefix(prefix)
            .is_some_and(|suffix| format!("evt_{suffix}").parse::<domain::ids::EventId>().is_ok());
        if !good {
            self.add(path, format!("must be an id: {prefix} and 26 characters of 0-9a-z without i, l, o, u"));
        }
    }

    fn check_number(&mut self, schema: &MetaSchema, number: Option<f64>, path: &str) {
        let number = number.unwrap_or(f64::NAN);
        let (low, high) = match schema.format {
            Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
            Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
            Some("uint64") => (Some(0.0), None),
            _ => (None, None),
        };
        if let Some(minimum) = schema.minimum.or(low).filter(|m| number < *m) {
            self.add(path, format!("must be at least {minimum}"));
        }
        if let Some(maximum) = schema.maximum.or(high).filter(|m| number > *m) {
            self.add(path, format!("must be at most {maximum}"));
        }
    }

    fn check_free(&mut self, value: &Value, path: &str) {
        match value {
            Value::String(text) if text.contains('\0') => self.add(path, "must not contain the character NUL"),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.check_free(item, &format!("{path}[{index}]"));
                }
            }
            Value::Object(map) => {
                for (name, item) in map {
                    let at = join(path, &printable(name));
                    if name.contains('\0') {
                        self.add(&at, "a name must not contain the character NUL");
                    }
                    self.check_free(item, &at);
                }
            }
            _ => {}
        }
    }
}

/// Names come from the client: without control characters, and short.
fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn range_sentence(min: usize, max: usize, unit: &str) -> String {
    match max {
        usize::MAX => format!("must have at least {min} {unit}"),
        _ => format!("must have {min} to {max} {unit}"),
    }
}
