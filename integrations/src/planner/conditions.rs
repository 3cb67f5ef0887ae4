//! "if …" as an expression over what earlier steps give, where that can be said honestly.

use domain::operation::Schema;
use serde_json::Value;

use super::{
    clauses::Guard,
    lexicon::is_stop_word,
    shape::{self, Output},
    sources::{Done, dotted, writable},
    text::{stem, words},
};

/// Comparisons in words, longest first, with their operators.
const COMPARISONS: &[(&str, &str)] = &[
    ("is greater than or equal to", ">="),
    ("is less than or equal to", "<="),
    ("is not equal to", "!="),
    ("is greater than", ">"),
    ("is more than", ">"),
    ("is less than", "<"),
    ("is at least", ">="),
    ("is at most", "<="),
    ("is equal to", "=="),
    ("greater than", ">"),
    ("more than", ">"),
    ("less than", "<"),
    ("at least", ">="),
    ("at most", "<="),
    ("is above", ">"),
    ("is over", ">"),
    ("is below", "<"),
    ("is under", "<"),
    ("is not", "!="),
    ("isn't", "!="),
    ("exceeds", ">"),
    ("equals", "=="),
    ("above", ">"),
    ("over", ">"),
    ("below", "<"),
    ("under", "<"),
    ("are", "=="),
    ("is", "=="),
    (">=", ">="),
    ("<=", "<="),
    ("!=", "!="),
    ("==", "=="),
    (">", ">"),
    ("<", "<"),
    ("=", "=="),
];

/// The condition as an expression, or `None` when it speaks of something that no earlier step gives.
/// `scope`: the loop's step and list when the condition stands inside a loop.
pub fn express(guard: &Guard, done: &[Done<'_>], scope: Option<(usize, Vec<String>)>) -> Option<String> {
    let text = guard.text.trim();
    let expression = existence(text, done).or_else(|| comparison(text, done, scope.as_ref()))?;
    Some(if guard.negated { format!("not ({expression})") } else { expression })
}

/// "there are orders", "there is no order", "any orders exist", "no customer is found".
fn existence(text: &str, done: &[Done<'_>]) -> Option<String> {
    let said = words(text);
    let says = |list: &[&str]| said.iter().any(|w| list.contains(&w.as_str()));
    let there = said.windows(2).any(|w| w[0] == "there" && matches!(w[1].as_str(), "is" | "are"));
    if !(there || says(&["exist", "exists", "found"])) {
        return None;
    }
    let none = says(&["no", "not", "none", "isn't", "aren't"]);
    let things: Vec<String> = said.iter().filter(|w| !is_stop_word(w)).map(|w| stem(w)).collect();
    for step in done.iter().rev().filter(|s| s.scope.is_none() && s.guard.is_none()) {
        for list in shape::lists(step.operation) {
            let path: Vec<String> = list.path.iter().map(|p| (*p).to_owned()).collect();
            if writable(&path) && list.owners.iter().any(|o| things.contains(o)) {
                let list = dotted(&format!("steps.{}.output", step.id), &path);
                return Some(format!("{list}|length {} 0", if none { "==" } else { ">" }));
            }
        }
    }
    None
}

fn comparison(text: &str, done: &[Done<'_>], scope: Option<&(usize, Vec<String>)>) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let padded = format!(" {lower} ");
    // The earliest comparison; of two at the same place the longer one, which stands first.
    let (at, phrase, operator) = COMPARISONS
        .iter()
        .filter_map(|(phrase, operator)| padded.find(&format!(" {phrase} ")).map(|at| (at, *phrase, *operator)))
        .min_by_key(|(at, phrase, _)| (*at, usize::MAX - phrase.len()))?;
    let left = words(&text[..at.min(text.len())]);
    let right = text.get(at + phrase.len()..)?.trim().trim_end_matches(['.', ',', '!', '?']);
    let mut best: Option<(usize, String)> = None;
    let mut consider = |base: &str, output: &Output<'_>| {
        let path: Vec<String> = output.path.iter().map(|p| (*p).to_owned()).collect();
        if !writable(&path) {
            return;
        }
        if let Some((points, test)) = test(&left, operator, right, output)
            && best.as_ref().is_none_or(|b| points > b.0)
        {
            best = Some((points, test.replace('\u{0}', &dotted(base, &path))));
        }
    };
    for (at, step) in done.iter().enumerate().rev().filter(|(_, s)| s.guard.is_none()) {
        if step.scope.is_none()
            && let Some(schema) = shape::success_schema(step.operation)
        {
            for output in shape::outputs(schema, &shape::entity(step.operation)) {
                consider(&format!("steps.{}.output", step.id), &output);
            }
        }
        if let Some((_, path)) = scope.filter(|s| s.0 == at) {
            for list in shape::lists(step.operation).into_iter().filter(|l| l.path.iter().eq(path.iter())) {
                shape::outputs(list.item, &list.owners).iter().for_each(|o| consider("item", o));
            }
        }
    }
    best.map(|b| b.1)
}

/// The test of one value, with NUL where its expression goes, and how many words of the left side it explains.
fn test(left: &[String], operator: &str, right: &str, output: &Output<'_>) -> Option<(usize, String)> {
    let name = words(output.path.last()?);
    let explains = |w: &String| name.contains(w) || name.iter().any(|n| stem(n) == stem(w));
    let named = name.iter().filter(|n| left.iter().any(|l| stem(l) == stem(n))).count();
    let foreign = |w: &&String| !is_stop_word(w) && !explains(w) && !output.owners.contains(&stem(w));
    if left.iter().any(|w| foreign(&w)) {
        return None;
    }
    if named > 0 {
        let value = literal(output.schema, right)?;
        let equality = matches!(operator, "==" | "!=");
        let numeric = matches!(output.schema.kind.as_str(), "integer" | "number");
        return (equality || numeric).then(|| (10 * named + 1, format!("\u{0} {operator} {value}")));
    }
    // "the customer is active": the right side names a choice or a flag.
    let flag = output.schema.kind == "boolean" && {
        let bare: Vec<&String> = name.iter().filter(|w| !matches!(w.as_str(), "is" | "has")).collect();
        bare.len() == words(right).len() && bare.iter().zip(words(right)).all(|(a, b)| **a == b)
    };
    if flag {
        return match operator {
            "==" => Some((5, "\u{0}".to_owned())),
            "!=" => Some((5, "not \u{0}".to_owned())),
            _ => None,
        };
    }
    let chosen = output.schema.choices.iter().find(|c| c.as_str().is_some_and(|c| c.eq_ignore_ascii_case(right)));
    chosen
        .filter(|_| matches!(operator, "==" | "!="))
        .and_then(|c| quoted(c.as_str()?))
        .map(|v| (5, format!("\u{0} {operator} {v}")))
}

/// The right side as a literal of the value's type.
fn literal(schema: &Schema, right: &str) -> Option<String> {
    let bare = right.trim_matches(['"', '\'', '“', '”', '`']);
    let number = bare.trim_start_matches(['$', '€', '£']).replace(',', "");
    let number = number.split_whitespace().next().unwrap_or_default();
    match schema.kind.as_str() {
        "integer" | "number" => number.parse::<f64>().ok().filter(|n| n.is_finite()).map(|_| number.to_owned()),
        "boolean" => match bare.to_ascii_lowercase().as_str() {
            "true" | "yes" | "set" | "on" => Some("true".to_owned()),
            "false" | "no" | "off" => Some("false".to_owned()),
            _ => None,
        },
        "string" | "" => {
            if schema.choices.is_empty() {
                // More than one unquoted word is prose, not a value.
                return (bare != right || !bare.contains(char::is_whitespace)).then(|| quoted(bare)).flatten();
            }
            let chosen = schema.choices.iter().find(|c| c.as_str().is_some_and(|c| c.eq_ignore_ascii_case(bare)));
            chosen.and_then(Value::as_str).and_then(quoted)
        }
        _ => None,
    }
}

/// A string literal of the expression language; `None` for what could close the template around it.
fn quoted(text: &str) -> Option<String> {
    let unsafe_text = text.is_empty() || text.chars().any(|c| c.is_control() || matches!(c, '{' | '}' | '%' | '\\'));
    (!unsafe_text).then(|| format!("'{}'", text.replace('\'', "\\'")))
}
