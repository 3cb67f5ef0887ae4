//! Documents tell of the tree as it is: a path between backticks exists.

use crate::files::Tree;

/// Where paths of this project begin. Anything else between backticks is not ours to judge.
const TOP: [&str; 17] = [
    "src",
    "domain",
    "event-store",
    "vault",
    "commands",
    "projections",
    "integrations",
    "executors",
    "api",
    "replay-tools",
    "migrations",
    "tests",
    "benches",
    "docs",
    "scripts",
    ".ci",
    ".github",
];

/// Guides that show code, and the files that it is taken from.
pub const EXCERPTS: [(&str, &[&str]); 2] = [
    ("docs/event-log.md", &["domain/src/tutorial.rs", "projections/src/tutorial.rs"]),
    ("docs/connectors.md", &["integrations/src/connectors/tutorial.rs"]),
];

/// The paths in a document that do not exist.
pub fn complaints(path: &str, text: &str, tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        // Odd pieces are between backticks.
        for quoted in line.split('`').skip(1).step_by(2) {
            let missing = paths_in(quoted).into_iter().filter(|named| !tree.exists(named));
            found.extend(missing.map(|named| format!("{path}:{number}: {named} does not exist")));
        }
    }
    found
}

/// The paths that a piece of code names, with `{a,b}` spelled out; none when it is something else.
fn paths_in(quoted: &str) -> Vec<String> {
    let is_ours = quoted.split_once('/').is_some_and(|(top, _)| TOP.contains(&top));
    // Patterns, placeholders and commands are no paths.
    if !is_ours || quoted.contains(['*', '<', ' ', '…', '$']) || quoted.contains("...") {
        return Vec::new();
    }
    // `file.rs:12` and `file.rs#L12` point into a file.
    let plain = quoted.split([':', '#']).next().unwrap_or_default();
    spell_out(plain)
}

fn spell_out(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.trim_end_matches('/').to_owned()] };
    let Some((names, after)) = rest.split_once('}') else { return vec![path.to_owned()] };
    names.split(',').flat_map(|name| spell_out(&format!("{before}{}{after}", name.trim()))).collect()
}

/// The Rust in a guide is an excerpt, to the letter, of code that compiles and runs.
pub fn excerpts(path: &str, text: &str, tree: &Tree) -> Vec<String> {
    let Some((_, sources)) = EXCERPTS.into_iter().find(|(guide, _)| *guide == path) else { return Vec::new() };
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (line, number) in text.lines().zip(1..) {
        match &mut open {
            None if line == "```rust" => open = Some((number, String::new())),
            None => {}
            Some((_, block)) if line != "```" => {
                block.push_str(line);
                block.push('\n');
            }
            Some((begun, block)) => {
                let is_there = sources.iter().any(|source| tree.get(source).is_some_and(|code| code.contains(&*block)));
                if block.trim().is_empty() || !is_there {
                    found.push(format!("{path}:{begun}: this code is not in {}", sources.join(" or ")));
                }
                open = None;
            }
        }
    }
    found.extend(open.map(|(begun, _)| format!("{path}:{begun}: this code does not end")));
    found
}

/// `CHANGELOG.md` exists and has a heading for what is not released yet.
pub fn changelog(text: Option<&str>) -> Vec<String> {
    let Some(text) = text else { return vec!["CHANGELOG.md is missing".into()] };
    let has = text.lines().any(|line| line.starts_with('#') && line.to_lowercase().contains("unreleased"));
    if has { Vec::new() } else { vec!["CHANGELOG.md has no section Unreleased".into()] }
}
