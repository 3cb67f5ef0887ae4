//! An inverted index with BM25F weights: field counts are weighted and length-normalised, then saturated.
//!
//! Impacts are computed once when the index is built, so a query is a sum over a few posting lists.

use std::{cmp::Ordering, collections::HashMap};

use super::text::stem;

/// Saturation: how fast repetitions stop counting.
const K1: f32 = 1.2;

/// A part of a document: its weight, and how strongly its length is normalised (0 to 1).
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub weight: f32,
    pub b: f32,
}

#[derive(Debug, Clone, Copy)]
struct Posting {
    doc: u32,
    impact: f32,
}

/// Built by [`IndexBuilder`]; documents are numbered from 0 in the order they were added.
#[derive(Debug, Default)]
pub struct Index {
    terms: HashMap<String, u32>,
    postings: Vec<Vec<Posting>>,
    docs: usize,
}

impl Index {
    /// The best `limit` documents for weighted stems, best first; equal scores in document order.
    pub fn search(&self, query: &[(String, f32)], limit: usize) -> Vec<(usize, f32)> {
        let mut scores = vec![0.0_f32; self.docs];
        let mut touched: Vec<u32> = Vec::new();
        for (term, weight) in query {
            let Some(&id) = self.terms.get(term) else { continue };
            for posting in &self.postings[id as usize] {
                let slot = &mut scores[posting.doc as usize];
                if *slot == 0.0 {
                    touched.push(posting.doc);
                }
                *slot += weight * posting.impact;
            }
        }
        let order = |a: &u32, b: &u32| -> Ordering {
            scores[*b as usize].total_cmp(&scores[*a as usize]).then_with(|| a.cmp(b))
        };
        if touched.len() > limit && limit > 0 {
            touched.select_nth_unstable_by(limit - 1, order);
        }
        touched.truncate(limit);
        touched.sort_unstable_by(order);
        touched.into_iter().map(|doc| (doc as usize, scores[doc as usize])).collect()
    }

    /// Whether a document has the stem in any field.
    pub fn contains(&self, term: &str, doc: usize) -> bool {
        let Some(&id) = self.terms.get(term) else { return false };
        self.postings[id as usize].binary_search_by_key(&(doc as u32), |p| p.doc).is_ok()
    }

    pub fn knows(&self, term: &str) -> bool {
        self.terms.contains_key(term)
    }

    /// How rare a stem is: the BM25 inverse document frequency, that of one document for an unknown stem.
    pub fn idf(&self, term: &str) -> f32 {
        let df = self.terms.get(term).map_or(0, |&id| self.postings[id as usize].len());
        idf(self.docs, df)
    }
}

fn idf(docs: usize, df: usize) -> f32 {
    let (n, df) = (docs as f32, df as f32);
    (1.0 + (n - df + 0.5) / (df + 0.5)).ln()
}

/// Counts of one document: (term, field, count).
type Counts = Vec<(u32, u8, u16)>;

pub struct IndexBuilder {
    fields: Vec<Field>,
    terms: HashMap<String, u32>,
    /// Words seen before, so that each is stemmed once.
    stemmed: HashMap<String, u32>,
    docs: Vec<Counts>,
    lengths: Vec<Vec<u32>>,
}

impl IndexBuilder {
    pub fn new(fields: &[Field]) -> Self {
        let lengths = vec![Vec::new(); fields.len()];
        Self { fields: fields.to_vec(), terms: HashMap::new(), stemmed: HashMap::new(), docs: Vec::new(), lengths }
    }

    /// Starts the next document.
    pub fn begin(&mut self) {
        self.docs.push(Vec::new());
        for lengths in &mut self.lengths {
            lengths.push(0);
        }
    }

    /// Adds a lower-case word to a field of the current document.
    pub fn add(&mut self, field: usize, word: &str) {
        let id = match self.stemmed.get(word) {
            Some(&id) => id,
            None => {
                let id = self.term(stem(word));
                self.stemmed.insert(word.to_owned(), id);
                id
            }
        };
        self.count(field, id);
    }

    /// Adds a term as it is.
    pub fn add_exact(&mut self, field: usize, term: &str) {
        let id = self.term(term.to_owned());
        self.count(field, id);
    }

    fn term(&mut self, stem: String) -> u32 {
        let next = self.terms.len() as u32;
        *self.terms.entry(stem).or_insert(next)
    }

    fn count(&mut self, field: usize, id: u32) {
        let (Some(doc), Some(length)) = (self.docs.last_mut(), self.lengths[field].last_mut()) else { return };
        *length += 1;
        match doc.iter_mut().find(|(t, f, _)| *t == id && usize::from(*f) == field) {
            Some((_, _, count)) => *count = count.saturating_add(1),
            None => doc.push((id, field as u8, 1)),
        }
    }

    pub fn build(self) -> Index {
        let total = self.docs.len();
        let averages: Vec<f32> = self
            .lengths
            .iter()
            .map(|l| (l.iter().map(|&n| n as f32).sum::<f32>() / total.max(1) as f32).max(0.1))
            .collect();
        let mut postings: Vec<Vec<Posting>> = vec![Vec::new(); self.terms.len()];
        for (doc, counts) in self.docs.iter().enumerate() {
            for &(term, field, count) in counts {
                let field = usize::from(field);
                let Field { weight, b } = self.fields[field];
                let norm = 1.0 - b + b * self.lengths[field][doc] as f32 / averages[field];
                let weighted = weight * f32::from(count) / norm;
                match postings[term as usize].last_mut() {
                    Some(last) if last.doc == doc as u32 => last.impact += weighted,
                    _ => postings[term as usize].push(Posting { doc: doc as u32, impact: weighted }),
                }
            }
        }
        for list in &mut postings {
            let rarity = idf(total, list.len());
            for posting in list {
                posting.impact = rarity * posting.impact * (K1 + 1.0) / (posting.impact + K1);
            }
        }
        Index { terms: self.terms, postings, docs: total }
    }
}
