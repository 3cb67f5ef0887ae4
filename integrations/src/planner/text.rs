//! Words out of text and identifiers: splitting, stemming, slugs, and what of foreign text may be shown.

use rust_stemmers::{Algorithm, Stemmer};

use super::lexicon::is_stop_word;

/// Lower-case words. Splits on everything that is no letter or digit, and inside identifiers:
/// `getCustomerByID`, `first_name`, `user-agent` and `HTTPServer` fall apart as a reader would read them.
pub fn words(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut word = String::new();
    let chars: Vec<char> = text.chars().collect();
    for (i, &c) in chars.iter().enumerate() {
        if !c.is_alphanumeric() {
            flush(&mut word, &mut out);
            continue;
        }
        if c.is_uppercase() && i > 0 {
            let before = chars[i - 1];
            let acronym_ends = before.is_uppercase() && chars.get(i + 1).is_some_and(|n| n.is_lowercase());
            // "IDs" and "TVs" are plurals of acronyms, not "I" + "Ds".
            let plural_s = chars.get(i + 1) == Some(&'s') && !chars.get(i + 2).is_some_and(|n| n.is_alphanumeric());
            if before.is_lowercase() || before.is_ascii_digit() || (acronym_ends && !plural_s) {
                flush(&mut word, &mut out);
            }
        }
        word.extend(c.to_lowercase());
    }
    flush(&mut word, &mut out);
    out
}

fn flush(word: &mut String, out: &mut Vec<String>) {
    if !word.is_empty() {
        out.push(std::mem::take(word));
    }
}

/// The English stem of a lower-case word, irregular plurals included.
pub fn stem(word: &str) -> String {
    let regular = match word {
        "people" => "person",
        "children" => "child",
        "men" => "man",
        "women" => "woman",
        "indices" | "indexes" => "index",
        "statuses" => "status",
        "media" => "medium",
        other => other,
    };
    Stemmer::create(Algorithm::English).stem(regular).into_owned()
}

/// Stems of a text without its stop words.
pub fn stems(text: &str) -> Vec<String> {
    words(text).iter().filter(|w| !is_stop_word(w)).map(|w| stem(w)).collect()
}

/// Letters, digits and single underscores, lower case, at most 40 bytes, never empty, never a digit first.
pub fn slug(text: &str) -> String {
    let mut out = String::new();
    for word in words(text) {
        let word: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
        if word.is_empty() {
            continue;
        }
        if out.len() + 1 + word.len() > 40 {
            break;
        }
        if !out.is_empty() {
            out.push('_');
        }
        out.push_str(&word);
    }
    if out.is_empty() {
        return "step".to_owned();
    }
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "step_");
    }
    out
}

/// Foreign text on one line: control, bidirectional and invisible characters become blanks, blanks are joined,
/// and at most `limit` characters stay.
pub fn plain(text: &str, limit: usize) -> String {
    let mut out = String::new();
    let mut count = 0;
    let visible = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
            && !('\u{e0000}'..='\u{e007f}').contains(&c)
    };
    for c in text.chars() {
        let c = if visible(c) { c } else { ' ' };
        if c.is_whitespace() && (out.is_empty() || out.ends_with(' ')) {
            continue;
        }
        if count == limit {
            out.truncate(out.trim_end().len());
            out.push('…');
            return out;
        }
        out.push(if c.is_whitespace() { ' ' } else { c });
        count += 1;
    }
    out.truncate(out.trim_end().len());
    out
}

/// `customerId` of `customer_id`, `customer-id`, `Customer ID`: lower camel case.
pub fn camel(text: &str) -> String {
    let mut out = String::new();
    for word in words(text) {
        let word: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
        if out.is_empty() {
            out.push_str(&word);
        } else if let Some(first) = word.chars().next() {
            out.push(first.to_ascii_uppercase());
            out.push_str(&word[1..]);
        }
    }
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "value");
    }
    out
}
