//! What changed between two versions of a document, and which of it can break a workflow.

use std::collections::{HashMap, HashSet};

use domain::operation::{Operation, Parameter, Schema, SecurityRequirement, SpecSummary};
use serde::{Deserialize, Serialize};

/// Operations are written `GET /customers/{id}`; each line of `breaking` begins with one and says why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecDiff {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Anything differs, descriptions included.
    pub changed: Vec<String>,
    pub breaking: Vec<String>,
}

/// Compares by method and path, in document order.
pub fn operations_diff(old: &SpecSummary, new: &SpecSummary) -> SpecDiff {
    let (before, after) = (by_name(old), by_name(new));
    let mut diff = SpecDiff::default();
    for operation in &old.operations {
        let name = name(operation);
        match after.get(&name) {
            None => {
                diff.breaking.push(format!("{name}: the operation is gone"));
                diff.removed.push(name);
            }
            Some(now) if *now != operation => {
                let auth = |o: &Operation, s: &SpecSummary| {
                    let ways = o.security.as_ref().unwrap_or(&s.security);
                    ways.is_empty() || ways.iter().any(SecurityRequirement::is_anonymous)
                };
                let mut reasons = breaks(operation, now);
                if auth(operation, old) && !auth(now, new) {
                    reasons.push("authorisation is now required".to_string());
                }
                diff.breaking.extend(reasons.into_iter().map(|reason| format!("{name}: {reason}")));
                diff.changed.push(name);
            }
            Some(_) => {}
        }
    }
    diff.added = new.operations.iter().map(name).filter(|name| !before.contains_key(name)).collect();
    diff
}

fn name(operation: &Operation) -> String {
    format!("{} {}", operation.method, operation.path)
}

fn by_name(summary: &SpecSummary) -> HashMap<String, &Operation> {
    summary.operations.iter().map(|o| (name(o), o)).collect()
}

/// Why callers of the old operation may fail against the new one.
fn breaks(old: &Operation, new: &Operation) -> Vec<String> {
    let mut reasons = Vec::new();
    for parameter in &new.parameters {
        let place = format!("{:?}", parameter.location).to_lowercase();
        let label = format!("the {place} parameter `{}`", parameter.name);
        match same_parameter(&old.parameters, parameter) {
            None if parameter.required => reasons.push(format!("{label} is new and required")),
            Some(before) if parameter.required && !before.required => reasons.push(format!("{label} is now required")),
            _ => {}
        }
        if let Some(before) = same_parameter(&old.parameters, parameter) {
            input_breaks(&before.schema, &parameter.schema, &label, &mut reasons);
        }
    }
    match (&old.request_body, &new.request_body) {
        (None, Some(body)) if body.required => reasons.push("a request body is now required".to_string()),
        (Some(_), None) => reasons.push("the request body is gone".to_string()),
        (Some(before), Some(body)) => {
            if body.required && !before.required {
                reasons.push("the request body is now required".to_string());
            }
            if body.content_type != before.content_type {
                let (from, to) = (&before.content_type, &body.content_type);
                reasons.push(format!("the request body is no longer `{from}` but `{to}`"));
            }
            input_breaks(&before.schema, &body.schema, "the request body", &mut reasons);
        }
        _ => {}
    }
    response_breaks(old, new, &mut reasons);
    reasons
}

fn same_parameter<'a>(all: &'a [Parameter], wanted: &Parameter) -> Option<&'a Parameter> {
    all.iter().find(|p| p.name == wanted.name && p.location == wanted.location)
}

/// A sender must not have to send more, or otherwise.
fn input_breaks(old: &Schema, new: &Schema, label: &str, reasons: &mut Vec<String>) {
    if type_differs(old, new) {
        reasons.push(format!("{label} is no longer {} but {}", old.kind, new.kind));
        return;
    }
    if !new.choices.is_empty() && !new.truncated && old.choices.iter().any(|c| !new.choices.contains(c)) {
        reasons.push(format!("{label} allows fewer values"));
    }
    for property in &new.properties {
        let label = format!("{label}, property `{}`,", property.name);
        match old.properties.iter().find(|p| p.name == property.name) {
            None if property.required && !old.truncated => reasons.push(format!("{label} is new and required")),
            None => {}
            Some(before) => {
                if property.required && !before.required {
                    reasons.push(format!("{label} is now required"));
                }
                input_breaks(&before.schema, &property.schema, &label, reasons);
            }
        }
    }
    if let (Some(before), Some(now)) = (&old.items, &new.items) {
        input_breaks(before, now, &format!("{label}, each item,"), reasons);
    }
}

fn response_breaks(old: &Operation, new: &Operation, reasons: &mut Vec<String>) {
    let statuses: HashSet<&str> = new.responses.iter().map(|r| r.status.as_str()).collect();
    for response in old.responses.iter().filter(|r| r.status.starts_with('2')) {
        if !statuses.contains(response.status.as_str()) {
            reasons.push(format!("the response {} is gone", response.status));
        }
    }
    for response in old.responses.iter().filter(|r| r.status.starts_with('2')) {
        let Some(now) = new.responses.iter().find(|r| r.status == response.status) else { continue };
        let label = format!("the response {}", response.status);
        match (&response.schema, &now.schema) {
            (Some(before), Some(now)) => output_breaks(before, now, &label, reasons),
            (Some(_), None) => reasons.push(format!("{label} has no schema any more")),
            _ => {}
        }
    }
}

/// A reader must find again what it reads.
fn output_breaks(old: &Schema, new: &Schema, label: &str, reasons: &mut Vec<String>) {
    if type_differs(old, new) {
        reasons.push(format!("{label} is no longer {} but {}", old.kind, new.kind));
        return;
    }
    for property in &old.properties {
        let label = format!("{label}, property `{}`,", property.name);
        match new.properties.iter().find(|p| p.name == property.name) {
            None if !new.truncated => reasons.push(format!("{label} is gone")),
            None => {}
            Some(now) => output_breaks(&property.schema, &now.schema, &label, reasons),
        }
    }
    if let (Some(before), Some(now)) = (&old.items, &new.items) {
        output_breaks(before, now, &format!("{label}, each item,"), reasons);
    }
}

/// Both say their type and it is another one. An integer is a number to its reader, so widening is left alone.
fn type_differs(old: &Schema, new: &Schema) -> bool {
    let numeric = |s: &Schema| matches!(s.kind.as_str(), "integer" | "number");
    let known = !old.kind.is_empty() && !new.kind.is_empty();
    let alike = old.kind == new.kind || (numeric(old) && numeric(new));
    known && !alike
}
