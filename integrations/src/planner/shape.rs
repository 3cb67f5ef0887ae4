//! What an operation takes and gives, in the planner's terms: slots to fill, values and lists to wire from, and the
//! thing ("entity") it is about.

use domain::operation::{Operation, ParameterLocation, Schema};

use super::{
    lexicon::is_stop_word,
    text::{stem, words},
};

/// How deep into a response values are offered for wiring.
const OUTPUT_DEPTH: usize = 3;
/// How many values of one response are looked at.
const MAX_OUTPUTS: usize = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Path,
    Query,
    Header,
    Cookie,
    Body,
}

/// An input of an operation. `before`: the words of the static path segment in front of a path parameter; for
/// other places those of the path's last static segment, which is what a bare `id` or `ids` there is about.
#[derive(Debug, Clone)]
pub struct Slot<'a> {
    pub name: &'a str,
    pub place: Place,
    pub required: bool,
    pub schema: &'a Schema,
    pub description: Option<&'a str>,
    pub before: Vec<String>,
}

impl Slot<'_> {
    pub fn words(&self) -> Vec<String> {
        words(self.name)
    }

    /// The stem of the thing this slot identifies: `custom` of `customerId`, or of `/customers/{id}`.
    /// `Some("")` for an id of the operation's own kind, `None` when the slot is no id.
    pub fn identifies(&self) -> Option<String> {
        let words = self.words();
        match words.as_slice() {
            [one] if is_id_word(one) => Some(self.before.last().map(|w| stem(w)).unwrap_or_default()),
            [.., owner, last] if is_id_word(last) => Some(stem(owner)),
            // `/issues/{issue_number}`.
            [.., owner, last] if last == "number" && self.place == Place::Path => Some(stem(owner)),
            // `/pets/{pet}`, `/users/{username}`, `/repos/{owner}/{repo}`: a path names what stands before it.
            [one] if self.place == Place::Path => match self.before.last() {
                Some(before) if stem(before) == stem(one) || stem(before).starts_with(one.as_str()) => Some(stem(one)),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Slot<'_> {
    /// A path parameter that takes the thing's name, not its id: the document says so (`/repos/{repo}`).
    pub fn takes_name(&self) -> bool {
        let last = self.words().pop().unwrap_or_default();
        self.place == Place::Path
            && !is_id_word(&last)
            && self.description.is_some_and(|d| words(d).iter().any(|w| w == "name"))
    }
}

pub fn is_id_word(word: &str) -> bool {
    matches!(word, "id" | "ids" | "uuid" | "guid" | "key" | "slug" | "uid" | "gid" | "sid")
}

/// Static segments of a path template as words; parameters and version segments are left out.
pub fn path_words(path: &str) -> Vec<Vec<String>> {
    path.split('/')
        .filter(|s| !s.is_empty() && !s.contains('{') && !is_version(s))
        .map(words)
        .filter(|w| !w.is_empty())
        .collect()
}

fn is_version(segment: &str) -> bool {
    segment == "api"
        || segment.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// Everything an operation takes, required or not: path, query, header and cookie parameters, then the body's
/// properties. Authorisation, content negotiation and idempotency are the executor's business.
pub fn slots(operation: &Operation) -> Vec<Slot<'_>> {
    let mut out: Vec<Slot<'_>> = Vec::new();
    let own = path_words(&operation.path).pop().unwrap_or_default();
    for parameter in &operation.parameters {
        let place = match parameter.location {
            ParameterLocation::Path => Place::Path,
            ParameterLocation::Query => Place::Query,
            ParameterLocation::Header => Place::Header,
            ParameterLocation::Cookie => Place::Cookie,
        };
        let lower = parameter.name.to_ascii_lowercase();
        if place == Place::Header
            && matches!(
                lower.as_str(),
                "authorization" | "accept" | "content-type" | "idempotency-key" | "x-idempotency-key"
            )
        {
            continue;
        }
        // A credential that is documented as a parameter is the vault's to give, never a step's or a run's.
        let about = parameter.description.as_deref().unwrap_or_default().to_ascii_lowercase();
        let secret = lower.contains("token")
            || lower.contains("api_key")
            || lower.contains("apikey")
            || lower.contains("api-key");
        if place != Place::Path
            && secret
            && (lower != "token" || about.contains("authenti") || about.contains("authori"))
        {
            continue;
        }
        out.push(Slot {
            name: &parameter.name,
            place,
            required: parameter.required || place == Place::Path,
            schema: &parameter.schema,
            description: parameter.description.as_deref(),
            before: if place == Place::Path { segment_before(&operation.path, &parameter.name) } else { own.clone() },
        });
    }
    out.extend(body_slots(operation, &own));
    out
}

/// Is this an input that a step can't do without, given what its schema says?
pub fn is_missing_without(slot: &Slot<'_>) -> bool {
    slot.required && slot.schema.default_value.is_none()
}

fn body_slots<'a>(operation: &'a Operation, own: &[String]) -> Vec<Slot<'a>> {
    let Some(body) = &operation.request_body else { return Vec::new() };
    let properties = &body.schema.properties;
    // Many documents mark nothing as required. A body that is, needs at least what such a message always has.
    let unmarked = !properties.iter().any(|p| p.required);
    properties
        .iter()
        .filter(|p| !p.read_only)
        .map(|p| Slot {
            name: &p.name,
            place: Place::Body,
            required: p.required || (unmarked && body.required && is_principal(&p.name)),
            schema: &p.schema,
            description: p.schema.description.as_deref(),
            before: own.to_vec(),
        })
        .collect()
}

fn is_principal(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "to" | "recipient" | "subject" | "text" | "message" | "content" | "title" | "name"
    )
}

fn segment_before(path: &str, parameter: &str) -> Vec<String> {
    let holder = format!("{{{parameter}}}");
    let segments: Vec<&str> = path.split('/').collect();
    let Some(at) = segments.iter().position(|s| s.contains(&holder)) else { return Vec::new() };
    segments[..at].iter().rev().find(|s| !s.is_empty() && !s.contains('{')).map(|s| words(s)).unwrap_or_default()
}

/// A value in a response. `owners` are stems of the things it belongs to: schema name and parent property.
#[derive(Debug, Clone)]
pub struct Output<'a> {
    pub path: Vec<&'a str>,
    pub schema: &'a Schema,
    pub owners: Vec<String>,
}

/// A list in a response: where it is and what it holds. An empty path: the response itself is the list.
#[derive(Debug, Clone)]
pub struct ListOutput<'a> {
    pub path: Vec<&'a str>,
    pub item: &'a Schema,
    pub owners: Vec<String>,
}

pub fn success_schema(operation: &Operation) -> Option<&Schema> {
    operation.success_response().and_then(|r| r.schema.as_ref())
}

/// Stems of a schema's component name; `list`, `result`, `object` and the like name no thing.
pub fn schema_stems(schema: &Schema) -> Vec<String> {
    let generic = |w: &str| {
        matches!(
            w,
            "list"
                | "result"
                | "results"
                | "object"
                | "response"
                | "page"
                | "paged"
                | "paging"
                | "collection"
                | "simple"
                | "simplified"
                | "summary"
                | "details"
                | "info"
                | "data"
                | "model"
                | "dto"
                | "base"
                | "full"
                | "item"
                | "items"
        )
    };
    let name = schema.name.as_deref().unwrap_or_default();
    let all = words(name);
    let kept: Vec<String> = all.iter().filter(|w| !generic(w)).map(|w| stem(w)).collect();
    if kept.is_empty() { all.iter().map(|w| stem(w)).collect() } else { kept }
}

/// Stems of what an operation is about: the last static path segment that names a thing.
pub fn entity(operation: &Operation) -> Vec<String> {
    path_words(&operation.path).last().map(|w| w.iter().map(|w| stem(w)).collect()).unwrap_or_default()
}

/// Plain values of a schema, objects opened, lists not. Owners of the top level come from the caller.
pub fn outputs<'a>(schema: &'a Schema, owners: &[String]) -> Vec<Output<'a>> {
    let mut out = Vec::new();
    collect_outputs(schema, &mut Vec::new(), owners, &mut out);
    out
}

fn collect_outputs<'a>(schema: &'a Schema, path: &mut Vec<&'a str>, owners: &[String], out: &mut Vec<Output<'a>>) {
    let mut mine = schema_stems(schema);
    for owner in owners {
        if !mine.contains(owner) {
            mine.push(owner.clone());
        }
    }
    for property in &schema.properties {
        if out.len() >= MAX_OUTPUTS {
            return;
        }
        path.push(&property.name);
        if property.schema.properties.is_empty() {
            if property.schema.kind != "array" {
                out.push(Output { path: path.clone(), schema: &property.schema, owners: mine.clone() });
            }
        } else if path.len() < OUTPUT_DEPTH {
            // What lies in `customer` belongs to the customer; in `data` or `result` to whoever was asked for.
            let named: Vec<String> =
                words(&property.name).iter().filter(|w| !is_envelope(w)).map(|w| stem(w)).collect();
            let inherited = if named.is_empty() { mine.clone() } else { named };
            collect_outputs(&property.schema, path, &inherited, out);
        }
        path.pop();
    }
}

fn is_envelope(word: &str) -> bool {
    is_stop_word(word)
        || matches!(
            word,
            "data" | "result" | "results" | "response" | "payload" | "body" | "attributes" | "item" | "items"
        )
}

/// Lists of objects (or of plain values) in a response, to two properties deep, in document order.
pub fn lists<'a>(operation: &'a Operation) -> Vec<ListOutput<'a>> {
    let Some(schema) = success_schema(operation) else { return Vec::new() };
    let owners = entity(operation);
    if let Some(item) = list_item(schema) {
        let mut all = schema_stems(item);
        all.extend(owners);
        return vec![ListOutput { path: Vec::new(), item, owners: all }];
    }
    let mut out = Vec::new();
    for property in &schema.properties {
        if let Some(item) = list_item(&property.schema) {
            out.push(ListOutput {
                path: vec![&property.name],
                item,
                owners: list_owners(&property.name, item, &owners),
            });
            continue;
        }
        for inner in &property.schema.properties {
            if let Some(item) = list_item(&inner.schema) {
                let outer: Vec<String> =
                    words(&property.name).iter().filter(|w| !is_envelope(w)).map(|w| stem(w)).collect();
                let owners = if outer.is_empty() {
                    list_owners(&inner.name, item, &owners)
                } else {
                    list_owners(&inner.name, item, &outer)
                };
                out.push(ListOutput { path: vec![&property.name, &inner.name], item, owners });
            }
        }
    }
    out
}

fn list_item(schema: &Schema) -> Option<&Schema> {
    schema.items.as_deref().filter(|_| schema.kind == "array" || schema.kind.is_empty())
}

fn list_owners(property: &str, item: &Schema, operation: &[String]) -> Vec<String> {
    let mut owners = schema_stems(item);
    let named: Vec<String> = words(property).iter().filter(|w| !is_envelope(w)).map(|w| stem(w)).collect();
    if named.is_empty() || owners.is_empty() {
        owners.extend(operation.iter().cloned());
    }
    owners.extend(named);
    owners
}

/// The words of an operation's human name: summary, else id, else method and path.
pub fn title(operation: &Operation) -> String {
    let summary = operation.summary.as_deref().map(str::trim).filter(|s| !s.is_empty());
    summary
        .or(operation.operation_id.as_deref())
        .map(str::to_owned)
        .unwrap_or_else(|| format!("{} {}", operation.method, operation.path))
}
