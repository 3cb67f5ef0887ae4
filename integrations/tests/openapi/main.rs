//! Ingestion of real documents and of bad ones, through the public interface.
//!
//! The real documents, those of several files included, lie in the project's shared folder (`APIQ_SHARED`); without it
//! their test is skipped.

mod archives;
mod several_files;

use std::path::{Path, PathBuf};

use integrations::openapi::{Format, IngestError, IngestErrorKind, Ingested, Limits, Origin, Reader, ingest};

fn take(text: impl AsRef<[u8]>) -> Result<Ingested, IngestError> {
    ingest(text.as_ref(), &Limits::default())
}

/// A document out of an archive.
fn unpacked(archive: Vec<u8>, root: Option<&str>) -> Result<Ingested, IngestError> {
    let origin = Origin { url: None, root: root.map(str::to_owned) };
    let mut reader = Reader::new(archive, &origin, &Limits::default())?;
    assert_eq!(reader.wanted(), [""; 0], "nothing has to be fetched");
    reader.finish().map(|(ingested, _)| ingested)
}

/// The single problem of a refused document.
fn refusal(text: impl AsRef<[u8]>) -> (String, String) {
    let error = take(text).expect_err("the document must be refused");
    assert_eq!(error.kind, IngestErrorKind::Invalid);
    let [problem] = &error.problems[..] else { panic!("one problem expected: {:?}", error.problems) };
    (problem.pointer.clone(), problem.message.clone())
}

fn message(text: impl AsRef<[u8]>) -> String {
    let (pointer, message) = refusal(text);
    assert_eq!(pointer, "");
    message
}

/// The folder of real documents; without it their tests are skipped.
fn shared() -> Option<PathBuf> {
    let shared = std::env::var_os("APIQ_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")));
    let specs = shared.join("specs");
    if specs.join("INDEX.tsv").exists() {
        return Some(specs);
    }
    eprintln!("skipped: no shared documents at {}", specs.display());
    None
}

/// All files below a folder, with names relative to it.
fn files_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.push((name, std::fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_document_has_the_operations_an_independent_count_found() {
    let Some(specs) = shared() else { return };
    let index = std::fs::read_to_string(specs.join("INDEX.tsv")).unwrap();
    let mut rows = index.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let (file, version, ops, hooks) = (column("file"), column("version"), column("ops_python"), column("webhooks_ops"));
    let mut checked = 0;
    for row in rows {
        let Ingested { summary, format, files } = match row[file].split_once('/') {
            None => take(std::fs::read(specs.join(row[file])).unwrap()),
            // Of several files: packed both ways, the root told or found.
            Some((folder, root)) => {
                let files = files_of(&specs.join(folder));
                let found = unpacked(archives::zip(&files), None);
                assert_eq!(found, unpacked(archives::tar_gz(&files), Some(root)), "{}", row[file]);
                found
            }
        }
        .unwrap_or_else(|e| panic!("{}: {e}", row[file]));
        let found = (summary.operations.len(), summary.webhook_count, summary.spec_version.as_str());
        let expected = (row[ops].parse().unwrap(), row[hooks].parse().unwrap(), row[version]);
        assert_eq!(found, expected, "{}", row[file]);
        assert_eq!(format, if row[file].ends_with(".json") { Format::Json } else { Format::Yaml });
        assert!(!summary.title.is_empty(), "{}", row[file]);
        let faults: Vec<_> = summary.warnings.iter().filter(|w| !w.message.contains("has no `responses`")).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", row[file]);
        assert_eq!(files > 1, row[file].contains('/'), "{}", row[file]);
        checked += 1;
    }
    assert!(checked >= 19, "only {checked} documents checked");
}

#[test]
fn what_is_no_openapi_document_is_refused_with_the_reason() {
    assert_eq!(message("\u{feff}<!DOCTYPE html><html>"), "this is an HTML page, not an OpenAPI document");
    assert_eq!(message("  <HTML lang=en><p>404"), "this is an HTML page, not an OpenAPI document");
    assert_eq!(message("<?xml version='1.0'?><wsdl/>"), "this is an XML document, not an OpenAPI document");
    assert_eq!(message(""), "the document is empty");
    assert_eq!(message(" \n\t"), "the document is empty");
    assert_eq!(message("# a comment\n"), "the document is empty");
    assert_eq!(message("[1]"), "an OpenAPI document is an object, this is an array");
    assert_eq!(message("Not Found"), "an OpenAPI document is an object, this is plain text");
    assert_eq!(message(b"\xff{"), "the document is not UTF-8 text: bad byte at offset 0");
    let none = "this is no OpenAPI document: neither `openapi` nor `swagger` tells a version";
    assert_eq!(message(r#"{"info": {}}"#), none);
    assert_eq!(message("paths: {}"), none);
    let (pointer, reason) = refusal("arazzo: 1.0.0");
    assert_eq!((pointer.as_str(), reason.as_str()), ("/arazzo", "this is an Arazzo document, not an OpenAPI document"));
    let (pointer, reason) = refusal(r#"{"swagger": "1.2"}"#);
    assert_eq!(
        (pointer.as_str(), reason.as_str()),
        ("/swagger", "version 1.2 is not supported: 2.0 and 3.0 to 3.2 are")
    );
}

#[test]
fn broken_syntax_names_line_and_column() {
    let truncated = "{\"openapi\": \"3.0.0\",\n \"paths\": {\"/a\": ";
    assert_eq!(message(truncated), "not valid JSON: EOF while parsing a value at line 2 column 17");
    assert_eq!(message(r#"{"openapi": "3.0.0"} x"#), "not valid JSON: trailing characters at line 1 column 22");
    let tab = message("openapi: 3.0.0\npaths:\n\t/a: {}\n");
    assert!(tab.starts_with("not valid YAML: ") && tab.contains("at line 3 column "), "{tab}");
    let alias = message("openapi: 3.0.0\npaths: &p {a: *p}\n");
    assert_eq!(alias, "an alias refers to a value that contains it at line 2 column 15");
    assert_eq!(message("? [a]\n: b\n"), "a list or mapping as a key is not supported at line 1 column 3");
}

#[test]
fn a_document_without_operations_is_taken() {
    let summary = take("openapi: 3.1.0\ninfo: {title: t, version: '1'}\ncomponents: {}\n").unwrap().summary;
    assert_eq!(summary.operations.len(), 0);
    assert_eq!(summary.warnings[0].message, "the document has no `paths`");
    assert_eq!(take("{openapi: 3.0.0, paths: {}}").unwrap().format, Format::Yaml);
}

#[test]
fn caps_refuse_with_place_and_reason() {
    let small = Limits { max_bytes: 10, max_operations: 1, max_nodes: 40, ..Limits::default() };
    let error = ingest(b"openapi: 3.0.0", &small).unwrap_err();
    assert_eq!(error.kind, IngestErrorKind::TooLarge);
    assert_eq!(error.problems[0].message, "the document has 14 bytes, with all its files, more than the 10 allowed");
    let limits = Limits { max_bytes: 1_000, ..small };
    let two = "openapi: 3.0.0\npaths:\n  /a: {get: {}}\n  /b: {get: {}}\n";
    let error = ingest(two.as_bytes(), &limits).unwrap_err();
    assert_eq!(error.to_string(), "/paths/~1b: the document has more than 1 operations");
    let many = format!("[{}1]", "1,".repeat(100));
    let error = ingest(many.as_bytes(), &limits).unwrap_err();
    assert_eq!(error.to_string(), "the document has more than 40 keys and values at line 1 column 80");
    let limits = Limits { max_warnings: 2, ..Limits::default() };
    let five: String = (0..5).map(|i| format!("  /{i}: 1\n")).collect();
    let summary = ingest(format!("openapi: 3.0.0\ninfo: {{title: t, version: 1}}\npaths:\n{five}").as_bytes(), &limits);
    let warnings = summary.unwrap().summary.warnings;
    assert_eq!((warnings.len(), warnings[2].message.as_str()), (3, "3 more warnings are not listed"));
}

#[test]
fn a_hundred_thousand_levels_are_refused_where_they_pass_the_cap() {
    let depth = 100_000;
    let too_deep = "the document is nested deeper than 120 levels at line 1 column";
    let json = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    assert_eq!(message(&json), format!("{too_deep} 601"));
    assert_eq!(message("[".repeat(depth)), format!("{too_deep} 121"));
    assert_eq!(message("- ".repeat(depth)), format!("{too_deep} 241"));
    assert_eq!(message(format!("a: {}", "[".repeat(depth))), format!("{too_deep} 124"));
    assert_eq!(message("{a: ".repeat(depth)), format!("{too_deep} 481"));
    // A cap beyond what the JSON parser allows itself still ends in a refusal, not in a stack overflow.
    let error = ingest(json.as_bytes(), &Limits { max_depth: 1 << 20, ..Limits::default() }).unwrap_err();
    assert!(error.to_string().starts_with("the document is nested deeper than 127 levels at line 1"), "{error}");
}

#[test]
fn an_alias_bomb_stays_small() {
    let mut text = "openapi: 3.0.0\ninfo: {title: t, version: '1'}\nx0: &x0 {type: object}\n".to_string();
    for i in 1..60 {
        let inner: Vec<String> = (0..9).map(|j| format!("p{j}: *x{}", i - 1)).collect();
        text += &format!("x{i}: &x{i} {{properties: {{{}}}}}\n", inner.join(", "));
    }
    text += "paths:\n  /a: {get: {responses: {200: {description: d, content: {a/json: {schema: *x59, \
             example: *x59}}}}}}\n";
    let summary = take(&text).unwrap().summary;
    let schema = summary.operations[0].responses[0].schema.as_ref().unwrap();
    assert!(schema.properties.len() == 9 && schema.example.is_none());
    assert!(serde_json::to_vec(&summary).unwrap().len() < 50_000);
    let merges = format!("m: &m {{{}}}\nn: {{<<: [{}*m]}}\n", "k: 1, ".repeat(2_000), "*m, ".repeat(2_000));
    assert_eq!(message(merges), "merge keys (`<<`) unfold to more than 1000000 members at line 2 column 8013");
}

#[test]
fn references_in_circles_and_shared_too_often_end() {
    let circle = r##"{"openapi": "3.0.0", "info": {"title": "t", "version": "1"}, "paths": {
        "/a": {"$ref": "#/paths/~1a"}, "/b": {"get": {"$ref": "#/paths/~1b/get"}},
        "/c": {"get": {"parameters": [{"$ref": "#/paths/~1c/get/parameters/0"}], "responses": {"200": {"description": "",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}}}}}
    }, "components": {"schemas": {
        "A": {"allOf": [{"$ref": "#/components/schemas/B"}]}, "B": {"oneOf": [{"$ref": "#/components/schemas/A"}]}
    }}}"##;
    let summary = take(circle).unwrap().summary;
    assert_eq!(summary.operations.len(), 2);
    assert_eq!(summary.operations[1].responses[0].schema.as_ref().unwrap().name.as_deref(), Some("A"));
    // 2 MB that would unfold to 20,000 times 2,000 parameters.
    let list: Vec<String> = (0..2_000).map(|i| format!(r#"{{"name":"q{i}","in":"query"}}"#)).collect();
    let refs: Vec<String> = (0..19_999).map(|i| format!(r##""/p{i}":{{"$ref":"#/paths/~1x"}}"##)).collect();
    let bomb = format!(
        r#"{{"openapi":"3.0.0","paths":{{"/x":{{"get":{{"parameters":[{}],"responses":{{}}}}}},{}}}}}"#,
        list.join(","),
        refs.join(",")
    );
    let limits = Limits { max_summary_bytes: 16 << 20, ..Limits::default() };
    let error = ingest(bomb.as_bytes(), &limits).unwrap_err();
    let problem = &error.problems[0];
    assert!(problem.pointer.starts_with("/paths/~1"), "{error}");
    assert!(problem.message.ends_with("unfolds to more than 16 MiB"), "{error}");
}
