//! Values that a request spells out: quoted strings, e-mails, URLs, dates, numbers, ids and proper names.

use super::{
    lexicon::{is_stop_word, verb},
    text::{stem, words},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Quoted,
    Email,
    Url,
    /// `2026-03-01` or `2026-03-01T10:00:00Z`.
    Date,
    /// As digits: `42`, `3.5`; thousands separators, currency and percent signs removed.
    Number,
    /// `first`, `2nd`: the value is the number.
    Ordinal,
    /// After `#`, or a token that mixes letters and digits.
    Id,
    /// A run of capitalised words that is no sentence's beginning.
    Name,
}

/// A value with its place (bytes of the request) and the stems around it, nearest last before and first after.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal {
    pub kind: Kind,
    pub text: String,
    pub start: usize,
    pub end: usize,
    pub before: Vec<String>,
    pub after: Vec<String>,
}

/// Stems of context that are kept on each side.
const CONTEXT: usize = 4;

const ORDINALS: [&str; 10] =
    ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];

/// All literals of a text, in order, not overlapping.
pub fn extract(text: &str) -> Vec<Literal> {
    let mut found: Vec<(Kind, String, usize, usize)> = quoted(text);
    let taken = |found: &[(Kind, String, usize, usize)], at: usize| found.iter().any(|f| f.2 <= at && at < f.3);
    let chunks: Vec<(usize, &str)> = chunks(text).into_iter().filter(|(at, _)| !taken(&found, *at)).collect();
    let mut rest = Vec::new();
    for &(at, chunk) in &chunks {
        match classify(chunk) {
            Some((kind, value)) => found.push((kind, value, at, at + chunk.len())),
            None => rest.push((at, chunk)),
        }
    }
    found.extend(names(text, &rest));
    found.sort_by_key(|f| f.2);
    let spans: Vec<(usize, usize)> = found.iter().map(|f| (f.2, f.3)).collect();
    found
        .into_iter()
        .map(|(kind, value, start, end)| {
            let (before, after) = context(text, start, end, &spans);
            Literal { kind, text: value, start, end, before, after }
        })
        .collect()
}

/// Stems near a literal, up to the end of its sentence; other literals are skipped.
fn context(text: &str, start: usize, end: usize, spans: &[(usize, usize)]) -> (Vec<String>, Vec<String>) {
    let from = spans.iter().map(|s| s.1).filter(|&e| e <= start).max().unwrap_or(0);
    let to = spans.iter().map(|s| s.0).filter(|&s| s >= end).min().unwrap_or(text.len());
    let head = &text[from..start];
    let tail = &text[end..to];
    let head = head.rfind(['.', ';', '\n', '?', '!']).map_or(head, |i| &head[i + 1..]);
    let tail = tail.find(['.', ';', '\n', '?', '!', ',']).map_or(tail, |i| &tail[..i]);
    let mut before: Vec<String> = words(head).iter().map(|w| stem(w)).collect();
    before.drain(..before.len().saturating_sub(CONTEXT));
    let after = words(tail).iter().take(CONTEXT).map(|w| stem(w)).collect();
    (before, after)
}

fn quoted(text: &str) -> Vec<(Kind, String, usize, usize)> {
    let mut out = Vec::new();
    let mut end = 0;
    for (at, open) in text.char_indices() {
        if at < end {
            continue;
        }
        let close = match open {
            '"' => '"',
            '“' | '„' => '”',
            '‘' => '’',
            '«' => '»',
            '`' => '`',
            // An apostrophe opens a quotation only at a word's beginning.
            '\'' if !text[..at].chars().next_back().is_some_and(char::is_alphanumeric) => '\'',
            _ => continue,
        };
        let body = at + open.len_utf8();
        let closes = |(i, c): &(usize, char)| {
            let next = text[body + i + c.len_utf8()..].chars().next();
            *c == close && (close != '\'' || !next.is_some_and(char::is_alphanumeric))
        };
        let Some((length, _)) = text[body..].char_indices().find(closes) else { continue };
        end = body + length + close.len_utf8();
        if length > 0 {
            out.push((Kind::Quoted, text[body..body + length].to_owned(), at, end));
        }
    }
    out
}

/// Blank-separated pieces without the punctuation around them.
fn chunks(text: &str) -> Vec<(usize, &str)> {
    let mut out = Vec::new();
    let mut at = 0;
    for piece in text.split_inclusive(char::is_whitespace) {
        let front = piece.trim_start_matches(|c: char| c.is_whitespace() || "([{<,;:!?\"'“‘".contains(c));
        let body = front.trim_end_matches(|c: char| c.is_whitespace() || ")]}>.,;:!?\"'”’".contains(c));
        if !body.is_empty() {
            out.push((at + piece.len() - front.len(), body));
        }
        at += piece.len();
    }
    out
}

fn classify(chunk: &str) -> Option<(Kind, String)> {
    let lower = chunk.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        return Some((Kind::Url, chunk.to_owned()));
    }
    if is_email(chunk) {
        return Some((Kind::Email, chunk.to_owned()));
    }
    if let Some(id) = chunk.strip_prefix('#').filter(|id| !id.is_empty()) {
        // "#42" is the thing numbered 42; "#general" is a name with its mark.
        let numbered = id.chars().any(|c| c.is_ascii_digit());
        return Some((Kind::Id, if numbered { id } else { chunk }.to_owned()));
    }
    if is_date(chunk) {
        return Some((Kind::Date, chunk.to_owned()));
    }
    if let Some(number) = number(chunk) {
        return Some((Kind::Number, number));
    }
    if let Some(ordinal) = ordinal(&lower) {
        return Some((Kind::Ordinal, ordinal));
    }
    is_id(chunk).then(|| (Kind::Id, chunk.to_owned()))
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let host = |d: &str| d.chars().all(|c| c.is_alphanumeric() || c == '.' || c == '-');
    !local.is_empty() && domain.contains('.') && host(domain) && !domain.starts_with('.') && !domain.ends_with('.')
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|b| b.iter().all(u8::is_ascii_digit));
    digits(0..4)
        && digits(5..7)
        && digits(8..10)
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && (bytes.len() == 10 || matches!(bytes[10], b'T' | b't'))
}

fn number(text: &str) -> Option<String> {
    let bare = text.trim_start_matches(['$', '€', '£']).trim_end_matches(['%', '€', '$', '£']);
    let plain = bare.replace(',', "");
    let starts = plain.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
    (starts && plain.parse::<f64>().is_ok_and(f64::is_finite)).then_some(plain)
}

fn ordinal(lower: &str) -> Option<String> {
    if let Some(at) = ORDINALS.iter().position(|o| *o == lower) {
        return Some((at + 1).to_string());
    }
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|s| lower.strip_suffix(s))?;
    (!digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())).then(|| digits.to_owned())
}

/// `cus_8f3a`, `ORD-1042`, a UUID: letters and digits with a joint, or long hexadecimal.
fn is_id(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let letters = text.chars().filter(char::is_ascii_alphabetic).count();
    let clean = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let joined = text.contains('_') || text.contains('-');
    clean && digits > 0 && letters > 0 && (joined && digits >= 2 || digits >= 3 && text.len() >= 8)
}

/// Runs of capitalised words. "of", "the", "and" and the like bind inside a run; a sentence's first word counts
/// only when it can't be an ordinary beginning.
fn names(text: &str, chunks: &[(usize, &str)]) -> Vec<(Kind, String, usize, usize)> {
    let mut out = Vec::new();
    let mut run: Vec<(usize, &str)> = Vec::new();
    let mut flush = |run: &mut Vec<(usize, &str)>| {
        while run.last().is_some_and(|(_, w)| !capital(w)) {
            run.pop();
        }
        // One capitalised word at a sentence's beginning is any word ("Finally, …").
        let lone = run.len() == 1 && run.first().is_some_and(|(at, _)| begins_sentence(text, *at));
        if let (Some(first), Some(last), false) = (run.first(), run.last(), lone) {
            let body = last.1.strip_suffix("'s").or(last.1.strip_suffix("’s")).unwrap_or(last.1);
            let end = last.0 + body.len();
            out.push((Kind::Name, text[first.0..end].to_owned(), first.0, end));
        }
        run.clear();
    };
    for (i, &(at, chunk)) in chunks.iter().enumerate() {
        let previous_end = if i > 0 { chunks[i - 1].0 + chunks[i - 1].1.len() } else { 0 };
        let gap = &text[previous_end..at];
        // Literals between two chunks, and punctuation, end a run; ": " may stand inside a title.
        if !gap.chars().all(|c| c.is_whitespace() || c == ':') {
            flush(&mut run);
        }
        let begins = begins_sentence(text, at);
        let lower = chunk.to_lowercase();
        let binds = matches!(lower.as_str(), "of" | "the" | "and" | "de" | "van" | "von" | "in" | "a");
        if capital(chunk) && !(begins && (verb(&lower).is_some() || is_stop_word(&lower))) && chunk != "I" {
            run.push((at, chunk));
            // A possessive ends a name: "Cate Blanchett's latest".
            if chunk.ends_with("'s") || chunk.ends_with("’s") {
                flush(&mut run);
            }
        } else if binds && !run.is_empty() && follows_capital(chunks, i) {
            run.push((at, chunk));
        } else {
            flush(&mut run);
        }
    }
    flush(&mut run);
    out.retain(|n| !is_calendar(&n.1));
    out
}

fn begins_sentence(text: &str, at: usize) -> bool {
    text[..at].trim_end().chars().next_back().is_none_or(|c| ".!?;\n".contains(c))
}

fn follows_capital(chunks: &[(usize, &str)], at: usize) -> bool {
    chunks.iter().skip(at + 1).take(2).any(|(_, w)| capital(w))
        && chunks.get(at + 1).is_some_and(|(_, w)| capital(w) || matches!(*w, "the" | "of"))
}

fn capital(word: &str) -> bool {
    word.chars().next().is_some_and(char::is_uppercase)
}

fn is_calendar(name: &str) -> bool {
    const CALENDAR: &str = "monday tuesday wednesday thursday friday saturday sunday january february march april may \
        june july august september october november december";
    CALENDAR.split_whitespace().any(|w| name.eq_ignore_ascii_case(w))
}
