//! Scopes: how they are written, and which of those that are needed a grant lacks.

use super::Dialect;

/// RFC 6749, 3.3: `scope-token`, of a length that somebody may mean.
pub fn is_token(scope: &str) -> bool {
    let fits = |b: u8| b == 0x21 || (0x23..=0x5b).contains(&b) || (0x5d..=0x7e).contains(&b);
    (1..=300).contains(&scope.len()) && scope.bytes().all(fits)
}

pub(super) fn is_printable(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|b| (0x20..=0x7e).contains(&b))
}

/// A list as it stands in a parameter: by spaces, as the standard wants it, or by commas, as some do. Each once.
pub fn parse(text: &str) -> Vec<String> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in text.split([' ', ',']).filter(|scope| is_token(scope)) {
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes
}

/// Those that are needed and that nothing in the grant stands for.
pub fn lacking<'a>(dialect: Dialect, granted: &[String], needed: &'a [String]) -> Vec<&'a str> {
    let is_there = |scope: &str| granted.iter().any(|known| known == scope || implies(dialect, known, scope));
    needed.iter().map(String::as_str).filter(|scope| !is_there(scope)).collect()
}

/// GitHub's scopes hold others, and the answer names the widest only.
fn implies(dialect: Dialect, granted: &str, needed: &str) -> bool {
    if dialect != Dialect::Github {
        return false;
    }
    match granted.split_once(':') {
        Some(("admin", noun)) => {
            needed.split_once(':').is_some_and(|(verb, of)| of == noun && ["write", "read"].contains(&verb))
        }
        Some(("write", noun)) => needed.strip_prefix("read:") == Some(noun),
        Some(_) => false,
        None if granted == "repo" => needed == "public_repo" || needed.starts_with("repo:"),
        None if granted == "user" => ["read:user", "user:email", "user:follow"].contains(&needed),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(scopes: &[&str]) -> Vec<String> {
        scopes.iter().map(|scope| (*scope).to_owned()).collect()
    }

    #[test]
    fn lists_are_read_in_both_forms() {
        assert_eq!(parse("repo user"), ["repo", "user"]);
        assert_eq!(parse("repo,user,repo"), ["repo", "user"]);
        assert_eq!(parse(" \u{7f} a\"b ok"), ["ok"]);
        assert!(parse("").is_empty());
        assert!(!is_token("a b") && !is_token("") && !is_token("ä") && is_token("https://www.googleapis.com/auth/x"));
    }

    #[test]
    fn what_a_grant_lacks() {
        let lacks = |dialect, granted: &[&str], needed: &[&str]| {
            lacking(dialect, &owned(granted), &owned(needed)).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lacks(Dialect::Standard, &["a"], &["a", "b"]), ["b"]);
        assert!(lacks(Dialect::Github, &["repo", "admin:org"], &["public_repo", "repo:status", "read:org"]).is_empty());
        assert_eq!(lacks(Dialect::Github, &["read:org"], &["write:org"]), ["write:org"]);
        assert_eq!(lacks(Dialect::Standard, &["repo"], &["public_repo"]), ["public_repo"], "nobody else means that");
    }
}
