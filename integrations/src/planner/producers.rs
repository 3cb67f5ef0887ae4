//! Where ids that nobody typed come from: reading operations that list or search the thing an input identifies.

use std::collections::HashMap;

use super::{
    catalog::Catalog,
    clauses::Clause,
    literals::{Kind, Literal},
    matching::{LIKELY, SURE, is_query, literal_fit},
    shape::{self, Place, Slot, is_missing_without},
    text::{stem, words},
};

/// Hits of the whole request that producers are compared by.
const POOL: usize = 200;
/// Producers of one thing that are looked at; of more, those the request's words hit and those of the same API.
const MAX_RANKED: usize = 300;

/// The text scores of a request, relative to its best hit.
pub struct Scores(HashMap<usize, f32>);

impl Scores {
    pub fn new(catalog: &Catalog, texts: &[(&str, f32)]) -> Self {
        let hits = catalog.search_docs(texts, POOL);
        let best = hits.first().map_or(1.0, |h| h.1).max(f32::MIN_POSITIVE);
        Self(hits.into_iter().map(|(doc, score)| (doc, score / best)).collect())
    }

    pub fn of(&self, doc: usize) -> f32 {
        self.0.get(&doc).copied().unwrap_or(0.0)
    }
}

/// The request picks one or some of a list without naming them: "my first playlist", "the most popular show".
pub fn picks_from_list(clause: &Clause) -> bool {
    let pick = |w: &str| {
        matches!(
            w,
            "first"
                | "second"
                | "third"
                | "last"
                | "latest"
                | "newest"
                | "oldest"
                | "recent"
                | "top"
                | "most"
                | "best"
                | "any"
                | "some"
                | "one"
                | "my"
                | "current"
                | "currently"
                | "now"
                | "popular"
                | "trending"
                | "today"
                | "random"
        )
    };
    clause.each || words(&clause.text).iter().any(|w| pick(w))
}

/// A value of the text that an operation can search or filter by. Names go to search words first of all.
pub fn searchable(slots: &[Slot<'_>], literals: &[&Literal]) -> f32 {
    let takes = |literal: &&Literal| {
        slots.iter().filter(|s| s.place == Place::Query).map(|s| search_fit(s, literal)).fold(0.0, f32::max)
    };
    literals.iter().map(takes).fold(0.0, f32::max)
}

fn search_fit(slot: &Slot<'_>, literal: &Literal) -> f32 {
    match literal.kind {
        Kind::Quoted | Kind::Name if is_query(&slot.words()) => literal_fit(slot, literal).max(SURE),
        Kind::Quoted | Kind::Name | Kind::Email | Kind::Url => literal_fit(slot, literal),
        Kind::Id | Kind::Number | Kind::Date | Kind::Ordinal => 0.0,
    }
}

/// Producers of a thing for one clause, best first. `free` are literals that no input has taken.
///
/// Points: how well the request's words fit (0 to 1), a value to search by (0.8, or 1.2 for a search), the same API (0.3), the thing in
/// the path (0.4 last segment, 0.2 elsewhere), minus 0.5 for each required input that must come from elsewhere.
pub fn rank(catalog: &Catalog, thing: &str, consumer: usize, free: &[&Literal], scores: &Scores) -> Vec<(usize, f32)> {
    let all = catalog.producers(thing);
    let near = |doc: usize| catalog.connection(doc).connection_id == catalog.connection(consumer).connection_id;
    let few = all.len() <= MAX_RANKED;
    let mut out: Vec<(usize, f32)> = all
        .iter()
        .map(|&doc| doc as usize)
        .filter(|&doc| doc != consumer && (few || scores.of(doc) > 0.0 || near(doc)))
        .take(MAX_RANKED)
        .map(|doc| (doc, points(catalog, thing, doc, consumer, free, scores)))
        .collect();
    out.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    out
}

fn points(catalog: &Catalog, thing: &str, doc: usize, consumer: usize, free: &[&Literal], scores: &Scores) -> f32 {
    let operation = catalog.operation(doc);
    let slots = shape::slots(operation);
    let mut points = scores.of(doc);
    let search = searchable(&slots, free);
    if search >= LIKELY {
        // An operation that can't do without search words is there to find things by name.
        let made_for_it = slots.iter().any(|s| s.required && s.place == Place::Query && is_query(&s.words()));
        points += if made_for_it { 1.2 } else { 0.8 };
    }
    if catalog.connection(doc).connection_id == catalog.connection(consumer).connection_id {
        points += 0.3;
    }
    let segments = shape::path_words(&operation.path);
    let has = |s: &Vec<String>| s.iter().any(|w| stem(w) == thing);
    if segments.last().is_some_and(has) {
        points += 0.4;
    } else if segments.iter().any(has) {
        points += 0.2;
    }
    let open =
        slots.iter().filter(|s| is_missing_without(s)).filter(|s| !(search >= LIKELY && is_query(&s.words()))).count();
    points - 0.5 * open as f32
}
