//! Documents of several files: uploaded as archives, or fetched piece by piece; and archives that are refused.

use std::io::{Cursor, Write};
use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::support::client::id;
use crate::support::{Client, Reply, Server, Stub, specs};

type Files = Vec<(String, Vec<u8>)>;

fn zip(files: &Files) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn tar_gz(files: &Files) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn small(texts: &[(&str, &str)]) -> Files {
    texts.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn upload(name: &str, archive: &[u8]) -> Value {
    json!({ "name": name, "specArchive": STANDARD.encode(archive) })
}

/// Why an upload ended as FAILED, and that it did soon.
async fn failure(client: &Client, body: Value) -> String {
    let began = Instant::now();
    let created = client.post("/connections", body).await.data(201);
    let failed = client.ingested(id(&created)).await;
    assert_eq!(failed["ingestionStatus"], "FAILED", "{failed}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    failed["ingestionErrors"][0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_document_of_several_files_is_taken() {
    let Some(documents) = specs::several_files() else { return };
    let server = Server::start().await;
    let maria = server.account("maria").await;
    assert!(documents.len() >= 2, "only {} documents", documents.len());
    for document in &documents {
        for archive in [zip(&document.files), tar_gz(&document.files)] {
            let mut body = upload(&document.root, &archive);
            body["specRoot"] = json!(document.root);
            let found = maria.client.connect(body).await;
            assert_eq!(found["endpointCount"], document.operations, "{}: {found}", document.root);
            assert_eq!(found["specSource"], "upload");
            assert!(found["spec"]["files"].as_u64() > Some(1), "{found}");
            let path = format!("/connections/{}/endpoints?limit=1", id(&found));
            let listed = maria.client.get(&path).await.data(200);
            assert_eq!(listed["pagination"]["total"], document.operations, "{}", document.root);
        }
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_read_refreshed_and_refused_in_words() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let root = "openapi: 3.0.0\ninfo: {title: t, version: 1}\npaths: {/a: {$ref: a.yaml}, /b: {$ref: b.yaml}}\n";
    let item = "get: {responses: {200: {description: ok}}}\n";
    let files = small(&[("api/openapi.yaml", root), ("api/a.yaml", item), ("api/b.yaml", item)]);
    let connection = client.connect(upload("several", &zip(&files))).await;
    assert_eq!((&connection["endpointCount"], &connection["warningCount"]), (&json!(2), &json!(0)), "{connection}");

    // A part less is an operation less, and a warning.
    let path = format!("/connections/{}/refresh", id(&connection));
    let fewer = STANDARD.encode(tar_gz(&small(&[("openapi.yaml", root), ("a.yaml", item)])));
    client.post(&path, json!({ "specArchive": fewer })).await.data(200);
    let refreshed = client.ingested(id(&connection)).await;
    assert_eq!((&refreshed["endpointCount"], &refreshed["changes"]["removed"]), (&json!(1), &json!(1)), "{refreshed}");
    assert_eq!(refreshed["warnings"][0]["pointer"], "/paths/~1b/$ref");

    // What can be told at once.
    client.post("/connections", json!({ "name": "x", "specArchive": "!" })).await.names(&["specArchive"]);
    client.post("/connections", json!({ "name": "x", "specArchive": "aGVsbG8=" })).await.names(&["specArchive"]);
    client.post("/connections", json!({ "name": "x", "spec": "a: 1", "specRoot": "a" })).await.names(&["specRoot"]);
    let mut both = upload("x", &zip(&files));
    both["specUrl"] = json!("https://api.example.test/openapi.json");
    client.post("/connections", both).await.names(&["spec"]);

    // And what an archive is found to be.
    let spaces = vec![b' '; 40 << 20];
    for (archive, part) in [
        (zip(&vec![("openapi.yaml".to_owned(), spaces.clone())]), "unpacks to more than"),
        (tar_gz(&vec![("openapi.yaml".to_owned(), spaces)]), "unpacks to more than"),
        (zip(&small(&[("../openapi.yaml", root)])), "leads out of the archive"),
        (zip(&small(&[("a.yaml", root), ("b.yaml", root)])), "specRoot"),
        (zip(&small(&[("a.yaml", item)])), "none of the archive's 1 files"),
        (zip(&(0..5_001).map(|n| (n.to_string(), Vec::new())).collect()), "more than 5000 files"),
        (zip(&files)[..60].to_vec(), "damaged"),
    ] {
        let message = failure(client, upload("refused", &archive)).await;
        assert!(message.contains(part), "{part}: {message}");
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn references_are_fetched_through_the_guard() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let item =
        "get: {responses: {200: {description: ok, content: {application/json: {schema: {$ref: ../models/pet.json}}}}}}";
    let elsewhere = Stub::start(|_| Reply::of(200, "text/yaml", "get: {responses: {}}")).await;
    let other = elsewhere.url().to_owned();
    let web = Stub::start(move |seen| match seen.path.as_str() {
        "/v1/openapi.yaml" => Reply::of(
            200,
            "text/yaml",
            format!(
                "openapi: 3.0.0\ninfo: {{title: t, version: 1}}\npaths:\n  /pets: {{$ref: 'paths/pets.yaml'}}\n  \
                 /other: {{$ref: '{other}/item.yaml'}}\n  /gone: {{get: {{$ref: 'gone.yaml'}}}}\n"
            ),
        ),
        "/v1/paths/pets.yaml" => Reply::of(200, "text/yaml", item),
        "/v1/models/pet.json" => Reply::json(200, &json!({ "type": "object", "properties": { "name": {} } })),
        _ => Reply::of(404, "text/html", "<h1>404</h1>"),
    })
    .await;
    let body = json!({ "name": "pieces", "specUrl": format!("{}/v1/openapi.yaml", web.url()), "authType": "bearer",
        "authConfig": { "token": "canary-pieces" } });
    let connection = maria.client.connect(body).await;
    assert_eq!(connection["endpointCount"], 3, "{connection}");
    let warnings = connection["warnings"].to_string();
    assert!(warnings.contains("gone.yaml") && warnings.contains("answered 404"), "{warnings}");
    let listed = maria.client.get(&format!("/connections/{}/endpoints?search=pets", id(&connection))).await.data(200);
    let endpoint = format!("/connections/{}/endpoints/{}", id(&connection), id(&listed["endpoints"][0]));
    let endpoint = maria.client.get(&endpoint).await.data(200);
    assert!(endpoint.to_string().contains("\"pet\""), "{endpoint}");
    // Each document once, and none of them with the credential.
    let seen: Vec<_> = web.seen().into_iter().chain(elsewhere.seen()).collect();
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert!(!format!("{seen:?}").contains("canary-pieces"), "{seen:?}");
    server.finish().await;
}
