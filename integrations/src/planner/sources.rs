//! Steps planned so far, and which of their outputs an input can be wired from.

use domain::operation::Operation;
use serde_json::Value;

use super::{
    catalog::Catalog,
    clauses::Guard,
    matching::{has_template, output_fit},
    shape::{self, Output, Slot},
};

/// A planned call. `scope`: the loop it runs in. `filtered`: it asks for something named, not for just any list.
#[derive(Debug)]
pub struct Done<'a> {
    pub id: String,
    pub title: String,
    pub doc: usize,
    pub operation: &'a Operation,
    pub guard: Option<Guard>,
    pub scope: Option<usize>,
    pub filtered: bool,
    /// Inputs that the call needs, and how many of them are known rather than asked for.
    pub required: usize,
    pub met: usize,
    pub json: Value,
}

/// A value of an earlier step. `list`: the list it is an item's value of (empty: the output is the list).
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub step: usize,
    pub list: Option<Vec<String>>,
    pub path: Vec<String>,
    pub score: f32,
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|p| (*p).to_owned()).collect()
}

/// The best value for a slot of operation `doc` among some steps; later steps win ties, objects win over lists.
/// `wired`: steps that other inputs of the same call come from.
pub fn find<'a>(
    catalog: &Catalog,
    steps: impl DoubleEndedIterator<Item = (usize, &'a Done<'a>)>,
    slot: &Slot<'_>,
    doc: usize,
    guard: Option<&Guard>,
    wired: &[usize],
) -> Option<Source> {
    let mut best: Option<Source> = None;
    for (at, step) in steps.rev() {
        // A conditional step's output may not exist for a step under another condition.
        if step.guard.is_some() && step.guard.as_ref() != guard {
            continue;
        }
        let mut consider = |list: Option<&[&str]>, output: &Output<'_>| {
            let related = wired.contains(&at) || output.owners.iter().any(|o| catalog.mentions(doc, o));
            let score = output_fit(slot, output, related);
            if score > best.as_ref().map_or(0.0, |b| b.score) {
                best = Some(Source { step: at, list: list.map(owned), path: owned(&output.path), score });
            }
        };
        each_output(step.operation, &mut consider);
    }
    best
}

/// Whether an operation's answer holds a value for the slot, and how well it fits.
pub fn yields(catalog: &Catalog, producer: &Operation, slot: &Slot<'_>, doc: usize) -> f32 {
    let mut best = 0.0_f32;
    each_output(producer, &mut |_, output| {
        let related = output.owners.iter().any(|o| catalog.mentions(doc, o));
        best = best.max(output_fit(slot, output, related));
    });
    best
}

fn each_output(operation: &Operation, consider: &mut dyn FnMut(Option<&[&str]>, &Output<'_>)) {
    let Some(schema) = shape::success_schema(operation) else { return };
    for output in shape::outputs(schema, &shape::entity(operation)) {
        consider(None, &output);
    }
    for list in shape::lists(operation) {
        for output in shape::outputs(list.item, &list.owners) {
            consider(Some(&list.path), &output);
        }
    }
}

/// `base` with a path after it: `.name` where that is an identifier, `["first-name"]` elsewhere.
pub fn dotted(base: &str, path: &[String]) -> String {
    let mut out = base.to_owned();
    for part in path {
        let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if plain {
            out.push('.');
            out.push_str(part);
        } else {
            out.push_str(&format!("[{}]", Value::String(part.clone())));
        }
    }
    out
}

/// A property whose name would end or open a template can't be written in one.
pub fn writable(path: &[String]) -> bool {
    !path.iter().any(|p| has_template(p))
}

/// The value that is this one expression.
pub fn template(expression: &str) -> Value {
    Value::String(format!("{{{{ {expression} }}}}"))
}
