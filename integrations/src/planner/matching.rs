//! Does this value belong in that input? Scores from 0 (no) to 1 (surely), by name, entity, type and format.

use domain::operation::Schema;
use serde_json::{Number, Value};

use super::{
    literals::{Kind, Literal},
    shape::{Output, Slot},
    text::{stem, words},
};

/// From here on a required input is wired; an optional one needs [`SURE`].
pub const LIKELY: f32 = 0.6;
pub const SURE: f32 = 0.85;

/// A mail address goes here.
pub fn is_email_slot(name: &[String], schema: &Schema) -> bool {
    schema.format.as_deref() == Some("email")
        || name.iter().any(|w| matches!(w.as_str(), "email" | "mail"))
        || (matches!(name, [one] if matches!(one.as_str(), "to" | "recipient" | "recipients" | "receiver")))
}

fn is_name_word(word: &str) -> bool {
    matches!(word, "name" | "fullname" | "full" | "display" | "title")
}

/// Names that say nothing about whose value it is.
fn is_generic(name: &[String]) -> bool {
    const GENERIC: &str = "id uuid key name title type status state url uri href link description text content body date \
        created updated at on time count total page limit offset size number code value label language";
    name.iter().all(|w| GENERIC.split_whitespace().any(|g| g == w))
}

/// Whether a value of one schema can stand where another is wanted.
pub fn compatible(slot: &Schema, value: &Schema) -> bool {
    let scalar = |k: &str| matches!(k, "string" | "integer" | "number");
    match (slot.kind.as_str(), value.kind.as_str()) {
        (a, b) if a == b => true,
        ("", _) | (_, "") => true,
        ("number", "integer") | ("integer", "number") => true,
        // Ids are integers on one side and strings on the other often enough.
        ("string", b) => scalar(b),
        ("integer" | "number", "string") => true,
        _ => false,
    }
}

/// How well an earlier step's value fits a slot. `related` says that the operation speaks of the value's owner, so
/// that a plain `name` may be that owner's name.
pub fn output_fit(slot: &Slot<'_>, output: &Output<'_>, related: bool) -> f32 {
    if !compatible(slot.schema, output.schema) {
        return 0.0;
    }
    let wanted = slot.words();
    let last = output.path.last().copied().unwrap_or_default();
    let given = words(last);
    let type_factor = if slot.schema.kind == output.schema.kind { 1.0 } else { 0.95 };
    type_factor * name_fit(slot, &wanted, &given, output, related)
}

fn name_fit(slot: &Slot<'_>, wanted: &[String], given: &[String], output: &Output<'_>, related: bool) -> f32 {
    let owned_by = |thing: &str| output.owners.iter().any(|o| o == thing);
    if slot.takes_name() {
        let named = given == wanted || matches!(given, [one] if one == "name");
        return if named && slot.identifies().is_some_and(|t| owned_by(&t)) { 0.95 } else { 0.0 };
    }
    if let Some(thing) = slot.identifies() {
        return id_fit(&thing, wanted, given, &owned_by);
    }
    if is_email_slot(wanted, slot.schema) {
        let is_email =
            output.schema.format.as_deref() == Some("email") || given.iter().any(|w| w == "email" || w == "mail");
        return if is_email && given != ["from"] && given != ["sender"] { 0.9 } else { 0.0 };
    }
    if wanted == given {
        return match (is_generic(wanted), related) {
            (false, _) => 1.0,
            (true, true) if wanted.iter().any(|w| is_name_word(w)) => 0.85,
            _ => 0.0,
        };
    }
    // `customerName` of a customer's `name`.
    if wanted.len() > given.len() && wanted.ends_with(given) {
        let owner = &wanted[..wanted.len() - given.len()];
        if owner.iter().any(|w| owned_by(&stem(w))) {
            return 0.9;
        }
    }
    let names = |n: &[String]| !n.is_empty() && n.iter().all(|w| is_name_word(w));
    if related && names(wanted) && names(given) { 0.7 } else { 0.0 }
}

fn id_fit(thing: &str, wanted: &[String], given: &[String], owned_by: &dyn Fn(&str) -> bool) -> f32 {
    let plain_id = matches!(given, [one] if matches!(one.as_str(), "id" | "uuid" | "guid" | "key" | "slug"));
    if plain_id {
        return if !thing.is_empty() && owned_by(thing) { 0.95 } else { 0.0 };
    }
    if given == wanted {
        return if given.len() > 1 || owned_by(thing) { 1.0 } else { 0.0 };
    }
    match given {
        // `customerId` of an order, wanted as `id` of `/customers/{id}`.
        [.., owner, id] if matches!(id.as_str(), "id" | "uuid" | "key") && stem(owner) == thing => 0.9,
        _ => 0.0,
    }
}

/// How well a value of the text fits a slot.
pub fn literal_fit(slot: &Slot<'_>, literal: &Literal) -> f32 {
    if as_value(slot.schema, literal).is_none() {
        return 0.0;
    }
    let name = slot.words();
    let labelled = labelled(slot, &name, literal);
    let thing = slot.identifies();
    let numeric = matches!(slot.schema.kind.as_str(), "integer" | "number");
    match literal.kind {
        Kind::Email if is_email_slot(&name, slot.schema) => 0.95,
        Kind::Url
            if slot.schema.format.as_deref() == Some("uri")
                || name.iter().any(|w| w == "url" || w == "uri" || w == "link") =>
        {
            0.95
        }
        Kind::Email | Kind::Url => {
            if labelled && thing.is_none() {
                0.7
            } else {
                0.0
            }
        }
        Kind::Date => date_fit(slot, &name, literal, labelled),
        Kind::Id => match &thing {
            // "#general" is a mark and a name, no id.
            Some(_) if literal.text.starts_with('#') && !name.iter().any(|w| w == "channel") => 0.0,
            Some(t) if names_before(literal, t) => 1.0,
            Some(_) => 0.85,
            None if literal.text.starts_with('#') && name.iter().any(|w| w == "channel") => 0.95,
            None => {
                if labelled {
                    0.8
                } else {
                    0.0
                }
            }
        },
        Kind::Number => match &thing {
            Some(t) if names_before(literal, t) || literal.before.last().is_some_and(|w| w == "id") => 0.95,
            Some(_) => 0.0,
            None if limits(&name, literal) => 0.9,
            None => {
                if labelled {
                    if numeric { 0.95 } else { 0.6 }
                } else {
                    0.0
                }
            }
        },
        Kind::Ordinal => {
            if numeric && labelled && (thing.is_none() || name.last().is_some_and(|w| w == "number")) {
                0.9
            } else {
                0.0
            }
        }
        Kind::Quoted if thing.is_some() => 0.0,
        Kind::Quoted => {
            if labelled {
                1.0
            } else {
                free_text(&name, slot.schema)
            }
        }
        Kind::Name if thing.is_some() || slot.schema.format.is_some() => 0.0,
        Kind::Name => {
            if labelled {
                0.9
            } else {
                (free_text(&name, slot.schema) - 0.1).max(0.0)
            }
        }
    }
}

/// The slot's own words stand beside the literal: `subject "Hi"`, `volume to 20`, `season 3`, `third episode`.
fn labelled(slot: &Slot<'_>, name: &[String], literal: &Literal) -> bool {
    let near = literal
        .before
        .iter()
        .rev()
        .take(3)
        .chain(literal.after.iter().take(usize::from(literal.kind == Kind::Ordinal)));
    let naming = name.iter().any(|w| is_name_word(w)) || slot.name == "title";
    let mut near = near;
    near.any(|w| {
        let named = matches!(w.as_str(), "name" | "call" | "titl" | "entitl");
        // "saying 'hi'": the words of a message.
        (w == "say" && matches!(slot.name, "text" | "message" | "body" | "content"))
            || (named && naming)
            || (!named && name.iter().any(|n| n.len() > 2 && stem(n) == *w))
    })
}

/// The thing stands right before its id: "order 1042", "customer with id 7".
fn names_before(literal: &Literal, thing: &str) -> bool {
    !thing.is_empty() && literal.before.iter().rev().take(3).any(|w| w == thing)
}

fn limits(name: &[String], literal: &Literal) -> bool {
    let limit = name.iter().any(|w| matches!(w.as_str(), "limit" | "size" | "count" | "first"))
        || matches!(name, [a, b] if a == "per" && b == "page");
    limit
        && literal
            .before
            .last()
            .is_some_and(|w| matches!(w.as_str(), "top" | "first" | "last" | "latest" | "limit" | "newest" | "onli"))
}

fn date_fit(slot: &Slot<'_>, name: &[String], literal: &Literal, labelled: bool) -> f32 {
    let dated = matches!(slot.schema.format.as_deref(), Some("date" | "date-time"))
        || name.iter().any(|w| {
            matches!(w.as_str(), "date" | "day" | "since" | "until" | "after" | "before" | "start" | "end" | "due")
        });
    if !dated {
        return 0.0;
    }
    let says = |list: &[&str]| literal.before.iter().rev().take(2).any(|w| list.contains(&w.as_str()));
    let from = name.iter().any(|w| matches!(w.as_str(), "after" | "since" | "from" | "start" | "min" | "gte"));
    let to = name.iter().any(|w| matches!(w.as_str(), "before" | "until" | "to" | "end" | "max" | "lte"));
    match (from, to) {
        (true, _) if says(&["after", "sinc", "from", "start"]) => 0.95,
        (_, true) if says(&["befor", "until", "till", "to", "end"]) => 0.95,
        (false, false) if labelled => 0.95,
        (false, false) => 0.7,
        _ => 0.0,
    }
}

/// How welcome any text is in a slot.
fn free_text(name: &[String], schema: &Schema) -> f32 {
    if schema.format.is_some() || !schema.choices.is_empty() || !matches!(schema.kind.as_str(), "string" | "") {
        return 0.0;
    }
    let any = |list: &[&str]| name.iter().any(|w| list.contains(&w.as_str()));
    if is_query(name) {
        0.85
    } else if any(&["name", "title"]) {
        0.75
    } else if any(&["text", "message", "body", "content", "comment"]) {
        0.7
    } else if any(&["subject", "description", "note", "summary", "label"]) {
        0.62
    } else {
        0.0
    }
}

/// The slot takes words to search by. `with_keywords` and `query_language` are filters of another kind.
pub fn is_query(name: &[String]) -> bool {
    let search =
        |w: &String| matches!(w.as_str(), "q" | "query" | "search" | "keyword" | "keywords" | "term" | "terms");
    match name {
        [one] => search(one),
        [a, b] => search(a) && matches!(b.as_str(), "text" | "string" | "term" | "query" | "words"),
        _ => false,
    }
}

/// The literal as a JSON value of the slot's type; `None` when it can't be one.
pub fn as_value(schema: &Schema, literal: &Literal) -> Option<Value> {
    let text = || Value::String(literal.text.clone());
    let number =
        || literal.text.parse::<i64>().ok().map(Number::from).or_else(|| Number::from_f64(literal.text.parse().ok()?));
    match schema.kind.as_str() {
        "integer" => literal.text.parse::<i64>().ok().map(Value::from),
        "number" => number().map(Value::Number),
        "string" if !schema.choices.is_empty() => {
            schema.choices.iter().find(|c| c.as_str().is_some_and(|c| c.eq_ignore_ascii_case(&literal.text))).cloned()
        }
        "string" => Some(text()),
        "" if literal.kind == Kind::Number => number().map(Value::Number),
        "" => Some(text()),
        "array" => {
            let item = schema.items.as_deref()?;
            (item.kind != "array").then(|| as_value(item, literal)).flatten().map(|v| Value::Array(vec![v]))
        }
        _ => None,
    }
}

/// A choice of an enum that the text names: `status=active` of "active customers". For a list, all of them.
pub fn choice(schema: &Schema, stems: &[String]) -> Option<Value> {
    if schema.kind == "array" {
        let items = schema.items.as_deref()?;
        let named: Vec<Value> = items.choices.iter().filter(|c| names_choice(c, stems)).cloned().collect();
        return (!named.is_empty()).then_some(Value::Array(named));
    }
    let mut named = schema.choices.iter().filter(|c| names_choice(c, stems));
    let first = named.next()?;
    // Two choices named: which one is meant can't be told from here.
    named.next().is_none().then(|| first.clone())
}

fn names_choice(choice: &Value, stems: &[String]) -> bool {
    // A document's text that is a template would be evaluated: it is no value to use.
    let parts = choice.as_str().filter(|c| !has_template(c)).map(words).unwrap_or_default();
    !parts.is_empty() && parts.iter().all(|w| w.len() >= 3 && stems.contains(&stem(w)))
}

/// Whether a text of a document would be read as a template.
pub fn has_template(text: &str) -> bool {
    ["{{", "}}", "{%", "{#"].iter().any(|t| text.contains(t))
}
