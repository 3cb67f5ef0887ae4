//! The few operations out of thousands that a request may need: text ranking for the whole and for each part, then
//! the operations that give the ids which those need.

use super::{
    catalog::Catalog,
    choose::{self, is_vocabulary},
    clauses::{self, Clause},
    literals::{Kind, Literal},
    producers::{self, Scores},
    shape::{self, is_missing_without},
    types::Candidate,
};

/// Producers that are offered for one input.
const PRODUCERS: usize = 2;

/// At most `limit` documents with scores relative to the best, best first.
pub fn retrieve(catalog: &Catalog, message: &str, limit: usize) -> Vec<(usize, f32)> {
    let clauses = clauses::split(message);
    let mut direct = Ranking::default();
    direct.add(&catalog.search_docs(&[(message, 1.0)], limit * 2), 0.7);
    for clause in &clauses {
        if let Some(choice) = choose::choose(catalog, clause, message, None) {
            direct.add(&choice.ranked[..choice.ranked.len().min(limit)], 1.0);
        }
    }
    let scores = Scores::new(catalog, &[(message, 1.0)]);
    let mut all = Ranking(direct.0.clone());
    for (rank, (doc, score)) in direct.sorted(limit / 2).into_iter().enumerate() {
        expand(catalog, &clauses, doc, &scores, score * 0.95_f32.powi(rank as i32), &mut all);
    }
    all.sorted(limit)
}

/// Adds what produces the ids that an operation needs, a little below the operation itself.
fn expand(catalog: &Catalog, clauses: &[Clause], doc: usize, scores: &Scores, score: f32, all: &mut Ranking) {
    let free: Vec<&Literal> = clauses
        .iter()
        .flat_map(|c| &c.literals)
        .filter(|l| !(l.kind == Kind::Name && is_vocabulary(catalog, &l.text)))
        .collect();
    for slot in shape::slots(catalog.operation(doc)).iter().filter(|s| is_missing_without(s)) {
        let Some(thing) = slot.identifies() else { continue };
        for (producer, points) in producers::rank(catalog, &thing, doc, &free, scores).into_iter().take(PRODUCERS) {
            if points > 0.5 {
                all.add(&[(producer, 1.0)], score * (0.75 + 0.15 * (points / 2.5).min(1.0)));
            }
        }
    }
}

/// Documents with the best of the scores they got.
#[derive(Default)]
struct Ranking(Vec<(usize, f32)>);

impl Ranking {
    fn add(&mut self, hits: &[(usize, f32)], weight: f32) {
        let best = hits.first().map_or(1.0, |h| h.1).max(f32::MIN_POSITIVE);
        for (doc, score) in hits {
            let score = weight * score / best;
            match self.0.iter_mut().find(|(d, _)| d == doc) {
                Some(known) => known.1 = known.1.max(score),
                None => self.0.push((*doc, score)),
            }
        }
    }

    fn sorted(&self, limit: usize) -> Vec<(usize, f32)> {
        let mut all = self.0.clone();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(limit);
        all
    }
}

/// Documents as the answer shows them.
pub fn candidates(catalog: &Catalog, ranked: &[(usize, f32)]) -> Vec<Candidate> {
    let best = ranked.first().map_or(1.0, |r| r.1).max(f32::MIN_POSITIVE);
    let candidate = |&(doc, score): &(usize, f32)| {
        let operation = catalog.operation(doc);
        Candidate {
            connection_id: catalog.connection(doc).connection_id.clone(),
            method: operation.method.clone(),
            endpoint: operation.path.clone(),
            summary: super::text::plain(&shape::title(operation), 120),
            score: ((score / best) * 1000.0).round() / 1000.0,
        }
    };
    ranked.iter().map(candidate).collect()
}
