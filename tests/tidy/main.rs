//! Rules about the shape of the code that no compiler checks. Each rule is a function from text to complaints, and is
//! first fed a bad sample, so that a rule that can no longer fail is noticed.

mod crates;
mod docs;
mod files;
mod pages;
mod rules;

use files::Tree;

/// Fail with every complaint, one a line.
fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaint(s):\n  {}", complaints.len(), complaints.join("\n  "));
}

/// Apply a rule for one file to every Rust file.
fn each_rust_file(rule: fn(&str, &str) -> Vec<String>) {
    let tree = Tree::read();
    report(tree.rust().flat_map(|(path, text)| rule(path, text)).collect());
}

#[test]
fn crates_depend_only_where_the_architecture_draws_an_arrow() {
    crates::self_check();
    report(crates::complaints(&crates::metadata()));
}

#[test]
fn every_file_opens_with_its_purpose() {
    assert_eq!(rules::purpose("a.rs", "use std::fs;\n//! late").len(), 1);
    assert_eq!(rules::purpose("a.rs", "//! What it is for.\nuse std::fs;").len(), 0);
    assert_eq!(rules::purpose("a.rs", "//!\n//! Says nothing at first.").len(), 1);
    each_rust_file(rules::purpose);
}

#[test]
fn no_file_is_too_long() {
    assert_eq!(rules::length("a.rs", &"\n".repeat(501)).len(), 1);
    assert_eq!(rules::length("a.rs", &"\n".repeat(500)).len(), 0);
    each_rust_file(rules::length);
}

#[test]
fn nothing_is_left_unfinished() {
    for bad in ["to@do!()", "unimpl@emented!(\"x\")", "db@g!(x)", "#[ign@ore]", "#[ign@ore = \"slow\"]"] {
        let bad = bad.replace('@', "");
        assert_eq!(rules::unfinished("a.rs", &bad).len(), 1, "{bad}");
    }
    assert_eq!(rules::unfinished("a.rs", "let todo = 1; // ignore").len(), 0);
    each_rust_file(rules::unfinished);
}

#[test]
fn every_module_is_declared() {
    let tree = Tree::of(&[
        ("a/src/lib.rs", "mod used;\n#[path = \"odd.rs\"]\nmod other;\npub mod inline {\n    mod inner;\n}"),
        ("a/src/used.rs", "pub(crate) mod deep;"),
        ("a/src/used/deep.rs", ""),
        ("a/src/odd.rs", ""),
        ("a/src/inline/inner.rs", ""),
        ("a/src/forgotten.rs", "mod nobody;"),
        ("a/src/bin/tool.rs", ""),
    ]);
    let found = rules::orphans(&tree);
    assert!(found.len() == 1 && found[0].contains("a/src/forgotten.rs"), "{found:?}");
    report(rules::orphans(&Tree::read()));
}

#[test]
fn documents_name_only_what_exists() {
    let tree = Tree::of(&[("domain/src/lib.rs", "")]);
    let text = "`domain/src/{lib,gone}.rs` `domain/src` `api/gone.rs:12` `GET /api/v1/x` `domain/src/…` `a/b`";
    let found = docs::complaints("README.md", text, &tree);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("domain/src/gone.rs") && found[1].contains("api/gone.rs"), "{found:?}");
    let tree = Tree::read();
    report(tree.documents().flat_map(|(path, text)| docs::complaints(path, text, &tree)).collect());
}

#[test]
fn code_in_the_guide_is_an_excerpt_of_code_that_runs() {
    let guide = "docs/event-log.md";
    let tree = Tree::of(&[("domain/src/tutorial.rs", "fn a() {\n    b();\n}\n"), ("domain/src/lib.rs", "fn c() {}\n")]);
    let complaints = |text: &str| docs::excerpts(guide, text, &tree);
    assert_eq!(complaints("```rust\nfn a() {\n    b();\n}\n```\n```sh\nfn x\n```\n"), [""; 0]);
    for bad in ["```rust\nfn a() { b(); }\n```", "```rust\nfn c() {}\n```", "```rust\n```", "```rust\nfn a() {"] {
        assert_eq!(complaints(bad).len(), 1, "{bad}");
    }
    let tree = Tree::read();
    for (guide, _) in docs::EXCERPTS {
        let text = tree.get(guide).expect("the guide is there");
        assert!(text.contains("\n```rust\n"), "{guide} shows no code");
        report(docs::excerpts(guide, text, &tree));
    }
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    let found = rules::machine_traces("a.md", &rules::machine_patterns().join("\n"));
    assert_eq!(found.len(), rules::machine_patterns().len(), "{found:?}");
    assert_eq!(rules::machine_traces("a.md", "/usr/lib, the work/flow, framework/, user.home/x").len(), 0);
    let tree = Tree::read();
    report(tree.texts().flat_map(|(path, text)| rules::machine_traces(path, text)).collect());
}

#[test]
fn the_changelog_has_a_place_for_what_is_not_released() {
    assert_eq!(docs::changelog(None).len(), 1);
    assert_eq!(docs::changelog(Some("# Changelog\n## 0.1.0\n")).len(), 1);
    assert_eq!(docs::changelog(Some("# Changelog\n\n## Unreleased\n- x\n")).len(), 0);
    report(docs::changelog(Tree::read().get("CHANGELOG.md")));
}

#[test]
fn migrations_are_one_history() {
    let bad = ["0001_a.sql", "0001_b.sql", "2_c.sql", "0004_D.sql", "0005_e.txt"];
    assert_eq!(rules::migrations(&bad).len(), 4, "{:?}", rules::migrations(&bad));
    assert_eq!(rules::migrations(&["0001_roles.sql", "0003_read_models.sql"]).len(), 0);
    let tree = Tree::read();
    let names: Vec<&str> = tree.paths().filter_map(|path| path.strip_prefix("migrations/")).collect();
    assert!(!names.is_empty(), "no migrations were found");
    report(rules::migrations(&names));
}

#[test]
fn error_codes_and_events_have_their_pages() {
    pages::self_check();
    let tree = Tree::read();
    report(pages::errors(&tree).into_iter().chain(pages::events(&tree)).collect());
}
