//! What changed between two versions of a document, and which of it can break those who call it.
//!
//! Operations are compared by method and path. Each change names its operation and its place, and says whether it breaks:
//! a caller must not have to send more or otherwise than before, and a reader must find again what it reads. Schemas are
//! summaries; what they leave out (`truncated`) is not compared.

mod schema;
mod security;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use self::schema::Side;
use crate::operation::{Operation, Parameter, RequestBody, Response, SpecSummary};

/// Changes kept; beyond them they are only counted.
const KEPT: usize = 5_000;

/// One change. As a sentence: `GET /customers: query parameter `limit` is now required (breaking)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecChange {
    /// `GET /customers/{id}`; `document` for what belongs to no operation.
    pub operation: String,
    /// `query parameter `limit``, `response 200, property `email``.
    pub place: String,
    /// `is now required`.
    pub what: String,
    pub breaking: bool,
}

impl fmt::Display for SpecChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.breaking { "breaking" } else { "not breaking" };
        write!(f, "{}: {} {} ({verdict})", self.operation, self.place, self.what)
    }
}

/// Operations are written `GET /customers/{id}`, in document order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drift {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Anything differs, descriptions included.
    pub changed: Vec<String>,
    /// Removed, or changed in what callers send or get: their workflows are affected.
    pub touched: Vec<String>,
    /// Breaking ones first; at most 5,000.
    pub details: Vec<SpecChange>,
    pub detail_count: usize,
    pub breaking_count: usize,
}

/// The changes of one operation.
struct Found<'a> {
    operation: &'a str,
    changes: Vec<SpecChange>,
}

impl Found<'_> {
    fn add(&mut self, breaking: bool, place: &str, what: impl Into<String>) {
        let (operation, place) = (self.operation.to_owned(), place.to_owned());
        self.changes.push(SpecChange { operation, place, what: what.into(), breaking });
    }

    fn breaks(&mut self, place: &str, what: impl Into<String>) {
        self.add(true, place, what);
    }

    fn notes(&mut self, place: &str, what: impl Into<String>) {
        self.add(false, place, what);
    }
}

pub fn compare(old: &SpecSummary, new: &SpecSummary) -> Drift {
    let (before, after) = (by_name(old), by_name(new));
    let comers = Comers::of(new, &before);
    let mut drift = Drift::default();
    let mut changes = document(old, new);
    for operation in first_of_each(old) {
        let name = name(operation);
        let mut found = Found { operation: &name, changes: Vec::new() };
        let now = after.get(&name).copied();
        match now {
            None => {
                match comers.same_as(operation) {
                    Some(now) => found.breaks("the operation", format!("is now {}", self::name(now))),
                    None => found.breaks("the operation", "is gone"),
                }
                drift.removed.push(name.clone());
            }
            Some(now) => {
                operations(operation, now, &mut found);
                security::compare((operation, old), (now, new), &mut found);
            }
        }
        if !found.changes.is_empty() {
            drift.touched.push(name.clone());
        } else if now.is_some_and(|now| now != operation) {
            found.notes("the operation", "has other texts, examples or tags");
        }
        changes.append(&mut found.changes);
        if now.is_some() && changes.last().is_some_and(|c| c.operation == name) {
            drift.changed.push(name);
        }
    }
    drift.added = first_of_each(new).map(name).filter(|name| !before.contains_key(name)).collect();
    changes.extend(drift.added.iter().map(|name| {
        let (place, what) = ("the operation".to_owned(), "is new".to_owned());
        SpecChange { operation: name.clone(), place, what, breaking: false }
    }));
    drift.detail_count = changes.len();
    drift.breaking_count = changes.iter().filter(|c| c.breaking).count();
    changes.sort_by_key(|c| !c.breaking);
    changes.truncate(KEPT);
    drift.details = changes;
    drift
}

fn name(operation: &Operation) -> String {
    format!("{} {}", operation.method, operation.path)
}

fn by_name(summary: &SpecSummary) -> HashMap<String, &Operation> {
    first_of_each(summary).map(|o| (name(o), o)).collect()
}

/// A document may name the same operation twice; the first counts.
fn first_of_each(summary: &SpecSummary) -> impl Iterator<Item = &Operation> {
    let mut seen = HashSet::new();
    summary.operations.iter().filter(move |o| seen.insert((o.method.as_str(), o.path.as_str())))
}

/// Operations that were not there before, by what shows that one was there under another name: its operationId, or its
/// method and its path but for the parameters' names. Of several, the first in the document counts.
struct Comers<'a> {
    operations: &'a [Operation],
    by_id: HashMap<&'a str, usize>,
    by_shape: HashMap<(&'a str, String), usize>,
}

impl<'a> Comers<'a> {
    fn of(new: &'a SpecSummary, before: &HashMap<String, &Operation>) -> Self {
        let mut comers = Self { operations: &new.operations, by_id: HashMap::new(), by_shape: HashMap::new() };
        for (index, operation) in new.operations.iter().enumerate() {
            if before.contains_key(&name(operation)) {
                continue;
            }
            if let Some(id) = &operation.operation_id {
                comers.by_id.entry(id).or_insert(index);
            }
            comers.by_shape.entry((&operation.method, shape(&operation.path))).or_insert(index);
        }
        comers
    }

    fn same_as(&self, old: &Operation) -> Option<&'a Operation> {
        let by_id = old.operation_id.as_deref().and_then(|id| self.by_id.get(id));
        let by_shape = self.by_shape.get(&(old.method.as_str(), shape(&old.path)));
        let first = by_id.into_iter().chain(by_shape).min()?;
        self.operations.get(*first)
    }
}

fn shape(path: &str) -> String {
    let bare = |part| if str::starts_with(part, '{') && part.ends_with('}') { "{}" } else { part };
    path.split('/').map(bare).collect::<Vec<_>>().join("/")
}

fn document(old: &SpecSummary, new: &SpecSummary) -> Vec<SpecChange> {
    let mut found = Found { operation: "document", changes: Vec::new() };
    let first = |s: &SpecSummary| s.servers.first().cloned().unwrap_or_else(|| "/".to_owned());
    if first(old) != first(new) {
        let what = format!("is now `{}`, not `{}`: requests go there unless baseUrl is set", first(new), first(old));
        found.notes("the first server", what);
    }
    found.changes
}

fn operations(old: &Operation, new: &Operation, found: &mut Found<'_>) {
    parameters(&old.parameters, &new.parameters, found);
    request_body(old.request_body.as_ref(), new.request_body.as_ref(), found);
    for response in &old.responses {
        let now = new.responses.iter().find(|r| r.status == response.status);
        answer(response, now, found);
    }
    for response in new.responses.iter().filter(|n| old.responses.iter().all(|o| o.status != n.status)) {
        found.notes(&format!("response {}", response.status), "is new");
    }
    if new.deprecated && !old.deprecated {
        found.notes("the operation", "is now deprecated");
    }
    if let (Some(before), Some(now)) = (&old.operation_id, &new.operation_id)
        && before != now
    {
        found.notes("operationId", format!("is no longer `{before}` but `{now}`"));
    }
    if old.servers != new.servers {
        found.notes("the operation's own servers", "are others");
    }
}

fn parameters(old: &[Parameter], new: &[Parameter], found: &mut Found<'_>) {
    let place = |p: &Parameter| format!("{} parameter `{}`", place_of(p), p.name);
    let same = |a: &Parameter, b: &Parameter| a.name == b.name && a.location == b.location;
    for parameter in new {
        let label = place(parameter);
        if let Some(before) = old.iter().find(|o| same(o, parameter)) {
            match (before.required, parameter.required) {
                (false, true) => found.breaks(&label, "is now required"),
                (true, false) => found.notes(&label, "is no longer required"),
                _ => {}
            }
            schema::compare(Side::Sent, &before.schema, &parameter.schema, &label, found);
            continue;
        }
        let elsewhere = old.iter().find(|o| o.name == parameter.name && !new.iter().any(|n| same(n, o)));
        match elsewhere {
            Some(before) => found.breaks(&label, format!("was a {} parameter before", place_of(before))),
            None if parameter.required => found.breaks(&label, "is new and required"),
            None => found.notes(&label, "is new"),
        }
    }
    for parameter in old.iter().filter(|o| new.iter().all(|n| n.name != o.name)) {
        found.notes(&place(parameter), "is gone");
    }
}

fn place_of(parameter: &Parameter) -> String {
    format!("{:?}", parameter.location).to_lowercase()
}

fn request_body(old: Option<&RequestBody>, new: Option<&RequestBody>, found: &mut Found<'_>) {
    const PLACE: &str = "the request body";
    match (old, new) {
        (None, Some(body)) if body.required => found.breaks(PLACE, "is new and required"),
        (None, Some(_)) => found.notes(PLACE, "is new"),
        (Some(_), None) => found.breaks(PLACE, "is gone"),
        (Some(before), Some(now)) => {
            match (before.required, now.required) {
                (false, true) => found.breaks(PLACE, "is now required"),
                (true, false) => found.notes(PLACE, "is no longer required"),
                _ => {}
            }
            if before.content_type != now.content_type {
                found.breaks(PLACE, format!("is no longer `{}` but `{}`", before.content_type, now.content_type));
            }
            schema::compare(Side::Sent, &before.schema, &now.schema, PLACE, found);
        }
        (None, None) => {}
    }
}

/// Steps read what an operation answers when all went well; of other answers it is only told that they differ.
fn answer(old: &Response, new: Option<&Response>, found: &mut Found<'_>) {
    let place = format!("response {}", old.status);
    let is_read = old.status.starts_with('2') || old.status == "default";
    let Some(new) = new else {
        return found.add(old.status.starts_with('2'), &place, "is gone");
    };
    if let (Some(before), Some(now)) = (&old.content_type, &new.content_type)
        && before != now
    {
        found.add(is_read, &place, format!("is no longer `{before}` but `{now}`"));
    }
    match (&old.schema, &new.schema) {
        (Some(before), Some(now)) if is_read => schema::compare(Side::Read, before, now, &place, found),
        (Some(before), Some(now)) if before != now => found.notes(&place, "has another schema"),
        (Some(_), None) => found.add(is_read, &place, "has no schema any more"),
        (None, Some(_)) => found.notes(&place, "has a schema now"),
        _ => {}
    }
}
