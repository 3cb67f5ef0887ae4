//! Pages that follow the code: one for each error code, and the list of events, which is generated.

use std::fmt::Write;

use domain::{catalogue, error::Code, webhook::public_name};

use crate::files::Tree;

const EVENTS: &str = "docs/events.md";
/// Set to anything: write the page instead of comparing it.
const UPDATE: &str = "APIQ_UPDATE_DOCS";

/// Every code has a page, every page a code, and each says what it means, when it comes and what to do.
pub fn errors(tree: &Tree) -> Vec<String> {
    let index = tree.get("docs/errors/README.md").unwrap_or_default();
    let mut found = Vec::new();
    for name in Code::ALL.map(Code::as_str) {
        let path = format!("docs/errors/{name}.md");
        match tree.get(&path) {
            None => found.push(format!("{path} is missing")),
            Some(text) => {
                let title = format!("# {name}\n");
                let parts = [title.as_str(), "\nHTTP status ", "\n## When\n", "\n## What to do\n"];
                let missing = parts.into_iter().find(|part| !text.contains(part));
                found.extend(missing.map(|part| format!("{path} has no {:?}", part.trim())));
            }
        }
        if !index.contains(&format!("]({name}.md)")) {
            found.push(format!("docs/errors/README.md does not name {name}"));
        }
    }
    for path in tree.paths().filter(|path| path.starts_with("docs/errors/")) {
        let name = path.trim_start_matches("docs/errors/").trim_end_matches(".md");
        if name != "README" && !Code::ALL.iter().any(|code| code.as_str() == name) {
            found.push(format!("{path}: there is no such code"));
        }
    }
    found
}

/// The list of events is what the catalogue gives now.
pub fn events(tree: &Tree) -> Vec<String> {
    let wanted = events_page();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(crate::files::root().join(EVENTS), wanted).expect("the page can be written");
        return Vec::new();
    }
    if tree.get(EVENTS) == Some(wanted.as_str()) {
        return Vec::new();
    }
    vec![format!("{EVENTS} is out of date; run: {UPDATE}=1 cargo test --workspace --test tidy")]
}

fn events_page() -> String {
    let mut page = String::from(
        "# Events\n\n\
         Generated from `domain/src/catalogue.rs`; do not edit. Every event that this build writes, by the stream it is\n\
         written to. *Webhook* is the name that subscribers use; events without one are inner matters and are not\n\
         delivered. `credential.read` is written to the stream of whoever reads: an execution, or the test of a\n         connection or connector.\n",
    );
    let mut stream = "";
    for (aggregate, name, version) in catalogue::all() {
        if aggregate != stream {
            stream = aggregate;
            write!(page, "\n## {stream}\n\n| event | version | webhook |\n|---|---|---|\n")
                .expect("a String takes all");
        }
        let public = public_name(name).map_or_else(|| "–".to_owned(), |public| format!("`{public}`"));
        writeln!(page, "| `{name}` | {version} | {public} |").expect("a String takes all");
    }
    page
}

/// Fed bad samples, so that a rule that can no longer fail is noticed.
pub fn self_check() {
    let page = "# CONFLICT\n\nHTTP status 409.\n\n## When\n\n## What to do\n";
    let tree = Tree::of(&[
        ("docs/errors/CONFLICT.md", page),
        ("docs/errors/FORBIDDEN.md", "# FORBIDDEN\n"),
        ("docs/errors/NONSENSE.md", ""),
        ("docs/errors/README.md", "[`CONFLICT`](CONFLICT.md)"),
    ]);
    let found = errors(&tree);
    let about = |text: &str| found.iter().filter(|line| line.contains(text)).count();
    assert_eq!((about("errors/CONFLICT.md"), about("FORBIDDEN"), about("NONSENSE")), (0, 2, 1), "{found:?}");
    assert!(about("is missing") == Code::ALL.len() - 2, "{found:?}");
    assert!(events_page().contains("| `execution.completed` | 1 | `workflow.completed` |"));
}
