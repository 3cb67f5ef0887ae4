//! A request's parts: sentences, conditions, and clauses that each ask for one thing.

use super::{
    lexicon::{Intent, verb},
    literals::{self, Kind, Literal},
    text::words,
};

/// A condition as the request words it. `negated` for "unless" and "otherwise".
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    pub text: String,
    pub negated: bool,
}

/// One thing asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause {
    pub text: String,
    pub intent: Option<Intent>,
    /// "each", "all", "every", "them", "their": for a list, do it for every item.
    pub each: bool,
    pub guard: Option<Guard>,
    pub literals: Vec<Literal>,
}

/// Splits a request. Every word of it lands in a clause or in a guard.
pub fn split(message: &str) -> Vec<Clause> {
    let literals = literals::extract(message);
    let masked = mask(message, &literals);
    let mut out: Vec<Clause> = Vec::new();
    let mut last_guard: Option<Guard> = None;
    for (start, end) in sentences(&masked) {
        for part in guarded(&masked, start, end) {
            let guard = match part.guard {
                Found::None => None,
                Found::Otherwise => last_guard.clone().map(|g| Guard { negated: !g.negated, ..g }),
                Found::Text { from, to, negated } => Some(Guard { text: trim(&message[from..to]).to_owned(), negated }),
            };
            if guard.is_some() {
                last_guard = guard.clone();
            }
            let spans = split_span(&masked, part.from, part.to);
            let count = spans.len();
            for (i, (from, to)) in spans.into_iter().enumerate() {
                let text = trim(&message[from..to]);
                if !text.chars().any(char::is_alphanumeric) {
                    continue;
                }
                // "Get the customer and mail him if he is active" guards the last part only.
                let mine = if part.trailing && i + 1 < count { None } else { guard.clone() };
                let inside = literals.iter().filter(|l| l.start >= from && l.end <= to).cloned().collect();
                out.push(clause(text, &masked[from..to], mine, inside));
            }
        }
    }
    out
}

fn trim(text: &str) -> &str {
    text.trim().trim_matches([',', ';', '.', ' '])
}

fn clause(text: &str, masked: &str, guard: Option<Guard>, literals: Vec<Literal>) -> Clause {
    let words = words(masked);
    let intent = words.iter().take(6).find_map(|w| verb(w).flatten());
    let each = words.iter().any(|w| {
        matches!(w.as_str(), "each" | "every" | "all" | "them" | "their" | "everyone" | "everybody" | "these" | "those")
    });
    Clause { text: text.to_owned(), intent, each, guard, literals }
}

/// The text in lower case with literals blotted out, byte for byte as long: what they hold splits nothing.
fn mask(message: &str, literals: &[Literal]) -> String {
    let blot = |at: usize| literals.iter().find(|l| l.start <= at && at < l.end && l.kind != Kind::Ordinal);
    message
        .char_indices()
        .map(|(at, c)| match c {
            // What stands before a quotation is its label ("text '…'"); before an address it may be a verb.
            _ if blot(at).is_some_and(|l| matches!(l.kind, Kind::Quoted | Kind::Number)) => "_".repeat(c.len_utf8()),
            _ if blot(at).is_some() => "x".repeat(c.len_utf8()),
            c if c.is_ascii() => c.to_ascii_lowercase().to_string(),
            c => c.to_string(),
        })
        .collect()
}

fn sentences(masked: &str) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut start = 0;
    for (at, c) in masked.char_indices() {
        let next = masked[at + c.len_utf8()..].chars().next();
        let ends = match c {
            ';' | '\n' => true,
            '.' | '!' | '?' => next.is_none_or(char::is_whitespace),
            _ => false,
        };
        if ends {
            out.push((start, at));
            start = at + c.len_utf8();
        }
    }
    out.push((start, masked.len()));
    out.retain(|(a, b)| masked[*a..*b].chars().any(char::is_alphanumeric));
    out
}

enum Found {
    None,
    Otherwise,
    Text { from: usize, to: usize, negated: bool },
}

struct Part {
    from: usize,
    to: usize,
    guard: Found,
    trailing: bool,
}

/// Words of a span with their byte places.
fn tokens(masked: &str, start: usize, end: usize) -> Vec<(usize, usize, &str)> {
    let mut out = Vec::new();
    let mut from = None;
    for (i, c) in masked[start..end].char_indices().chain([(end - start, ' ')]) {
        let at = start + i;
        match (c.is_alphanumeric() || c == '\'' || c == '_', from) {
            (true, None) => from = Some(at),
            (false, Some(f)) => {
                out.push((f, at, &masked[f..at]));
                from = None;
            }
            _ => {}
        }
    }
    out
}

/// Finds "if …, …", "… if …", "unless", "otherwise" in a sentence.
fn guarded(masked: &str, start: usize, end: usize) -> Vec<Part> {
    let tokens = tokens(masked, start, end);
    let opens = |w: &str| matches!(w, "if" | "unless");
    // "check if/whether …" asks a question; it is no condition of a later act.
    let at = tokens.iter().enumerate().position(|(i, t)| opens(t.2) && (i == 0 || !asks(tokens[i - 1].2)));
    let otherwise = tokens.iter().enumerate().find(|(_, t)| matches!(t.2, "otherwise" | "else"));
    if let Some((i, &(from, to, _))) = otherwise
        && at.is_none_or(|a| a < i)
    {
        let mut parts = if i == 0 { Vec::new() } else { guarded(masked, start, from) };
        parts.push(Part { from: to, to: end, guard: Found::Otherwise, trailing: false });
        return parts;
    }
    let Some(i) = at else { return vec![Part { from: start, to: end, guard: Found::None, trailing: false }] };
    let negated = tokens[i].2 == "unless";
    let body = tokens[i].1;
    let lead = &tokens[..i];
    let leading = lead.iter().all(|t| matches!(t.2, "and" | "then" | "but" | "only" | "also" | "please"));
    let comma = masked[body..end].find(',').map(|c| body + c);
    let then = tokens[i..].iter().find(|t| t.2 == "then");
    let stop = match (comma, then) {
        (Some(c), Some(t)) => Some((c.min(t.0), if c < t.0 { c + 1 } else { t.1 })),
        (Some(c), None) => Some((c, c + 1)),
        (None, Some(t)) => Some((t.0, t.1)),
        (None, None) => implied_end(masked, &tokens[i + 1..]),
    };
    // "get it, if …, send" and "get it and if … send": the condition is for what follows.
    let follows = masked[..tokens[i].0].trim_end().ends_with(',')
        || lead.last().is_some_and(|t| matches!(t.2, "and" | "then" | "but"));
    let mut parts = Vec::new();
    match stop {
        Some((to, next)) if leading || follows => {
            if !leading {
                parts.push(Part { from: start, to: tokens[i].0, guard: Found::None, trailing: false });
            }
            parts.push(Part { from: next, to: end, guard: Found::Text { from: body, to, negated }, trailing: false });
        }
        Some((to, next)) => {
            let only = lead.last().filter(|t| t.2 == "only").map_or(tokens[i].0, |t| t.0);
            parts.push(Part { from: start, to: only, guard: Found::Text { from: body, to, negated }, trailing: true });
            parts.extend(guarded(masked, next, end));
        }
        None => {
            let only = lead.last().filter(|t| t.2 == "only").map_or(tokens[i].0, |t| t.0);
            parts.push(Part {
                from: start,
                to: only,
                guard: Found::Text { from: body, to: end, negated },
                trailing: true,
            });
        }
    }
    parts
}

fn asks(word: &str) -> bool {
    matches!(word, "check" | "see" | "know" | "verify" | "determine" | "wonder")
}

/// "if the order is paid send …": the condition ends where an imperative begins after an "is", "has" or number.
fn implied_end(masked: &str, tokens: &[(usize, usize, &str)]) -> Option<(usize, usize)> {
    let from = tokens.iter().position(|t| matches!(t.2, "is" | "are" | "has" | "equals" | "exists" | "was"))?;
    let imperative = |t: &&(usize, usize, &str)| matches!(verb(t.2), Some(Some(i)) if i != Intent::Read);
    let at = tokens.iter().skip(from + 2).find(imperative)?;
    // "and send" with the "and" before it would leave a dangling word in the condition.
    let head = masked[..at.0].trim_end();
    Some((head.strip_suffix(" and").map_or(head.len(), str::len), at.0))
}

/// Splits at "then", and at "and" or "," where an imperative follows.
fn split_span(masked: &str, start: usize, end: usize) -> Vec<(usize, usize)> {
    let tokens = tokens(masked, start, end);
    let mut out = Vec::new();
    let mut from = start;
    let filler = |w: &str| matches!(w, "and" | "then" | "also" | "please" | "finally" | "afterwards" | "just" | "or");
    for (i, &(at, _, word)) in tokens.iter().enumerate() {
        if i == 0 {
            continue;
        }
        let previous = tokens[i - 1];
        let gap = &masked[previous.1..at];
        let joined = filler(previous.2) || gap.contains(',') || gap.contains('&');
        let cuts = match word {
            "then" | "afterwards" | "finally" => !filler(previous.2),
            word if filler(word) => false,
            word => joined && verb(word).is_some() && !is_noun_here(&tokens, i),
        };
        if cuts {
            let mut stop = at;
            // Leave "and", "also", "please" in front of the imperative out of both parts.
            for token in tokens[..i].iter().rev().take_while(|t| filler(t.2) && t.0 >= from) {
                stop = token.0;
            }
            out.push((from, stop));
            from = if filler(word) { tokens[i].1 } else { at };
        }
    }
    out.push((from, end));
    out.retain(|(a, b)| masked[*a..*b].split_whitespace().any(|w| !filler(w.trim_matches(','))));
    out
}

/// "name and email", "orders and order lines", "message and a note": a verb's look-alike is a noun before a
/// preposition, at the end, or where no object follows.
fn is_noun_here(tokens: &[(usize, usize, &str)], at: usize) -> bool {
    let ambiguous = matches!(
        tokens[at].2,
        "email"
            | "mail"
            | "text"
            | "message"
            | "order"
            | "book"
            | "file"
            | "log"
            | "label"
            | "tag"
            | "comment"
            | "rate"
            | "review"
            | "charge"
            | "issue"
            | "schedule"
            | "post"
            | "note"
            | "name"
            | "number"
            | "title"
            | "query"
            | "count"
            | "filter"
            | "run"
            | "use"
            | "start"
            | "who"
            | "which"
            | "when"
            | "where"
            | "what"
            | "how"
            | "refund"
            | "star"
    );
    let next = tokens.get(at + 1).map(|t| t.2);
    ambiguous
        && match next {
            None => true,
            Some(word) if word.starts_with('_') => true,
            Some(word) => matches!(
                word,
                "of" | "to"
                    | "for"
                    | "in"
                    | "on"
                    | "from"
                    | "with"
                    | "by"
                    | "and"
                    | "or"
                    | "is"
                    | "are"
                    | "at"
                    | "address"
                    | "id"
            ),
        }
}
