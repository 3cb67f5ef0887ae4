//! What can be known before a workflow runs: unknown operations, missing parameters, names nothing defines.
//!
//! Binds each `api_call` to its operation, so that the execution needs no spec.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    action::{Actions, check_key},
    definition::*,
};
use crate::{
    connection::security,
    error::{Faults, FieldError},
    expression,
    ids::ConnectionId,
    operation::{Operation, ParameterLocation, SpecSummary},
};

/// The connections a definition may call. `None` as spec: plain HTTP, nothing is known of its operations.
pub type Connections<'a> = BTreeMap<ConnectionId, Option<&'a SpecSummary>>;

/// Bindings by step id.
pub type Bindings = BTreeMap<String, Binding>;

/// Checks everything at once; the fields are JSON paths into the definition. `actions` are those of its connector steps that
/// could be found.
pub fn check(
    definition: &Definition,
    connections: &Connections<'_>,
    actions: &Actions,
) -> Result<Bindings, Vec<FieldError>> {
    let (inputs, faults, bindings) = (input_names(definition), Faults::default(), Bindings::new());
    let mut checker = Checker { connections, actions, inputs, faults, bindings };
    let mut names = Names::default();
    checker.block(&definition.steps, "steps", &mut names);
    if let Some(output) = &definition.output {
        checker.value(output, "output", &names);
    }
    if checker.faults.0.is_empty() { Ok(checker.bindings) } else { Err(checker.faults.0) }
}

/// The declared inputs, when the schema says that there are no others.
fn input_names(definition: &Definition) -> Option<Vec<String>> {
    let schema = definition.input_schema.as_ref()?.as_object()?;
    let closed = schema.get("additionalProperties").is_none_or(|a| a == &Value::Bool(false));
    let properties = schema.get("properties")?.as_object()?;
    closed.then(|| properties.keys().cloned().collect())
}

/// What an expression at one place can name.
#[derive(Default, Clone)]
struct Names {
    steps: Vec<String>,
    locals: Vec<String>,
}

struct Checker<'a> {
    connections: &'a Connections<'a>,
    actions: &'a Actions,
    inputs: Option<Vec<String>>,
    faults: Faults,
    bindings: Bindings,
}

impl Checker<'_> {
    fn block(&mut self, steps: &[Step], path: &str, names: &mut Names) {
        for (i, step) in steps.iter().enumerate() {
            self.step(step, &format!("{path}[{i}]"), names);
            names.steps.push(step.id.clone());
        }
    }

    fn step(&mut self, step: &Step, path: &str, names: &mut Names) {
        if let Some(condition) = &step.condition {
            self.expression(condition, &format!("{path}.if"), names);
        }
        match &step.kind {
            StepKind::ApiCall(call) => {
                self.call_values(call, path, names);
                self.bind(&step.id, call, path);
            }
            StepKind::Connector(call) => {
                for (name, value) in &call.input {
                    self.value(value, &format!("{path}.config.{name}"), names);
                }
                if let Some(action) = self.actions.get(&step.id) {
                    self.faults.0.extend(check_key(step, action, path));
                    let binding = Binding { action: Some(action.clone()), ..Binding::default() };
                    self.bindings.insert(step.id.clone(), binding);
                }
            }
            StepKind::Transform { output } => self.value(output, &format!("{path}.output"), names),
            StepKind::Condition { expression, then, otherwise } => {
                self.expression(expression, &format!("{path}.expression"), names);
                self.block(then, &format!("{path}.then"), names);
                self.block(otherwise, &format!("{path}.else"), names);
            }
            StepKind::Loop { items, name, steps, .. } => {
                match items {
                    Value::String(text) => self.expression(text, &format!("{path}.items"), names),
                    other => self.value(other, &format!("{path}.items"), names),
                }
                let locals = names.locals.len();
                names.locals.extend([name.clone(), "index".to_owned()]);
                self.block(steps, &format!("{path}.steps"), names);
                names.locals.truncate(locals);
            }
        }
    }

    fn call_values(&mut self, call: &ApiCall, path: &str, names: &Names) {
        for (field, map) in
            [("parameters", &call.parameters), ("path", &call.path), ("query", &call.query), ("headers", &call.headers)]
        {
            for (name, value) in map {
                self.value(value, &format!("{path}.{field}.{name}"), names);
            }
        }
        if let Some(body) = &call.body {
            self.value(body, &format!("{path}.body"), names);
        }
    }

    fn value(&mut self, value: &Value, path: &str, names: &Names) {
        match value {
            Value::String(text) if expression::is_template(text) => match expression::references(text) {
                Ok(found) => self.names(found, path, names),
                Err(error) => self.faults.add(path, error.to_string()),
            },
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.value(item, &format!("{path}[{i}]"), names);
                }
            }
            Value::Object(map) => {
                for (key, item) in map {
                    self.value(item, &format!("{path}.{key}"), names);
                }
            }
            _ => {}
        }
    }

    fn expression(&mut self, text: &str, path: &str, names: &Names) {
        match expression::expression_references(text) {
            Ok(found) => self.names(found, path, names),
            Err(error) => self.faults.add(path, error.to_string()),
        }
    }

    fn names(&mut self, found: impl IntoIterator<Item = String>, path: &str, names: &Names) {
        for name in found {
            let mut parts = name.split('.');
            let fault = match (parts.next().unwrap_or_default(), parts.next()) {
                ("input", Some(field)) => match &self.inputs {
                    Some(known) if !known.iter().any(|k| k == field) => {
                        Some(format!("input.{field} is not in inputSchema.properties"))
                    }
                    _ => None,
                },
                ("steps", Some(id)) if !names.steps.iter().any(|s| s == id) => {
                    Some(format!("there is no step {id:?} before this one"))
                }
                ("steps", Some(_)) => parts
                    .next()
                    .filter(|part| !["output", "status", "headers"].contains(part))
                    .map(|part| format!("a step has output, status and headers, not {part:?}")),
                ("input" | "steps" | "execution", _) => None,
                ("secrets", _) => {
                    Some("secrets cannot be read by an expression; give the connection a credential".into())
                }
                (function, None) if expression::FUNCTIONS.contains(&function) => None,
                (local, _) if names.locals.iter().any(|l| l == local) => None,
                (other, _) => Some(format!("{other:?} is not defined here")),
            };
            if let Some(message) = fault {
                self.faults.add(path, message);
            }
        }
    }

    fn bind(&mut self, id: &str, call: &ApiCall, path: &str) {
        let Some(spec) = self.connections.get(&call.connection_id) else {
            self.faults.add(format!("{path}.connectionId"), "there is no connection with this id in the workspace");
            return;
        };
        let Some(spec) = spec else {
            match (&call.method, &call.endpoint) {
                (Some(method), Some(endpoint)) => {
                    let binding = Binding { method: method.clone(), path: endpoint.clone(), ..Binding::default() };
                    self.template_parameters(&binding, call, path);
                    self.bindings.insert(id.to_owned(), binding);
                }
                _ => self.faults.add(
                    format!("{path}.operationId"),
                    "this connection has no OpenAPI document: give method and endpoint",
                ),
            }
            return;
        };
        match find(spec, call) {
            Ok(operation) => {
                self.parameters(spec, operation, call, path);
                self.bindings.insert(id.to_owned(), binding(spec, operation));
            }
            Err((field, message)) => self.faults.add(format!("{path}.{field}"), message),
        }
    }

    /// A path template without a document: each `{name}` needs a value.
    fn template_parameters(&mut self, binding: &Binding, call: &ApiCall, path: &str) {
        for name in path_names(&binding.path) {
            if !call.path.contains_key(name) && !call.parameters.contains_key(name) {
                self.faults.add(format!("{path}.parameters.{name}"), "is required by the path");
            }
        }
    }

    fn parameters(&mut self, spec: &SpecSummary, operation: &Operation, call: &ApiCall, path: &str) {
        let given = |name: &str, location: ParameterLocation| {
            let explicit = match location {
                ParameterLocation::Path => call.path.contains_key(name),
                ParameterLocation::Query => call.query.contains_key(name),
                ParameterLocation::Header => call.headers.keys().any(|h| h.eq_ignore_ascii_case(name)),
                ParameterLocation::Cookie => false,
            };
            explicit || call.parameters.contains_key(name)
        };
        for parameter in &operation.parameters {
            let ours = parameter.location == ParameterLocation::Header
                && operation.idempotency_header() == Some(parameter.name.as_str());
            if parameter.required
                && !ours
                && !is_credential(spec, &parameter.name)
                && !given(&parameter.name, parameter.location)
            {
                self.faults.add(format!("{path}.parameters.{}", parameter.name), "is required by the operation");
            }
        }
        self.body(operation, call, path);
        for name in call.parameters.keys() {
            let known = operation.parameters.iter().any(|p| &p.name == name);
            let body = operation.request_body.as_ref();
            let open = body.is_some_and(|b| b.schema.properties.is_empty() || b.schema.truncated);
            let in_body = body.is_some_and(|b| b.schema.properties.iter().any(|p| &p.name == name));
            if !known && !open && !in_body {
                let message = format!("{} {} has no parameter of this name", operation.method, operation.path);
                self.faults.add(format!("{path}.parameters.{name}"), message);
            }
        }
    }

    fn body(&mut self, operation: &Operation, call: &ApiCall, path: &str) {
        let Some(body) = &operation.request_body else { return };
        if let Some(given) = &call.body {
            self.typed(&body.schema, given, &format!("{path}.body"));
            return;
        }
        let declared = |name: &str| operation.parameters.iter().any(|p| p.name == name);
        let in_body = call.parameters.keys().any(|name| !declared(name));
        if !body.required && !in_body {
            return;
        }
        for property in body.schema.properties.iter().filter(|p| p.required && !p.read_only) {
            if !call.parameters.contains_key(&property.name) {
                self.faults.add(format!("{path}.parameters.{}", property.name), "is required by the operation's body");
            }
        }
        for property in &body.schema.properties {
            if let Some(value) = call.parameters.get(&property.name) {
                self.typed(&property.schema, value, &format!("{path}.parameters.{}", property.name));
            }
        }
    }

    /// Literal values only: what an expression gives is known when it runs.
    fn typed(&mut self, schema: &crate::operation::Schema, value: &Value, path: &str) {
        let fits = match (schema.kind.as_str(), value) {
            (_, Value::String(text)) if expression::is_template(text) => true,
            (_, Value::Null) => true,
            ("string", v) => v.is_string() || v.is_number() || v.is_boolean(),
            ("integer", v) => v.is_i64() || v.is_u64() || v.as_str().is_some_and(|s| s.parse::<i64>().is_ok()),
            ("number", v) => v.is_number() || v.as_str().is_some_and(|s| s.parse::<f64>().is_ok()),
            ("boolean", v) => v.is_boolean() || v.as_str().is_some_and(|s| s == "true" || s == "false"),
            ("array", v) => v.is_array(),
            ("object", v) => v.is_object(),
            _ => true,
        };
        if !fits {
            self.faults.add(path, format!("must be of type {}", schema.kind));
            return;
        }
        if let Value::Object(map) = value {
            for property in &schema.properties {
                match map.get(&property.name) {
                    Some(inner) => self.typed(&property.schema, inner, &format!("{path}.{}", property.name)),
                    None if property.required && !property.read_only => {
                        self.faults.add(format!("{path}.{}", property.name), "is required");
                    }
                    None => {}
                }
            }
        }
    }
}

/// Documents often list the credential as a required parameter; the connection supplies it.
fn is_credential(spec: &SpecSummary, name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    ["token", "accesstoken", "apikey", "xapikey", "authorization"].contains(&plain.as_str())
        || spec.security_schemes.iter().any(|s| s.parameter_name.as_deref() == Some(name))
}

fn find<'a>(spec: &'a SpecSummary, call: &ApiCall) -> Result<&'a Operation, (&'static str, String)> {
    if let Some(id) = &call.operation_id {
        let operation = spec.operations.iter().find(|o| o.operation_id.as_deref() == Some(id));
        let operation = operation.ok_or_else(|| {
            ("operationId", format!("the connection's API has no operation {id:?}{}", nearest(spec, id)))
        })?;
        let other_method = call.method.as_ref().is_some_and(|m| *m != operation.method);
        let other_path = call.endpoint.as_ref().is_some_and(|e| !same_path(e, &operation.path));
        if other_method || other_path {
            return Err((
                "operationId",
                format!("{id:?} is {} {}, not what method and endpoint say", operation.method, operation.path),
            ));
        }
        return Ok(operation);
    }
    let (method, endpoint) = (call.method.as_deref().unwrap_or_default(), call.endpoint.as_deref().unwrap_or_default());
    spec.operations.iter().find(|o| o.method == method && same_path(endpoint, &o.path)).ok_or_else(|| {
        ("endpoint", format!("the connection's API has no operation {method} {endpoint}{}", nearest(spec, endpoint)))
    })
}

/// Equal but for the names in braces.
fn same_path(a: &str, b: &str) -> bool {
    let part = |s: &str| if s.starts_with('{') && s.ends_with('}') { "{}".to_owned() } else { s.to_owned() };
    a == b || (a.split('/').count() == b.split('/').count() && a.split('/').map(part).eq(b.split('/').map(part)))
}

/// A hint for a slip of the pen: the operation that shares most of its words.
fn nearest(spec: &SpecSummary, wanted: &str) -> String {
    let words = |text: &str| -> Vec<String> {
        text.to_ascii_lowercase()
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|w| w.len() > 2)
            .map(str::to_owned)
            .collect()
    };
    let wanted = words(wanted);
    let score = |o: &Operation| {
        let have = words(&format!("{} {}", o.path, o.operation_id.as_deref().unwrap_or_default()));
        wanted.iter().filter(|w| have.iter().any(|h| h.contains(w.as_str()) || w.contains(h.as_str()))).count()
    };
    let best = spec.operations.iter().max_by_key(|o| score(o)).filter(|o| score(o) > 0);
    best.map_or_else(String::new, |o| format!("; did you mean {} {}?", o.method, o.path))
}

fn binding(spec: &SpecSummary, operation: &Operation) -> Binding {
    Binding {
        method: operation.method.clone(),
        path: operation.path.clone(),
        parameters: operation.parameters.iter().map(|p| (p.name.clone(), p.location)).collect(),
        content_type: operation.request_body.as_ref().map(|b| b.content_type.clone()),
        server: operation.servers.first().cloned(),
        idempotency_header: operation.idempotency_header().map(str::to_owned),
        summary: operation.summary.clone(),
        security: security::needs(spec, operation),
        action: None,
    }
}

/// The names in braces of a path template.
pub fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}
