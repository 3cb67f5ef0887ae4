//! Which operation a clause means: text rank, corrected by verb, number, named API, values at hand and coverage.

use std::collections::HashSet;

use super::{
    catalog::Catalog,
    clauses::Clause,
    lexicon::{Intent, is_stop_word, is_weak, synonyms, verb},
    literals::Kind,
    matching::{SURE, literal_fit},
    shape::{self, Place},
    text::{stem, stems, words},
};

/// Operations of the text ranking that are looked at more closely.
const POOL: usize = 40;
/// Below this share of the clause's meaning an operation doesn't serve it.
const MIN_COVERAGE: f32 = 0.25;
/// What the rest of the request counts in a clause's ranking.
const CONTEXT_WEIGHT: f32 = 0.15;

/// An operation for a clause. `coverage`: the share of the clause's meaningful words (weighted by rarity) that the
/// operation speaks of; `margin`: how far it leads the next one, 0 to 1.
#[derive(Debug, Clone)]
pub struct Choice {
    pub doc: usize,
    pub score: f32,
    pub coverage: f32,
    pub margin: f32,
    /// All that were considered, best first.
    pub ranked: Vec<(usize, f32)>,
}

/// The words of a clause that say which operation is meant: literals, stop words and connection names left out.
pub fn content_words(catalog: &Catalog, clause: &Clause) -> Vec<String> {
    let names: HashSet<String> = catalog.connections().iter().flat_map(|c| words(&c.name)).collect();
    let mut text = clause.text.clone();
    for literal in clause.literals.iter().filter(|l| l.kind != Kind::Name || !is_vocabulary(catalog, &l.text)) {
        text = text.replacen(&literal.text, " ", 1);
    }
    words(&text).into_iter().filter(|w| !is_stop_word(w) && !is_weak(w) && !names.contains(w)).collect()
}

/// A capitalised run that is the API's own word ("TV", "Welcome Message"), not a value.
pub fn is_vocabulary(catalog: &Catalog, text: &str) -> bool {
    let stems = stems(text);
    let connection = catalog.connections().iter().any(|c| c.name.eq_ignore_ascii_case(text));
    connection
        || (!stems.is_empty()
            && stems.len() <= 2
            && stems.iter().all(|s| catalog.knows(s))
            && text.chars().filter(|c| c.is_uppercase()).count() >= text.chars().filter(|c| c.is_alphabetic()).count())
}

/// The best operation for a clause, or `None` when nothing connected speaks of it.
///
/// `before`: the operation chosen for the part before, whose API is a little likelier.
pub fn choose(catalog: &Catalog, clause: &Clause, whole: &str, before: Option<usize>) -> Option<Choice> {
    let content = content_words(catalog, clause);
    let query = format!("{} {}", content.join(" "), clause.intent.map_or("", hint));
    let hits =
        catalog.search_docs(&[(clause.text.as_str(), 0.6), (query.as_str(), 1.0), (whole, CONTEXT_WEIGHT)], POOL);
    let api = before.map(|doc| catalog.connection(doc).connection_id.as_str());
    let near = |doc: usize| if api == Some(catalog.connection(doc).connection_id.as_str()) { 1.1 } else { 1.0 };
    let mut ranked: Vec<(usize, f32)> = hits
        .into_iter()
        .map(|(doc, score)| (doc, score * factors(catalog, clause, &content, doc) * near(doc)))
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let &(doc, score) = ranked.first()?;
    let coverage = coverage(catalog, &content, doc);
    if coverage < MIN_COVERAGE || score <= 0.0 {
        return None;
    }
    let second = ranked.get(1).map_or(0.0, |r| r.1);
    Some(Choice { doc, score, coverage, margin: ((score - second) / score).clamp(0.0, 1.0), ranked })
}

/// A word that brings the intent's methods into the query when the clause's own verb is none the index knows.
fn hint(intent: Intent) -> &'static str {
    match intent {
        Intent::Read => "get",
        Intent::Create => "create",
        Intent::Update => "update",
        Intent::Delete => "delete",
    }
}

/// The rarity-weighted share of words that an operation speaks of. A verb counts when the method carries it out,
/// but a method alone serves nothing: without any word in common the coverage is 0.
pub fn coverage(catalog: &Catalog, content: &[String], doc: usize) -> f32 {
    let method = catalog.operation(doc).method.as_str();
    let (mut hit, mut all) = (0.0, 0.0);
    let mut shared = false;
    for word in content {
        let stemmed = stem(word);
        let intent = verb(word).flatten();
        // A word that no document has can't tell operations apart: it counts, but not as the rarest of all.
        let rarity = if catalog.knows(&stemmed) { catalog.idf(&stemmed).max(0.5) } else { 1.0 };
        let weight = if intent.is_some() { 0.5 } else { 1.0 } * rarity;
        all += weight;
        let said = catalog.speaks(doc, &stemmed);
        shared |= said > 0.0 && (intent.is_none() || content.len() == 1 || own_verb(catalog, doc, &stemmed));
        let by_method = if intent.is_some_and(|i| i.methods().contains(&method)) { 1.0 } else { 0.0 };
        hit += weight * said.max(by_method);
    }
    if all == 0.0 || !shared { 0.0 } else { hit / all }
}

fn factors(catalog: &Catalog, clause: &Clause, content: &[String], doc: usize) -> f32 {
    let operation = catalog.operation(doc);
    let stems: HashSet<String> = content.iter().map(|w| stem(w)).collect();
    let first = words(&clause.text).into_iter().next().unwrap_or_default();
    let imperative = verb(&first).is_some();
    let own = imperative && own_verb(catalog, doc, &stem(&first));
    let mut factor = match clause.intent {
        Some(intent) if verb(&first) != Some(None) => intent.fit(&operation.method),
        // "Pause …", "Archive …": an act of no certain method. The API's own word for it decides.
        _ if imperative && own => 1.2,
        _ if imperative => 0.6,
        // No verb that tells: reading is the safe guess.
        _ if operation.method == "GET" => 1.0,
        _ if operation.method == "DELETE" => 0.2,
        _ => 0.5,
    };
    if own {
        factor *= if verb(&first) == Some(None) { 1.2 } else { 1.1 };
    }
    if operation.deprecated {
        factor *= 0.7;
    }
    factor *= named_connection(catalog, clause, doc);
    factor *= specificity(operation, &stems);
    factor *= number_and_values(clause, content, operation);
    factor * (0.5 + 0.5 * coverage(catalog, content, doc))
}

/// The API's own word for the act: the title's first word, or (of an operation that acts) one of the path's last
/// segment. A method in front of a generated id ("PostCharges") is no word for anything.
fn own_verb(catalog: &Catalog, doc: usize, stemmed: &str) -> bool {
    let operation = catalog.operation(doc);
    let generated = operation.summary.as_deref().is_none_or(|s| s.trim().is_empty());
    let mut title = words(&shape::title(operation)).into_iter();
    let first = title.next().filter(|w| !(generated && w.eq_ignore_ascii_case(&operation.method)));
    let tail = if operation.is_safe() { None } else { shape::path_words(&operation.path).pop() };
    first.iter().chain(tail.iter().flatten()).any(|w| stem(w) == stemmed)
}

fn named_connection(catalog: &Catalog, clause: &Clause, doc: usize) -> f32 {
    let said = words(&clause.text);
    let names = |name: &str| {
        let name = words(name);
        !name.is_empty() && said.windows(name.len()).any(|w| w == name)
    };
    if names(&catalog.connection(doc).name) {
        1.3
    } else if catalog.connections().iter().any(|c| names(&c.name)) {
        0.6
    } else {
        1.0
    }
}

/// An operation about something more than was asked ("…/orders" for "get the customer") loses.
fn specificity(operation: &domain::operation::Operation, said: &HashSet<String>) -> f32 {
    let speaks = |s: &String| said.contains(s) || synonyms(s).iter().any(|s| said.contains(s));
    let segments = shape::path_words(&operation.path);
    let stems: Vec<String> = segments.last().into_iter().flatten().map(|w| stem(w)).collect();
    let tail = if stems.is_empty() || stems.iter().any(speaks) { 1.0 } else { 0.7 };
    let missed = segments.iter().rev().skip(1).filter(|s| !s.iter().map(|w| stem(w)).any(|s| speaks(&s))).count();
    tail * 0.95_f32.powi(missed as i32)
}

/// One or many, by id or by the values that the clause gives.
fn number_and_values(clause: &Clause, content: &[String], operation: &domain::operation::Operation) -> f32 {
    let slots = shape::slots(operation);
    let takes = clause.literals.iter().filter(|l| slots.iter().any(|s| literal_fit(s, l) >= SURE)).count();
    let mut factor = 1.0 + 0.15 * takes.min(3) as f32;
    let by_id = operation.path.trim_end_matches('/').ends_with('}');
    if clause.intent.unwrap_or(Intent::Read) == Intent::Read && operation.method == "GET" {
        let entity = shape::entity(operation);
        let said = content.iter().find(|w| entity.contains(&stem(w)));
        let plural = clause.each || said.is_some_and(|w| w.ends_with('s') && stem(w) != **w || w == "people");
        let given = |place: Place| {
            slots.iter().any(|s| s.place == place && clause.literals.iter().any(|l| literal_fit(s, l) >= SURE))
        };
        let named = clause.literals.iter().any(|l| matches!(l.kind, Kind::Email | Kind::Url));
        factor *= match (by_id, plural) {
            (true, _) if given(Place::Path) => 1.3,
            (true, true) => 0.55,
            // The clause names the thing by something else than its id: it has to be searched for.
            (true, false) if named => 0.35,
            (false, _) if given(Place::Query) => 1.1,
            (false, true) => 1.1,
            (false, false) if said.is_some() => 0.85,
            _ => 1.0,
        };
    }
    factor
}
