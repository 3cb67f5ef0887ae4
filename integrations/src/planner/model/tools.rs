//! Operations as the model sees them: short names, one line of description, compact JSON Schemas.

use domain::operation::{Operation, Schema};
use serde_json::{Map, Value, json};

use crate::planner::{
    catalog::Catalog,
    shape::{self, Slot},
    text::plain,
};

const MAX_DESCRIPTION: usize = 300;
const MAX_PROPERTY_DESCRIPTION: usize = 120;
/// Optional inputs that are offered, and properties of an inner object.
const MAX_OPTIONAL: usize = 24;
const MAX_INNER: usize = 12;
const MAX_CHOICES: usize = 20;
const MAX_DEPTH: usize = 2;

/// A candidate with its definition as a function tool.
pub struct Tool<'a> {
    pub name: String,
    pub doc: usize,
    pub connection_id: &'a str,
    pub operation: &'a Operation,
    pub slots: Vec<Slot<'a>>,
    pub definition: Value,
}

impl<'a> Tool<'a> {
    /// Names are stable for the same candidates: `op_0_getCustomer`.
    pub fn new(catalog: &'a Catalog, number: usize, doc: usize) -> Self {
        let operation = catalog.operation(doc);
        let connection = catalog.connection(doc);
        let own = operation.operation_id.clone().unwrap_or_else(|| format!("{}_{}", operation.method, operation.path));
        let own: String = own.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(50).collect();
        let name = format!("op_{number}_{own}");
        let slots = shape::slots(operation);
        let definition = json!({"type": "function", "function": {
            "name": name,
            "description": description(operation, &connection.name),
            "parameters": parameters(&slots),
        }});
        Self { name, doc, connection_id: &connection.connection_id, operation, slots, definition }
    }

    pub fn slot(&self, name: &str) -> Option<&Slot<'a>> {
        self.slots.iter().find(|s| s.name == name)
    }
}

fn description(operation: &Operation, connection: &str) -> String {
    let summary = operation.summary.as_deref().unwrap_or_default();
    let more = operation.description.as_deref().filter(|d| *d != summary).unwrap_or_default();
    let gives = shape::success_schema(operation).map(gives).filter(|g| !g.is_empty());
    let gives = gives.map(|g| format!(" | answer: {g}")).unwrap_or_default();
    let about = plain(&format!("{summary} {more}"), MAX_DESCRIPTION);
    format!("{}: {} {} | {about}{gives}", plain(connection, 60), operation.method, plain(&operation.path, 200))
}

/// Names of the answer's values, so that they can be wired: `{id, email, items[{id}]}`.
fn gives(schema: &Schema) -> String {
    fn names(schema: &Schema, depth: usize) -> String {
        if let Some(items) = &schema.items {
            return format!("[{}]", names(items, depth));
        }
        if schema.properties.is_empty() || depth > MAX_DEPTH {
            return String::new();
        }
        let list: Vec<String> =
            schema.properties.iter().take(20).map(|p| format!("{}{}", p.name, names(&p.schema, depth + 1))).collect();
        format!("{{{}}}", list.join(", "))
    }
    plain(&names(schema, 0), MAX_DESCRIPTION)
}

fn parameters(slots: &[Slot<'_>]) -> Value {
    let optional = slots.iter().filter(|s| !s.required).take(MAX_OPTIONAL);
    let mut properties = Map::new();
    for slot in slots.iter().filter(|s| s.required).chain(optional) {
        properties.insert(slot.name.to_owned(), compact(slot.schema, slot.description, 0));
    }
    let required: Vec<&str> = slots.iter().filter(|s| shape::is_missing_without(s)).map(|s| s.name).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn compact(schema: &Schema, description: Option<&str>, depth: usize) -> Value {
    let mut out = Map::new();
    if !schema.kind.is_empty() && schema.kind != "null" {
        out.insert("type".into(), json!(schema.kind));
    }
    if let Some(format) = &schema.format {
        out.insert("format".into(), json!(plain(format, 40)));
    }
    if !schema.choices.is_empty() && schema.choices.len() <= MAX_CHOICES {
        out.insert("enum".into(), json!(schema.choices));
    }
    if let Some(text) = description.or(schema.description.as_deref()).map(|d| plain(d, MAX_PROPERTY_DESCRIPTION)) {
        out.insert("description".into(), json!(text));
    }
    if depth < MAX_DEPTH {
        if let Some(items) = &schema.items {
            out.insert("items".into(), compact(items, None, depth + 1));
        }
        if !schema.properties.is_empty() {
            let inner: Map<String, Value> = schema
                .properties
                .iter()
                .filter(|p| !p.read_only)
                .take(MAX_INNER)
                .map(|p| (p.name.clone(), compact(&p.schema, None, depth + 1)))
                .collect();
            out.insert("properties".into(), Value::Object(inner));
        }
    } else if schema.kind == "array" {
        // An array without items is refused by some providers.
        out.insert("items".into(), json!({}));
    }
    Value::Object(out)
}
