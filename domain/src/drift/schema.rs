//! Two versions of a schema, as a sender or as a reader sees them.

use serde_json::Value;

use super::Found;
use crate::operation::{Property, Schema};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A parameter or a request body: what was good to send must stay good.
    Sent,
    /// A response: what was there to read must stay there.
    Read,
}

pub(super) fn compare(side: Side, old: &Schema, new: &Schema, place: &str, found: &mut Found<'_>) {
    if !kinds(side, old, new, place, found) {
        return;
    }
    if old.format != new.format && !old.truncated && !new.truncated {
        let shown = |s: &Schema| s.format.clone().map_or_else(|| "none".to_owned(), |f| format!("`{f}`"));
        found.notes(place, format!("has the format {}, not {}", shown(new), shown(old)));
    }
    match (old.nullable, new.nullable) {
        (true, false) => found.add(side == Side::Sent, place, "may no longer be null"),
        (false, true) => found.add(side == Side::Read, place, "may now be null"),
        _ => {}
    }
    choices(side, old, new, place, found);
    properties(side, old, new, place, found);
    if let (Some(before), Some(now)) = (&old.items, &new.items) {
        compare(side, before, now, &format!("{place}, each item,"), found);
    }
}

/// `false`: it is something else by now, and nothing in it can be compared.
fn kinds(side: Side, old: &Schema, new: &Schema, place: &str, found: &mut Found<'_>) -> bool {
    let (before, now) = (old.kind.as_str(), new.kind.as_str());
    if before == now {
        return true;
    }
    let (narrower, wider) = (side == Side::Sent, side == Side::Read);
    match (before, now) {
        // What was left out is not known to differ.
        ("", _) | (_, "") if old.truncated || new.truncated => {}
        ("", now) => found.add(narrower, place, format!("must now be {now}")),
        (before, "") => found.add(wider, place, format!("may now be of any type, not {before} only")),
        ("number", "integer") => found.add(narrower, place, "is no longer number but integer"),
        ("integer", "number") => found.add(wider, place, "is no longer integer but number"),
        (before, now) => {
            found.breaks(place, format!("is no longer {before} but {now}"));
            return false;
        }
    }
    true
}

fn choices(side: Side, old: &Schema, new: &Schema, place: &str, found: &mut Found<'_>) {
    if old.truncated || new.truncated {
        return;
    }
    let missing = |from: &[Value], of: &[Value]| -> Vec<Value> {
        of.iter().filter(|value| !from.contains(value)).cloned().collect()
    };
    match (old.choices.is_empty(), new.choices.is_empty()) {
        (true, false) => found.add(side == Side::Sent, place, format!("must now be one of {}", list(&new.choices))),
        (false, true) => found.notes(place, "is no longer one of some values only"),
        (false, false) => {
            let (gone, added) = (missing(&new.choices, &old.choices), missing(&old.choices, &new.choices));
            if !gone.is_empty() {
                found.add(side == Side::Sent, place, format!("can no longer be {}", list(&gone)));
            }
            if !added.is_empty() {
                found.notes(place, format!("can now also be {}", list(&added)));
            }
        }
        (true, true) => {}
    }
}

fn list(values: &[Value]) -> String {
    let mut shown: Vec<String> = values.iter().take(10).map(|value| format!("`{value}`")).collect();
    if values.len() > shown.len() {
        shown.push(format!("{} more", values.len() - shown.len()));
    }
    shown.join(", ")
}

fn properties(side: Side, old: &Schema, new: &Schema, place: &str, found: &mut Found<'_>) {
    // What the server alone fills in is nothing to send.
    let counts = |p: &&Property| side == Side::Read || !p.read_only;
    let label = |p: &Property| format!("{place}, property `{}`", p.name);
    for property in new.properties.iter().filter(counts) {
        let label = label(property);
        match old.properties.iter().find(|p| p.name == property.name) {
            None if old.truncated => {}
            None if side == Side::Sent && property.required => found.breaks(&label, "is new and required"),
            None => found.notes(&label, "is new"),
            Some(before) => {
                match (before.required, property.required) {
                    (false, true) => found.add(side == Side::Sent, &label, "is now required"),
                    (true, false) if side == Side::Sent => found.notes(&label, "is no longer required"),
                    (true, false) => found.breaks(&label, "may now be absent"),
                    _ => {}
                }
                compare(side, &before.schema, &property.schema, &label, found);
            }
        }
    }
    for property in old.properties.iter().filter(counts) {
        if !new.truncated && new.properties.iter().all(|p| p.name != property.name) {
            found.add(side == Side::Read, &label(property), "is gone");
        }
    }
}
