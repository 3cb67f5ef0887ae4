//! How a secret may be called: what people read in lists and logs, so nothing that hides or reorders letters.

use crate::error::Faults;

/// Characters a name may have.
pub const MOST: usize = 200;

/// Marks and joiners that are not seen, or turn the direction of what is.
fn is_hidden(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

pub fn check(faults: &mut Faults, field: &str, name: &str) {
    let before = faults.0.len();
    faults.length(field, name, 1, MOST);
    if name.chars().any(char::is_control) {
        faults.add(field, "must not hold line breaks or other control characters");
    } else if name.chars().any(is_hidden) {
        faults.add(field, "must not hold invisible characters");
    }
    if faults.0.len() == before && name.trim() != name {
        faults.add(field, "must not begin or end with a space");
    }
}

/// A sound name from any text, for credentials that nobody has named.
pub fn derived(text: &str, suffix: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control() && !is_hidden(*c)).collect();
    let room = MOST.saturating_sub(suffix.chars().count() + 1);
    let short: String = clean.trim().chars().take(room).collect();
    format!("{} {suffix}", short.trim_end()).trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str) -> usize {
        let mut faults = Faults::default();
        check(&mut faults, "name", name);
        faults.0.len()
    }

    #[test]
    fn names_are_what_people_see() {
        for good in ["a", "CRM key", "Schlüssel – Köln", "キー", "it's \"quoted\" & <b>", &"x".repeat(200)] {
            assert_eq!(faults(good), 0, "{good:?}");
        }
        let long = "x".repeat(201);
        for bad in [
            "",
            " ",
            "\t",
            "a\nb",
            "a\0b",
            "a\u{7f}",
            "a\u{85}b",
            "a\u{202e}b",
            "a\u{200b}b",
            "\u{feff}a",
            " a",
            "a ",
            &long,
        ] {
            assert!(faults(bad) > 0, "{bad:?}");
        }
    }

    #[test]
    fn derived_names_are_sound() {
        for text in ["CRM", "", "\u{202e}x\n", &"y".repeat(300), "  "] {
            let name = derived(text, "credential");
            assert_eq!(faults(&name), 0, "{name:?}");
            assert!(name.ends_with("credential"), "{name:?}");
        }
    }
}
