//! Documents of several files: in archives, at URLs, and archives that are up to no good.

use std::time::Duration;

use domain::operation::SpecSummary;
use integrations::openapi::{IngestError, IngestErrorKind, Limits, Origin, Part, Reader, ingest};

use crate::archives::{gz, tar_gz, tar_with, zip, zip_with_link};
use crate::unpacked;

const ROOT: &str = "
openapi: 3.0.3
info: {title: Pets, version: '1', description: {$ref: 'texts.yaml#/intro'}}
paths:
  $ref: paths/all.yaml
  /own: {get: {operationId: own, responses: {default: {$ref: 'shared/answers.yaml#/error'}}}}
components:
  securitySchemes: {$ref: shared/security.yaml}
  schemas:
    Pet: {$ref: 'models/my pet.yaml'}
";

fn pets() -> Vec<(&'static str, &'static str)> {
    vec![
        ("texts.yaml", "intro: Keeps pets."),
        (
            "lists.yaml",
            "tags: [pets]
answers: {200: {$ref: 'shared/answers.yaml#/error'}}
",
        ),
        (
            "paths/all.yaml",
            "/own: {put: {responses: {}}}
/pets/{id}: {$ref: pets.yaml}
/owners: {get: {$ref: '../operations.json#/owners'}}
/lists: {get: {tags: {$ref: '../lists.yaml#/tags'}, responses: {$ref: '../lists.yaml#/answers'}}}
",
        ),
        (
            "paths/pets.yaml",
            "parameters: [{$ref: ../shared/parameters.yaml#/id}]
get:
  operationId: getPet
  security: [{key: []}]
  responses:
    200: {description: ok, content: {application/json: {schema: {$ref: '../models/my%20pet.yaml'}}}}
",
        ),
        ("shared/parameters.yaml", "id: {name: id, in: path, required: true, schema: {type: integer}}"),
        (
            "shared/answers.yaml",
            "error: {description: bad, content: {application/json: {schema: {$ref: '../models/error.yaml#/Error'}}}}",
        ),
        ("shared/security.yaml", "key: {type: apiKey, in: header, name: X-Key}"),
        ("models/error.yaml", "Error: {type: object, properties: {code: {type: string}}}"),
        (
            "models/my pet.yaml",
            "type: object
properties:
  name: {type: string}
  default: {$ref: error.yaml#/Error}
  parent: {$ref: '#'}
  owner: {$ref: ../spec.yaml#/components/schemas/Pet}
",
        ),
        ("operations.json", r#"{"owners": {"operationId": "owners", "responses": {"200": {"description": "ok"}}}}"#),
    ]
}

fn read(files: &[(&str, &str)]) -> SpecSummary {
    unpacked(zip(files), None).unwrap_or_else(|e| panic!("{e}")).summary
}

fn refused(archive: Vec<u8>) -> String {
    refused_within(archive, &Limits::default())
}

fn refused_within(archive: Vec<u8>, limits: &Limits) -> String {
    match Reader::new(archive, &Origin::default(), limits) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("the archive must be refused"),
    }
}

fn warnings(summary: &SpecSummary) -> Vec<(&str, &str)> {
    summary.warnings.iter().map(|w| (w.pointer.as_str(), w.message.as_str())).collect()
}

#[test]
fn files_are_put_together() {
    let mut files = pets();
    files.push(("spec.yaml", ROOT));
    let summary = read(&files);
    let names: Vec<String> = summary.operations.iter().map(|o| format!("{} {}", o.method, o.path)).collect();
    assert_eq!(
        names,
        ["GET /own", "GET /pets/{id}", "GET /owners", "GET /lists"],
        "what stands beside a reference comes first"
    );
    assert_eq!(summary.description.as_deref(), Some("Keeps pets."));
    assert_eq!(summary.security_schemes[0].name, "key");
    assert_eq!(summary.operations[2].operation_id.as_deref(), Some("owners"));
    let lists = &summary.operations[3];
    assert_eq!((lists.tags.as_slice(), lists.responses.len()), (&["pets".to_owned()][..], 1));
    let get = &summary.operations[1];
    assert_eq!((get.parameters[0].name.as_str(), get.parameters[0].schema.kind.as_str()), ("id", "integer"));
    let pet = get.responses[0].schema.as_ref().unwrap();
    assert_eq!(pet.name.as_deref(), Some("my pet"));
    let parts: Vec<(&str, Option<&str>, bool)> =
        pet.properties.iter().map(|p| (p.name.as_str(), p.schema.name.as_deref(), p.schema.truncated)).collect();
    let expected = [
        ("name", None, false),
        ("default", Some("Error"), false),
        ("parent", Some(""), true),
        ("owner", Some("Pet"), true),
    ];
    assert_eq!(parts, expected);
    let error = summary.operations[0].responses[0].schema.as_ref().unwrap();
    assert_eq!((error.name.as_deref(), error.properties.len()), (Some("Error"), 1));
    assert_eq!(warnings(&summary), []);
    assert_eq!(unpacked(tar_gz(&files), Some("./spec.yaml")).unwrap().summary, summary);
}

#[test]
fn what_is_missing_or_wrong_is_told_where_it_is() {
    let summary = read(&[
        (
            "openapi.yaml",
            "openapi: 3.0.0\ninfo: {title: t, version: 1}\npaths:\n  /a: {$ref: a.yaml}\n  /b: {get: {$ref: gone.yaml}}\n  \
             /c: {get: {$ref: broken.yaml}}\n  /d: {get: {$ref: 'file:///etc/passwd'}}\n  /e: {get: {$ref: '../../etc/passwd'}}\n  \
             /f: {get: {$ref: 'a.yaml#/put'}}\n",
        ),
        ("a.yaml", "get: {parameters: [{in: query}], responses: {200: {$ref: '#/gone'}}}\n"),
        ("broken.yaml", "a: [1\n"),
    ]);
    assert_eq!(summary.operations.len(), 6, "an operation is kept, whatever its reference");
    let found = warnings(&summary);
    let outside = "the reference `file:///etc/passwd` is neither a file of an archive nor an http or https URL";
    for expected in [
        ("a.yaml#/get/parameters/0", "a parameter needs a `name` and an `in`: it is left out"),
        ("a.yaml#/get/responses/200/$ref", "the reference `#/gone` leads nowhere"),
        ("/paths/~1b/get/$ref", "the reference `gone.yaml` leads to a file that the archive does not hold"),
        ("/paths/~1d/get/$ref", outside),
        ("/paths/~1e/get/$ref", "the reference `../../etc/passwd` leads to a file that the archive does not hold"),
        ("/paths/~1f/get/$ref", "the reference `a.yaml#/put` leads nowhere"),
    ] {
        assert!(found.contains(&expected), "{expected:?} is not in {found:#?}");
    }
    let broken = found.iter().find(|(pointer, _)| *pointer == "/paths/~1c/get/$ref").unwrap();
    assert!(broken.1.contains("cannot be read: not valid YAML"), "{broken:?}");
}

#[test]
fn the_root_is_found_or_asked_for() {
    let spec = "swagger: '2.0'\ninfo: {title: t, version: 1}\npaths: {}\n";
    let other = "openapi: 3.0.0\ninfo: {title: other, version: 1}\npaths: {}\n";
    let title = |files: &[(&str, &str)], root: Option<&str>| unpacked(zip(files), root).unwrap().summary.title;
    assert_eq!(title(&[("x/whatever.yml", spec), ("openapi.yaml", "not: one")], None), "t", "the only one");
    assert_eq!(title(&[("a/api.yaml", spec), ("a/old/openapi.yaml", other), ("b.yaml", other)], None), "t");
    assert_eq!(title(&[("a.yaml", spec), ("b.yaml", other)], Some("b.yaml")), "other");
    let several = refused(zip(&[("a.yaml", spec), ("b.yaml", other)]));
    assert_eq!(several, "the archive holds 2 OpenAPI documents (a.yaml, b.yaml): name one of them as specRoot");
    let same = refused(zip(&[("openapi.yaml", spec), ("openapi.json", r#"{"openapi": "3.0.0"}"#)]));
    assert!(same.contains("name one of them"), "{same}");
    assert_eq!(
        refused(zip(&[("readme.md", "no openapi here")])),
        "none of the archive's 1 files is an OpenAPI document"
    );
    assert_eq!(refused(zip::<&str, &str>(&[])), "none of the archive's 0 files is an OpenAPI document");
    let gone = unpacked(zip(&[("a.yaml", spec)]), Some("c.yaml")).unwrap_err();
    assert_eq!(gone.to_string(), "the archive has no file `c.yaml`, which specRoot names");
}

#[test]
fn names_that_lead_out_and_links_are_refused() {
    let out = |archive: Vec<u8>| assert!(refused(archive).ends_with("leads out of the archive"));
    for name in ["../evil.yaml", "a/../../evil.yaml", "/etc/evil.yaml", "C:/evil.yaml", "..\\evil.yaml"] {
        out(tar_gz(&[(name, "openapi: 3.0.0")]));
    }
    out(zip(&[("../evil.yaml", "openapi: 3.0.0")]));
    let link = |archive: Vec<u8>| assert!(refused(archive).contains("is a link or a device"));
    link(zip_with_link("openapi.yaml", "/etc/passwd"));
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Char, tar::EntryType::Fifo] {
        link(tar_with(kind, "openapi.yaml", "/etc/passwd"));
    }
    let twice = refused(tar_gz(&[("a.yaml", "a: 1"), ("./a.yaml", "a: 2")]));
    assert_eq!(twice, "the archive's file `a.yaml` is in the archive twice");
}

#[test]
fn bombs_and_damage_are_refused() {
    let limits = Limits { max_bytes: 1 << 20, max_files: 10, ..Limits::default() };
    let zeros = vec![b' '; 64 << 20];
    let too_much = "the archive unpacks to more than the 1048576 bytes allowed";
    assert_eq!(refused_within(zip(&[("openapi.yaml", &zeros)]), &limits), too_much);
    assert_eq!(refused_within(gz(&zeros), &limits), too_much);
    let half = vec![b' '; 600 << 10];
    assert_eq!(refused_within(tar_gz(&[("a", &half), ("b", &half)]), &limits), too_much);
    let many: Vec<(String, &str)> = (0..11).map(|i| (format!("f{i}"), "")).collect();
    assert_eq!(refused_within(zip(&many), &limits), "the archive has more than 10 files");
    assert_eq!(refused_within(tar_gz(&many), &limits), "the archive has more than 10 files");
    // A name of 64 MB, which a tar archive may have, is not read as a whole.
    let long = refused_within(tar_gz(&[("n".repeat(64 << 20), "")]), &limits);
    assert!(long.contains("damaged") || long.contains("too long a name"), "{long}");

    let good = zip(&[("openapi.yaml", "openapi: 3.0.0")]);
    assert!(refused(good[..good.len() / 2].to_vec()).contains("damaged"));
    let good = tar_gz(&[("openapi.yaml", "openapi: 3.0.0\n".repeat(1_000))]);
    assert!(refused(good[..good.len() / 2].to_vec()).contains("damaged"));
    assert!(refused(b"PK\x03\x04".to_vec()).contains("damaged"));
    assert!(refused(b"\x1f\x8b\x08".to_vec()).contains("damaged"));
}

#[test]
fn a_single_document_may_be_gzipped_or_utf_16() {
    let text = "openapi: 3.0.0\ninfo: {title: Bücher, version: '1'}\npaths: {}\n";
    let title = |bytes: &[u8]| ingest(bytes, &Limits::default()).unwrap().summary.title;
    assert_eq!(title(&gz(text.as_bytes())), "Bücher");
    let wide = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(order).collect()
    };
    assert_eq!(title(&wide(u16::to_le_bytes)), "Bücher");
    assert_eq!(title(&wide(u16::to_be_bytes)), "Bücher");
}

fn at(url: &str, text: &str, limits: &Limits) -> Result<Reader<'static>, IngestError> {
    Reader::new(text.as_bytes().to_vec(), &Origin { url: Some(url.into()), root: None }, limits)
}

fn part(text: &str) -> Result<Part, String> {
    Ok(text.as_bytes().to_vec().into())
}

#[test]
fn references_of_a_redirected_file_are_relative_to_where_it_was_in_the_end() {
    let root = "openapi: 3.0.0\ninfo: {title: t, version: 1}\npaths:\n  /a: {$ref: 'latest/a.yaml'}\n  \
                /b: {$ref: 'https://cdn.test/v2/a.yaml'}\n";
    let mut reader = at("https://api.test/openapi.yaml", root, &Limits::default()).unwrap();
    assert_eq!(reader.wanted(), ["https://api.test/latest/a.yaml", "https://cdn.test/v2/a.yaml"]);
    let item = "get: {responses: {200: {description: d, content: {a/json: {schema: {$ref: models.yaml}}}}}}";
    let moved = Part { bytes: item.into(), url: Some("https://cdn.test/v2/a.yaml".into()) };
    reader.give("https://api.test/latest/a.yaml", Ok(moved)).unwrap();
    reader.give("https://cdn.test/v2/a.yaml", part(item)).unwrap();
    assert_eq!(reader.wanted(), ["https://cdn.test/v2/models.yaml"], "not https://api.test/latest/models.yaml");
    reader.give("https://cdn.test/v2/models.yaml", part("type: string")).unwrap();
    let summary = reader.finish().unwrap().0.summary;
    assert_eq!((warnings(&summary), summary.operations.len()), (vec![], 2));

    // Where it was in the end is not fetched once more.
    let root = root.replace("'https://cdn.test/v2/a.yaml'", "'latest/a.yaml'");
    let mut reader = at("https://api.test/openapi.yaml", &root, &Limits::default()).unwrap();
    reader.wanted();
    let itself = "get: {responses: {200: {$ref: 'a.yaml#/d'}}}\nd: {description: d}";
    let moved = Part { bytes: itself.into(), url: Some("https://cdn.test/v2/a.yaml".into()) };
    reader.give("https://api.test/latest/a.yaml", Ok(moved)).unwrap();
    assert_eq!(reader.wanted(), [""; 0]);
    assert_eq!(warnings(&reader.finish().unwrap().0.summary), []);
}

#[test]
fn documents_at_urls_ask_for_what_they_refer_to() {
    let root = "openapi: 3.0.0\ninfo: {title: t, version: 1}\npaths:\n  /a: {$ref: 'paths/a.yaml?v=secret#/a'}\n  \
                /b: {get: {$ref: 'https://other.test/b.json'}}\n  /c: {get: {$ref: 'openapi.yaml#/paths/~1b/get'}}\n";
    let mut reader = at("https://api.test/v1/openapi.yaml?key=1", root, &Limits::default()).unwrap();
    let first =
        ["https://api.test/v1/openapi.yaml", "https://api.test/v1/paths/a.yaml?v=secret", "https://other.test/b.json"];
    assert_eq!(reader.wanted(), first);
    assert_eq!(reader.wanted(), [""; 0], "each is told once");
    let item = "a: {get: {responses: {200: {description: d, content: {a/json: {schema: {$ref: ../models.yaml}}}}}}}";
    reader.give(first[1], part(item)).unwrap();
    reader.give(first[2], Err("`other.test` may not be called".into())).unwrap();
    assert_eq!(reader.wanted(), ["https://api.test/v1/models.yaml"], "relative to the file it stands in");
    let (ingested, text) = reader.finish().unwrap();
    assert_eq!((ingested.files, text.as_deref()), (2, Some(root)));
    assert_eq!(ingested.summary.operations.len(), 3);
    let found = warnings(&ingested.summary);
    let refused = "the reference `https://other.test/b.json` cannot be followed: `other.test` may not be called";
    assert!(found.contains(&("/paths/~1b/get/$ref", refused)), "{found:#?}");
    let schema = "https://api.test/v1/paths/a.yaml#/a/get/responses/200/content/a~1json/schema/$ref";
    let (_, why) = found.iter().find(|(pointer, _)| *pointer == schema).expect("without the query of the URL");
    assert!(why.contains("was not fetched"), "{why}");
}

#[test]
fn what_is_fetched_is_capped() {
    let refs: String = (0..5).map(|i| format!("  /{i}: {{$ref: 'http://a.test/{i}'}}\n")).collect();
    let root = format!("openapi: 3.0.0\npaths:\n{refs}");
    let few = Limits { max_fetches: 4, ..Limits::default() };
    let error = at("http://a.test/", &root, &few).err().unwrap();
    assert_eq!(error.to_string(), "the document refers to more than 4 other documents");
    let small = Limits { max_bytes: 1_000, ..Limits::default() };
    let mut reader = at("http://a.test/", &root, &small).unwrap();
    let error = reader.give("http://a.test/0", Ok(vec![b' '; 990].into())).unwrap_err();
    assert_eq!(error.kind, IngestErrorKind::TooLarge);
    let few = Limits { max_refs: 4, ..Limits::default() };
    let error = at("http://a.test/", &root, &few).err().unwrap();
    assert_eq!(error.to_string(), "the document has more than 4 references");
    let none = Limits { max_time: Duration::ZERO, ..Limits::default() };
    let error = at("http://a.test/", &root, &none).err().unwrap();
    assert!(error.to_string().starts_with("reading the document takes longer than 0 s"), "{error}");
}

#[test]
fn an_upload_without_an_address_follows_absolute_urls_only() {
    let text =
        "openapi: 3.0.0\ninfo: {title: t, version: 1}\npaths:\n  /a: {$ref: a.yaml}\n  /b: {$ref: 'http://a.test/b'}\n";
    let mut reader = Reader::new(text.into(), &Origin::default(), &Limits::default()).unwrap();
    assert_eq!(reader.wanted(), ["http://a.test/b"]);
    reader.give("http://a.test/b", part("get: {responses: {200: {description: d}}}")).unwrap();
    let summary = reader.finish().unwrap().0.summary;
    assert_eq!(summary.operations.len(), 1);
    let message = "the reference `a.yaml` is relative, and the document came without an address or other files";
    assert_eq!(warnings(&summary), [("/paths/~1a/$ref", message)]);
}

#[test]
fn schemas_with_an_id_are_bases_of_their_own() {
    let text = r##"{"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {"/a": {"get": {"responses": {"200": {
        "description": "", "content": {"a/json": {"schema": {"$ref": "https://ids.test/schemas/order"}}}}}}}},
        "components": {"schemas": {
            "Order": {"$id": "https://ids.test/schemas/order", "properties": {
                "customer": {"$ref": "customer"}, "lines": {"$ref": "#/$defs/lines"}, "total": {"$ref": "#/components/schemas/Money"}
            }, "$defs": {"lines": {"type": "array"}}},
            "Customer": {"$id": "https://ids.test/schemas/customer", "type": "object"}, "Money": {"type": "number"}
        }}}"##;
    let mut reader = Reader::new(text.into(), &Origin::default(), &Limits::default()).unwrap();
    assert_eq!(reader.wanted(), [""; 0], "an `$id` is in the document, wherever it points");
    let summary = reader.finish().unwrap().0.summary;
    let schema = summary.operations[0].responses[0].schema.as_ref().unwrap();
    let kinds: Vec<(&str, &str)> =
        schema.properties.iter().map(|p| (p.name.as_str(), p.schema.kind.as_str())).collect();
    assert_eq!(kinds, [("customer", "object"), ("lines", "array"), ("total", "number")]);
    assert_eq!(warnings(&summary), []);
}
