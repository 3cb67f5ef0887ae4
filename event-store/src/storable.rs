//! What Postgres's `json` would take and every operator on it would choke on later.

/// JSON nested deeper than this is refused.
const MAX_DEPTH: usize = 128;

/// Why a JSON text must not be stored; `None` when it may. The text's grammar is Postgres's to check.
pub(crate) fn fault(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut in_string) = (0, 0usize, false);
    while at < bytes.len() {
        match bytes[at] {
            0 => return Some("a text holds a NUL character"),
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                at += 1;
                if bytes.get(at) == Some(&b'u') {
                    match escaped(bytes, at) {
                        Some(0) => return Some("a text holds a NUL character"),
                        Some(0xD800..=0xDBFF) => {
                            let pair = bytes.get(at + 5..at + 7) == Some(b"\\u");
                            match pair.then(|| escaped(bytes, at + 6)).flatten() {
                                Some(0xDC00..=0xDFFF) => at += 6,
                                _ => return Some("a text holds half of a surrogate pair"),
                            }
                        }
                        Some(0xDC00..=0xDFFF) => return Some("a text holds half of a surrogate pair"),
                        _ => {}
                    }
                }
            }
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some("it is nested more than 128 deep");
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The code unit of `uXXXX` at `at`.
fn escaped(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = std::str::from_utf8(bytes.get(at + 1..at + 5)?).ok()?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_nul_is_told_from_its_spelling() {
        assert!(fault(r#"{"a":"x\u0000"}"#).is_some());
        assert!(fault(r#"{"a":"\\\u0000"}"#).is_some());
        assert!(fault("{\"a\":\"\0\"}").is_some());
        assert_eq!(fault(r#"{"a":"\\u0000"}"#), None);
        assert_eq!(fault("{}"), None);
    }

    #[test]
    fn surrogates_come_in_pairs() {
        assert_eq!(fault(r#"{"a":"\ud83d\ude00"}"#), None);
        assert!(fault(r#"{"a":"\ud83d"}"#).is_some());
        assert!(fault(r#"{"a":"\ud83dx\ude00"}"#).is_some());
        assert!(fault(r#"{"a":"\ude00"}"#).is_some());
        assert_eq!(fault(r#"{"a":"\\ud83d"}"#), None);
    }

    #[test]
    fn depth_is_counted_outside_texts() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(fault(&nested(128)), None);
        assert!(fault(&nested(129)).is_some());
        assert_eq!(fault(&format!("[\"{}\"]", "[".repeat(500))), None);
        assert_eq!(fault(&format!("[{}]", vec!["[]"; 500].join(","))), None);
    }
}
