//! Rules about single files and about modules.

use std::collections::BTreeSet;

use crate::files::Tree;

/// Past this many lines a file has a seam somewhere.
const MOST_LINES: usize = 500;

/// A file's first line says what it is for.
pub fn purpose(path: &str, text: &str) -> Vec<String> {
    let first = text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//!").is_some_and(|purpose| purpose.trim().len() > 5);
    complain(!says, || format!("{path}: the first line must be `//!` and the file's purpose"))
}

pub fn length(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    complain(lines > MOST_LINES, || format!("{path}: {lines} lines, more than {MOST_LINES}; find the seam"))
}

/// Built from halves, so that this file does not hold what it looks for.
pub fn unfinished(path: &str, text: &str) -> Vec<String> {
    let marks =
        [["to", "do!("], ["unimpl", "emented!("], ["db", "g!("], ["#[ign", "ore"]].map(|halves| halves.concat());
    let lines = text.lines().zip(1..);
    lines
        .filter(|(line, _)| marks.iter().any(|mark| line.contains(mark.as_str())))
        .map(|(line, number)| format!("{path}:{number}: unfinished or switched off: {}", line.trim()))
        .collect()
}

/// What must not be in any file: folders of a machine, and hosts of package registries. Built from halves as well.
pub fn machine_patterns() -> Vec<String> {
    let halves = [
        ["/wor", "k/main"],
        ["/wor", "k/shared"],
        ["/roo", "t/"],
        ["/hom", "e/"],
        ["/User", "s/"],
        ["/tmp/b", "rief"],
        ["crates", ".io"],
        ["registry.npm", "js.org"],
        ["pypi", ".org"],
        ["proxy.golang", ".org"],
        ["registry-1.dock", "er.io"],
    ];
    halves.into_iter().map(|halves| halves.concat()).collect()
}

/// The lock file names the default registry; it is written by cargo and has no choice.
pub fn machine_traces(path: &str, text: &str) -> Vec<String> {
    if path == "Cargo.lock" {
        return Vec::new();
    }
    let patterns = machine_patterns();
    let hits = text.lines().zip(1..).flat_map(|(line, number)| {
        let found = patterns.iter().filter(move |pattern| mentions(line, pattern));
        found.map(move |pattern| format!("{path}:{number}: names {pattern}"))
    });
    hits.collect()
}

/// A folder counts where a path begins, not inside `user.home/` or `framework/…`.
fn mentions(line: &str, pattern: &str) -> bool {
    line.match_indices(pattern).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !pattern.starts_with('/') || !before.is_some_and(|before| before.is_alphanumeric() || "._-}".contains(before))
    })
}

/// Rust files under a `src` folder (or a folder of tests or benches) that no module declaration reaches.
pub fn orphans(tree: &Tree) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<String> = tree.rust().map(|(path, _)| path.to_owned()).filter(|path| is_root(path)).collect();
    while let Some(path) = open.pop() {
        if let Some(text) = tree.get(&path).filter(|_| reached.insert(path.clone())) {
            open.extend(declared(&path, text));
        }
    }
    let paths = tree.rust().map(|(path, _)| path).filter(|path| !reached.contains(*path));
    paths.map(|path| format!("{path}: no `mod` declares it")).collect()
}

/// Files that cargo itself compiles, or that stand alone.
fn is_root(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_under = |kind: &str| folder == kind || folder.ends_with(&format!("/{kind}"));
    let crate_root = is_under("src") && matches!(name, "main.rs" | "lib.rs");
    let parent = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
    let target = ["tests", "benches", "examples", "bin"].iter().any(|kind| {
        is_under(kind) || (name == "main.rs" && (parent == *kind || parent.ends_with(&format!("/{kind}"))))
    });
    crate_root || target || name == "build.rs"
}

/// The files that the module declarations of one file may stand for.
fn declared(path: &str, text: &str) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.trim_end_matches(".rs");
    // A crate's root and `mod.rs` keep their modules beside them, any other file in a folder of its name.
    let home = if is_root(path) || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    let mut found = Vec::new();
    let mut given: Option<String> = None;
    let mut inline: Vec<(usize, String)> = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let code = line.trim();
        if code.starts_with('}') {
            inline.retain(|(depth, _)| *depth < indent);
        }
        if let Some(path) = code.strip_prefix("#[path = \"").and_then(|rest| rest.split('"').next()) {
            given = Some(path.to_owned());
            continue;
        }
        let Some(module) = module_name(code) else { continue };
        let inside: String = inline.iter().map(|(_, name)| format!("{name}/")).collect();
        if code.ends_with('{') {
            inline.push((indent, module.to_owned()));
            continue;
        }
        match given.take() {
            Some(path) => found.push(normal(&format!("{folder}/{path}"))),
            None => {
                found.push(format!("{home}/{inside}{module}.rs"));
                found.push(format!("{home}/{inside}{module}/mod.rs"));
            }
        }
    }
    found
}

/// `pub(crate) mod name;` or `mod name {` → `name`.
fn module_name(code: &str) -> Option<&str> {
    let rest = match code.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1,
        Some(rest) => rest,
        None => code,
    };
    let rest = rest.trim_start().strip_prefix("mod ")?;
    let name = rest.trim_end_matches([';', '{']).trim();
    let plain = !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    (plain && rest.ends_with([';', '{'])).then_some(name)
}

/// Resolve `..` in a path.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// `NNNN_name.sql`, numbers strictly rising in the order of names.
pub fn migrations(names: &[&str]) -> Vec<String> {
    let mut last = 0;
    let mut found = Vec::new();
    for name in names {
        let parts = name.strip_suffix(".sql").and_then(|stem| stem.split_once('_'));
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let number = parts.filter(|(number, rest)| number.len() == 4 && !rest.is_empty() && plain(rest));
        match number.and_then(|(number, _)| number.parse::<u32>().ok()) {
            None => found.push(format!("migrations/{name}: not named NNNN_name.sql")),
            Some(number) if number <= last => found.push(format!("migrations/{name}: number {number} is used twice")),
            Some(number) => last = number,
        }
    }
    found
}

fn complain(wrong: bool, sentence: impl FnOnce() -> String) -> Vec<String> {
    if wrong { vec![sentence()] } else { Vec::new() }
}
