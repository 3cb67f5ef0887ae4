//! Every operation of a workspace's connections, searchable by meaning of words, and indexed by what it yields.

use std::{collections::HashMap, sync::Arc};

use domain::operation::{Operation, Schema, SpecSummary};

use super::{
    index::{Field, Index, IndexBuilder},
    lexicon::{is_stop_word, is_weak, synonyms, verb},
    shape,
    text::{stem, words},
};

/// A connection with its normalised document. `connection_id` is the TypeID's text.
#[derive(Debug, Clone)]
pub struct CatalogConnection {
    pub connection_id: String,
    pub name: String,
    pub spec: Arc<SpecSummary>,
}

/// A hit of [`Catalog::search`]: the operation is `spec.operations[operation_index]` of that connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    pub connection_id: String,
    pub operation_index: usize,
    pub score: f32,
}

/// Fields of an operation's document in the index, with weight and length normalisation.
const FIELDS: [Field; 9] = [
    Field { weight: 3.0, b: 0.3 },  // path
    Field { weight: 3.0, b: 0.3 },  // summary
    Field { weight: 1.5, b: 0.3 },  // operation id
    Field { weight: 1.2, b: 0.6 },  // description
    Field { weight: 1.0, b: 0.3 },  // tags
    Field { weight: 0.8, b: 0.75 }, // parameters
    Field { weight: 0.5, b: 0.75 }, // bodies' and responses' property names
    Field { weight: 1.0, b: 0.0 },  // connection
    Field { weight: 1.0, b: 0.0 },  // method
];
const PATH: usize = 0;
const SUMMARY: usize = 1;
const OPERATION_ID: usize = 2;
const DESCRIPTION: usize = 3;
const TAGS: usize = 4;
const PARAMETERS: usize = 5;
const PROPERTIES: usize = 6;
const CONNECTION: usize = 7;
const METHOD: usize = 8;

/// Property names of one operation that are indexed.
const MAX_PROPERTIES: usize = 80;
const PROPERTY_DEPTH: usize = 3;
/// What a synonym, a weak word and a method term count, against 1 for a word of the query.
const SYNONYM_WEIGHT: f32 = 0.35;
const WEAK_WEIGHT: f32 = 0.4;
const METHOD_WEIGHT: f32 = 0.5;

/// Built once per workspace and spec version; immutable, cheap to share behind an `Arc`.
#[derive(Debug, Default)]
pub struct Catalog {
    connections: Vec<CatalogConnection>,
    /// (connection, operation) of each document of the index.
    docs: Vec<(u32, u32)>,
    index: Index,
    /// Reading operations that give a list, by stems of what the list may hold.
    producers: HashMap<String, Vec<u32>>,
}

impl Catalog {
    pub fn new(connections: Vec<CatalogConnection>) -> Self {
        let mut builder = IndexBuilder::new(&FIELDS);
        let mut docs = Vec::new();
        let mut producers: HashMap<String, Vec<u32>> = HashMap::new();
        for (c, connection) in connections.iter().enumerate() {
            let name = words(&connection.name);
            for (o, operation) in connection.spec.operations.iter().enumerate() {
                let doc = docs.len() as u32;
                docs.push((c as u32, o as u32));
                builder.begin();
                name.iter().for_each(|w| builder.add(CONNECTION, w));
                add_operation(&mut builder, operation);
                for stem in produced(operation) {
                    producers.entry(stem).or_default().push(doc);
                }
            }
        }
        Self { connections, docs, index: builder.build(), producers }
    }

    pub fn is_empty(&self) -> bool {
        self.docs.is_empty()
    }

    pub fn len(&self) -> usize {
        self.docs.len()
    }

    pub fn connections(&self) -> &[CatalogConnection] {
        &self.connections
    }

    /// The best `limit` operations for a text, best first. Scores compare within one answer only.
    pub fn search(&self, query: &str, limit: usize) -> Vec<Ranked> {
        let ranked = |(doc, score): (usize, f32)| Ranked {
            connection_id: self.connection(doc).connection_id.clone(),
            operation_index: self.docs[doc].1 as usize,
            score,
        };
        self.search_docs(&[(query, 1.0)], limit).into_iter().map(ranked).collect()
    }

    /// As [`Catalog::search`] over several weighted texts, by document number.
    pub(super) fn search_docs(&self, texts: &[(&str, f32)], limit: usize) -> Vec<(usize, f32)> {
        let mut query: HashMap<String, f32> = HashMap::new();
        for (text, weight) in texts {
            for (term, w) in expand(text) {
                let slot = query.entry(term).or_default();
                *slot = slot.max(w * weight);
            }
        }
        let mut query: Vec<(String, f32)> = query.into_iter().collect();
        // A hash map's order would make sums, and so ties, differ from run to run.
        query.sort_by(|a, b| a.0.cmp(&b.0));
        self.index.search(&query, limit)
    }

    pub(super) fn operation(&self, doc: usize) -> &Operation {
        let (c, o) = self.docs[doc];
        &self.connections[c as usize].spec.operations[o as usize]
    }

    pub(super) fn connection(&self, doc: usize) -> &CatalogConnection {
        &self.connections[self.docs[doc].0 as usize]
    }

    /// Whether an operation's document has the stem, or one of like meaning.
    pub(super) fn mentions(&self, doc: usize, stemmed: &str) -> bool {
        self.index.contains(stemmed, doc) || synonyms(stemmed).iter().any(|s| self.index.contains(s, doc))
    }

    /// 1 when an operation's document has the stem, less when it has one of like meaning only, else 0.
    pub(super) fn speaks(&self, doc: usize, stemmed: &str) -> f32 {
        match (self.index.contains(stemmed, doc), self.mentions(doc, stemmed)) {
            (true, _) => 1.0,
            (false, true) => 0.6,
            (false, false) => 0.0,
        }
    }

    pub(super) fn knows(&self, stemmed: &str) -> bool {
        self.index.knows(stemmed)
    }

    pub(super) fn idf(&self, stemmed: &str) -> f32 {
        self.index.idf(stemmed)
    }

    /// Operations that give lists which may hold such things, in document order.
    pub(super) fn producers(&self, stemmed: &str) -> &[u32] {
        self.producers.get(stemmed).map_or(&[], Vec::as_slice)
    }
}

fn add_operation(builder: &mut IndexBuilder, operation: &Operation) {
    builder.add_exact(METHOD, &method_term(&operation.method));
    let mut add =
        |field: usize, text: &str| words(text).iter().filter(|w| !is_stop_word(w)).for_each(|w| builder.add(field, w));
    add(PATH, &operation.path);
    add(SUMMARY, operation.summary.as_deref().unwrap_or_default());
    add(OPERATION_ID, operation.operation_id.as_deref().unwrap_or_default());
    add(DESCRIPTION, operation.description.as_deref().unwrap_or_default());
    operation.tags.iter().for_each(|t| add(TAGS, t));
    for parameter in &operation.parameters {
        add(PARAMETERS, &parameter.name);
        add(PARAMETERS, parameter.description.as_deref().unwrap_or_default());
    }
    let mut names = Vec::new();
    if let Some(body) = &operation.request_body {
        property_names(&body.schema, 0, &mut names);
    }
    if let Some(schema) = shape::success_schema(operation) {
        property_names(schema, 0, &mut names);
    }
    names.iter().for_each(|n| add(PROPERTIES, n));
}

/// Property and component names, breadth by document order, each once.
fn property_names<'a>(schema: &'a Schema, depth: usize, out: &mut Vec<&'a str>) {
    let mut push = |name: &'a str| {
        if out.len() < MAX_PROPERTIES && !out.contains(&name) {
            out.push(name);
        }
    };
    if let Some(name) = &schema.name {
        push(name);
    }
    schema.properties.iter().for_each(|p| push(&p.name));
    if depth < PROPERTY_DEPTH {
        schema.properties.iter().for_each(|p| property_names(&p.schema, depth + 1, out));
        if let Some(items) = &schema.items {
            property_names(items, depth + 1, out);
        }
    }
}

/// Stems of the things that a reading operation's lists may hold: path words, item schemas, list names.
fn produced(operation: &Operation) -> Vec<String> {
    if operation.method != "GET" {
        return Vec::new();
    }
    let lists = shape::lists(operation);
    if lists.is_empty() {
        return Vec::new();
    }
    let mut stems: Vec<String> = shape::path_words(&operation.path).iter().flatten().map(|w| stem(w)).collect();
    stems.extend(lists.into_iter().flat_map(|l| l.owners));
    stems.sort();
    stems.dedup();
    stems
}

fn method_term(method: &str) -> String {
    format!("method:{method}")
}

/// A query's stems with weights: its words, words of like meaning, and the methods its verbs stand for.
fn expand(text: &str) -> Vec<(String, f32)> {
    let mut out = Vec::new();
    for word in words(text) {
        if let Some(Some(intent)) = verb(&word) {
            out.extend(intent.methods().iter().map(|m| (method_term(m), METHOD_WEIGHT)));
        }
        if matches!(word.as_str(), "my" | "mine") {
            // What is mine belongs to whom APIs call the current or authenticated user.
            out.extend([("authent".to_owned(), SYNONYM_WEIGHT), ("current".to_owned(), SYNONYM_WEIGHT)]);
        }
        if is_stop_word(&word) {
            continue;
        }
        let stemmed = stem(&word);
        let weight = if is_weak(&word) { WEAK_WEIGHT } else { 1.0 };
        out.extend(synonyms(&stemmed).iter().map(|s| (s.clone(), weight * SYNONYM_WEIGHT)));
        out.push((stemmed, weight));
    }
    out
}
