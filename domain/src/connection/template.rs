//! Templates of custom headers: text with `{{ secret.NAME }}` in it, and nothing else. No expression is evaluated.

use std::collections::BTreeMap;

/// Longest template, in bytes.
const MAX_BYTES: usize = 4 * 1024;
const MAX_NAME: usize = 64;

enum Piece<'a> {
    Text(&'a str),
    Secret(&'a str),
}

/// The secrets a template names; or what is wrong with it, in words.
pub fn names(template: &str) -> Result<Vec<String>, String> {
    let secret = |piece: &Piece<'_>| match piece {
        Piece::Secret(name) => Some((*name).to_owned()),
        Piece::Text(_) => None,
    };
    Ok(pieces(template)?.iter().filter_map(secret).collect())
}

/// The template with every secret's value in its place. The error names what is missing, never a value.
pub fn fill(template: &str, secrets: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    for piece in pieces(template)? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Secret(name) => match secrets.get(name) {
                Some(value) => out.push_str(value),
                None => return Err(format!("the credential has no value for secret.{name}")),
            },
        }
    }
    Ok(out)
}

/// A secret's name: a letter or underscore, then letters, digits and underscores.
pub fn is_name(name: &str) -> bool {
    let head = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    head && name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn pieces(template: &str) -> Result<Vec<Piece<'_>>, String> {
    if template.is_empty() || template.len() > MAX_BYTES {
        return Err(format!("must have 1 to {MAX_BYTES} bytes"));
    }
    if template.chars().any(char::is_control) {
        return Err("must not hold line breaks or other control characters".into());
    }
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, tail) = after.split_once("}}").ok_or("opens {{ and does not close it")?;
        let name = inside.trim().strip_prefix("secret.").filter(|name| is_name(name));
        let name = name.ok_or("may hold {{ secret.NAME }} in braces and nothing else")?;
        pieces.push(Piece::Text(before));
        pieces.push(Piece::Secret(name));
        rest = tail;
    }
    if rest.contains("}}") || template.contains("{%") {
        return Err("may hold {{ secret.NAME }} in braces and nothing else".into());
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stand_where_they_are_named() {
        let secrets =
            BTreeMap::from([("A".to_owned(), "{{ secret.B }}".to_owned()), ("b_1".to_owned(), "two".to_owned())]);
        let filled = fill("Token {{ secret.A }}, {{secret.b_1}}{{secret.b_1}}.", &secrets).unwrap();
        assert_eq!(filled, "Token {{ secret.B }}, twotwo.", "a value is no template");
        assert_eq!(fill("{{ secret.C }}", &secrets).unwrap_err(), "the credential has no value for secret.C");
        assert_eq!(names("x").unwrap(), [""; 0]);
    }

    #[test]
    fn nothing_else_is_evaluated() {
        for bad in [
            "{{ input.A }}",
            "{{ secret.A | upper }}",
            "{{ secret.A }} }}",
            "{{ secret.A",
            "{{ secret. }}",
            "{{ secret.1A }}",
            "{{ secret.A.B }}",
            "{{ secret['A'] }}",
            "{{{ secret.A }}}",
            "{% if secret.A %}",
            "{{ secret.A }}\nX: y",
            "",
        ] {
            assert!(names(bad).is_err(), "{bad:?}");
        }
        assert!(names(&"x".repeat(5_000)).is_err());
        assert!(names(&format!("{{{{ secret.{} }}}}", "a".repeat(65))).is_err());
    }
}
