//! Renders an `api_call` step into a request: where each value travels is decided here, purely.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::RenderedAction;
use crate::{
    expression::{self, Budget, ExpressionError, Scope},
    ids::ConnectionId,
    operation::ParameterLocation,
    workflow::definition::{ApiCall, Binding},
};

/// A request without host and credentials: what the log keeps as a step's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderedCall {
    pub connection_id: ConnectionId,
    pub method: String,
    /// With values filled in and percent-encoded.
    pub path: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// What a step that acts outside does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Rendered {
    Call(RenderedCall),
    Action(RenderedAction),
}

pub(super) fn render(call: &ApiCall, binding: &Binding, scope: &Scope) -> Result<RenderedCall, ExpressionError> {
    let budget = Budget::default();
    let render_map = |map: &Map<String, Value>| expression::render_map(map, scope, &budget);
    let flat = render_map(&call.parameters)?;
    let mut path_values = render_map(&call.path)?;
    let mut query = pairs(render_map(&call.query)?);
    let mut headers: Vec<_> = render_map(&call.headers)?.iter().map(|(k, v)| (k.clone(), text(v))).collect();
    let mut cookies = Vec::new();
    let mut body_fields = Map::new();
    let bodiless = matches!(binding.method.as_str(), "GET" | "HEAD" | "DELETE" | "OPTIONS" | "TRACE");
    for (name, value) in flat {
        let declared = binding.parameters.iter().find(|(n, _)| *n == name).map(|(_, location)| *location);
        let in_template = binding.path.contains(&format!("{{{name}}}"));
        match declared.or(in_template.then_some(ParameterLocation::Path)) {
            Some(ParameterLocation::Path) => {
                path_values.insert(name, value);
            }
            Some(ParameterLocation::Query) => push_query(&mut query, &name, value),
            Some(ParameterLocation::Header) => headers.push((name, text(&value))),
            Some(ParameterLocation::Cookie) => cookies.push((name, text(&value))),
            None if bodiless && binding.content_type.is_none() => push_query(&mut query, &name, value),
            None => {
                body_fields.insert(name, value);
            }
        }
    }
    let body = match (&call.body, body_fields.is_empty()) {
        (Some(body), _) => Some(expression::render_within(body, scope, &budget)?),
        (None, false) => Some(Value::Object(body_fields)),
        (None, true) => None,
    };
    Ok(RenderedCall {
        connection_id: call.connection_id,
        method: binding.method.clone(),
        path: fill(&binding.path, &path_values)?,
        query,
        headers,
        cookies,
        content_type: body.is_some().then(|| binding.content_type.clone().unwrap_or_else(|| "application/json".into())),
        body,
        server: binding.server.clone(),
    })
}

fn pairs(map: Map<String, Value>) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (name, value) in map {
        push_query(&mut out, &name, value);
    }
    out
}

/// Lists repeat the name; null means absent.
fn push_query(query: &mut Vec<(String, String)>, name: &str, value: Value) {
    match value {
        Value::Null => {}
        Value::Array(items) => query.extend(items.iter().map(|v| (name.to_owned(), text(v)))),
        other => query.push((name.to_owned(), text(&other))),
    }
}

/// A value as it stands in a path, query or header: texts bare, the rest as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Fills `{name}`; a value cannot add segments, and an empty one would change the route.
fn fill(template: &str, values: &Map<String, Value>) -> Result<String, ExpressionError> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else { break };
        out.push_str(before);
        // `{id}` in the step's own endpoint and `{customerId}` in the document may differ; one name left is that one.
        let value = values.get(name).map(text).unwrap_or_default();
        if value.is_empty() || value == "." || value == ".." {
            let message = format!("the path parameter {name:?} has no value");
            return Err(ExpressionError { expression: template.to_owned(), message });
        }
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(byte as char);
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}
