//! What all readers of a document's parts share: the table, its references, warnings and the size budget.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::time::Instant;

use domain::operation::SpecProblem;

use super::Limits;
use super::index::Index;
use super::refs::{Files, Refs};
use super::tape::{Doc, Id, ROOT};

/// Longest text kept of a description.
pub const LONG: usize = 1_000;
/// Longest text kept of a summary, a title, a schema's description.
pub const SHORT: usize = 200;
/// The clock is asked once for so many bookings.
const CLOCK_EVERY: u32 = 1_024;
/// Names longer than this are dropped: no API has them, and they would let a small document unfold.
pub const MAX_NAME: usize = 512;

pub struct Context<'d, 'a> {
    pub doc: &'d Doc<'a>,
    pub refs: Refs<'d, 'a>,
    pub limits: &'d Limits,
    /// Swagger 2.0.
    pub v2: bool,
    spent: Cell<usize>,
    until: Instant,
    bookings: Cell<u32>,
    late: Cell<bool>,
    warnings: RefCell<Warnings>,
}

#[derive(Default)]
struct Warnings {
    kept: Vec<SpecProblem>,
    dropped: usize,
    seen: HashSet<(Id, String)>,
}

impl<'d, 'a> Context<'d, 'a> {
    /// `until`: when reading must have ended.
    pub fn new(
        doc: &'d Doc<'a>,
        (index, files): (&'d Index, &'d Files),
        limits: &'d Limits,
        v2: bool,
        until: Instant,
    ) -> Self {
        let (spent, bookings, late, warnings) = (Cell::new(0), Cell::new(0), Cell::new(false), RefCell::default());
        Context { doc, refs: Refs::new(doc, index, files), limits, v2, spent, until, bookings, late, warnings }
    }

    /// Books about so many bytes of result or steps of work.
    pub fn charge(&self, cost: usize) {
        self.spent.set(self.spent.get().saturating_add(cost));
        let bookings = self.bookings.get().wrapping_add(1);
        self.bookings.set(bookings);
        if bookings.is_multiple_of(CLOCK_EVERY) && Instant::now() > self.until {
            self.late.set(true);
        }
    }

    /// The document unfolds to more than may be kept, or takes too long: loops stop, and `document` refuses it.
    pub fn exhausted(&self) -> bool {
        self.late.get() || self.spent.get() > self.limits.max_summary_bytes
    }

    /// The time is up.
    pub fn late(&self) -> bool {
        self.late.get()
    }

    /// Half of the budget is gone: schemas are kept by name and type only from here on.
    pub fn scarce(&self) -> bool {
        self.spent.get() > self.limits.max_summary_bytes / 2
    }

    pub fn warn(&self, at: Id, message: impl Into<String>) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.kept.len() >= self.limits.max_warnings {
            warnings.dropped += 1;
            return;
        }
        // A shared part is read once for each place that refers to it.
        let message = message.into();
        if warnings.seen.insert((at, message.clone())) {
            warnings.kept.push(SpecProblem { pointer: self.doc.pointer(at), message });
        }
    }

    /// The warnings in the order found, after those about references that lead nowhere.
    pub fn into_warnings(self) -> Vec<SpecProblem> {
        for (site, text, why) in self.refs.broken() {
            self.warn(site, format!("the reference `{}` {why}", clip(text, SHORT)));
        }
        let Warnings { mut kept, dropped, .. } = self.warnings.into_inner();
        if dropped > 0 {
            let message = format!("{dropped} more warnings are not listed");
            kept.push(SpecProblem { pointer: String::new(), message });
        }
        kept
    }

    /// A member as text, numbers and booleans included; blank counts as missing. Long texts are often kept in a file of
    /// their own, though no version of OpenAPI allows it.
    pub fn text(&self, id: Id, key: &str) -> Option<&'d str> {
        let doc: &'d Doc<'a> = self.doc;
        let value = doc.get(id, key)?;
        let value = if doc.is_object(value) { self.refs.follow(value)? } else { value };
        doc.scalar(value).map(str::trim).filter(|t| !t.is_empty())
    }

    pub fn clipped(&self, id: Id, key: &str, max: usize) -> Option<String> {
        self.text(id, key).map(|text| self.keep(text, max))
    }

    /// A copy of at most `max` characters, booked.
    pub fn keep(&self, text: &str, max: usize) -> String {
        let text = clip(text, max);
        self.charge(text.len());
        text
    }

    pub fn flag(&self, id: Id, key: &str) -> bool {
        self.doc.get(id, key).and_then(|v| self.doc.boolean(v)).unwrap_or(false)
    }

    /// The member, its `$ref` followed; where that fails (reported elsewhere) there is none.
    pub fn part(&self, id: Id, key: &str) -> Option<Id> {
        self.doc.get(id, key).and_then(|v| self.refs.follow(v))
    }

    /// A member of a path item, or of the one it refers to.
    pub fn part_of_item(&self, item: Id, key: &str) -> Option<Id> {
        self.doc.get(item, key).or_else(|| self.doc.get(self.refs.follow(item)?, key))
    }

    /// A member of the document itself by its path of keys, references on the way followed.
    pub fn at(&self, path: &[&str]) -> Option<Id> {
        path.iter().try_fold(ROOT, |at, key| self.part(at, key))
    }

    /// The members without extensions (`x-…`); of duplicates the last counts, with a warning.
    pub fn unique_members(&self, id: Id) -> Vec<(&'d str, Id)> {
        let doc: &'d Doc<'a> = self.doc;
        self.charge(64 * doc.len(id));
        let mut found: Vec<(&'d str, Id)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (key, value) in doc.members(id).filter(|(key, _)| !key.starts_with("x-")) {
            match places.get(key) {
                Some(&place) => {
                    self.warn(value, "the key is there twice; the last one counts");
                    found[place].1 = value;
                }
                None => {
                    places.insert(key, found.len());
                    found.push((key, value));
                }
            }
        }
        found
    }
}

/// At most `max` characters, with an ellipsis where something was cut.
pub fn clip(text: &str, max: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(max) {
        None => text.to_string(),
        Some(_) => {
            let end = text.char_indices().nth(max - 1).map_or(0, |(i, _)| i);
            format!("{}…", text[..end].trim_end())
        }
    }
}
