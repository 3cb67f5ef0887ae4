//! Connections: from a URL or an upload, broken documents, filters, changes, tests, credentials that never come back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Client, Ledger, Reply, Server, Stub, ledger};

/// The place and reason of a document that was refused, and how long that took.
async fn refusal(client: &Client, connection: Value) -> (Value, String) {
    let began = Instant::now();
    let created = client.post("/connections", connection).await.data(201);
    assert_eq!(created["endpointCount"], 0);
    let failed = client.ingested(id(&created)).await;
    assert_eq!(failed["ingestionStatus"], "FAILED", "{failed}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let problem = &failed["ingestionErrors"][0];
    (problem["pointer"].clone(), problem["message"].as_str().unwrap_or_default().to_owned())
}

async fn library(pages: HashMap<&'static str, Reply>) -> Stub {
    Stub::start(move |seen| {
        pages.get(seen.path.as_str()).cloned().unwrap_or(Reply::of(404, "text/html", "<h1>404</h1>"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_documents_are_refused_with_place_and_reason() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let web = library(HashMap::from([
        ("/page", Reply::of(200, "text/html", "<!DOCTYPE html><html><body>Welcome</body></html>")),
        ("/huge", Reply::of(200, "application/json", vec![b' '; 60 << 20])),
        ("/deep", Reply::of(200, "application/json", deep.clone())),
        ("/half", Reply::of(200, "application/json", "{\"openapi\": \"3.0.0\",\n \"paths\": {\"/a\": ")),
        ("/empty", Reply::of(200, "application/json", "")),
        ("/wsdl", Reply::of(200, "text/xml", "<?xml version='1.0'?><wsdl/>")),
        ("/cut", Reply::Cut),
        ("/inside", Reply::of(302, "text/plain", "").with("location", "http://169.254.169.254/latest/meta-data")),
    ]))
    .await;
    let at = |path: &str| json!({ "name": path, "specUrl": format!("{}{path}", web.url()) });
    for (path, part) in [
        ("/page", "HTML"),
        ("/nothing", "404"),
        ("/huge", "bytes"),
        ("/deep", "nested"),
        ("/half", "line 2"),
        ("/empty", "empty"),
        ("/wsdl", "XML"),
        ("/cut", "fetched"),
        ("/inside", "fetched"),
    ] {
        let (_, message) = refusal(&maria.client, at(path)).await;
        assert!(message.contains(part), "{path}: {message}");
        assert!(message.len() < 500, "{path}: {message}");
    }
    for (text, pointer, part) in [
        ("<html>", "", "HTML"),
        (deep.as_str(), "", "nested"),
        ("openapi: 3.0.0\npaths:\n\t/a: {}\n", "", "line 3"),
        ("arazzo: 1.0.0", "/arazzo", "Arazzo"),
        ("{\"swagger\": \"1.2\"}", "/swagger", "1.2"),
        ("just a text", "", "plain text"),
    ] {
        let (found, message) = refusal(&maria.client, json!({ "name": "upload", "spec": text })).await;
        assert!(message.contains(part), "{message}");
        assert_eq!(found, pointer, "{message}");
    }

    // What is plainly wrong is said at once.
    let wrong = json!({ "name": "", "specUrl": "ftp://x", "colour": 1 });
    let answer = maria.client.post("/connections", wrong).await;
    answer.refused(422, "VALIDATION_ERROR");
    assert!(answer.fields().contains("name") && answer.fields().contains("colour"), "{}", answer.text);
    maria.client.post("/connections", json!({ "name": "x" })).await.refused(422, "VALIDATION_ERROR");
    maria.client.post("/connections", json!({ "name": "x", "spec": " " })).await.names(&["spec"]);
    let large = json!({ "name": "x", "spec": "x".repeat(34 << 20) });
    maria.client.post("/connections", large).await.refused(413, "PAYLOAD_TOO_LARGE");

    // The log stays whole: the good document after all of that.
    let ledger = Ledger::start(Duration::ZERO).await;
    assert_eq!(maria.client.connect(ledger.connection("good")).await["endpointCount"], 4);
    let none = "openapi: 3.1.0\ninfo: {title: t, version: '1'}\nwebhooks: {ping: {post: {responses: {}}}}\n";
    let hooks = maria.client.connect(json!({ "name": "webhooks only", "spec": none })).await;
    assert_eq!((&hooks["endpointCount"], &hooks["webhookCount"]), (&json!(0), &json!(1)));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inner_addresses_are_refused_wherever_they_stand() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let internal = Stub::start(|_| Reply::json(200, &json!({}))).await;
    let inner = [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:a9fe:a9fe]/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://10.0.0.1/openapi.json",
        "http://192.168.1.1/",
        "http://[fd00:ec2::254]/",
        "http://100.64.0.1/",
        "http://0.0.0.0/",
    ];
    for url in inner {
        let spec_url = maria.client.post("/connections", json!({ "name": "x", "specUrl": url })).await;
        spec_url.names(&["specUrl"]);
        maria.client.post("/connections", json!({ "name": "x", "baseUrl": url })).await.names(&["baseUrl"]);
        let hook = json!({ "name": "x", "url": url, "events": ["*"] });
        maria.client.post("/webhooks", hook).await.names(&["url"]);
        // In the document itself: taken, but never called.
        let spec = ledger::document(url.trim_end_matches('/'));
        let connection = maria.client.connect(json!({ "name": url, "spec": spec })).await;
        let step =
            json!({ "id": "fetch", "type": "api_call", "connectionId": id(&connection), "operationId": "listItems" });
        let workflow = maria.client.workflow(json!({ "name": url, "steps": [step] })).await;
        let execution = maria.client.execute(&workflow, json!({})).await;
        assert_eq!(execution["status"], "failed", "{execution}");
        assert_eq!(execution["steps"][0]["error"]["code"], "EGRESS_BLOCKED", "{execution}");
    }
    for scheme in ["file:///etc/passwd", "gopher://x/", "ftp://x/", "javascript:alert(1)", "http://", "http://a b/"] {
        maria.client.post("/connections", json!({ "name": "x", "specUrl": scheme })).await.names(&["specUrl"]);
    }
    let with_user = json!({ "name": "x", "specUrl": "http://user:password@127.0.0.1/" });
    maria.client.post("/connections", with_user).await.names(&["specUrl"]);

    // Our own database, queue and API are no third parties, although they are on loopback.
    for own in [server.url().to_owned(), server.nats_url().replace("nats://", "http://").replace(['@'], "/")] {
        let answer =
            maria.client.post("/connections", json!({ "name": "x", "specUrl": format!("{own}/api/v1/openapi") })).await;
        if answer.status == 201 {
            let failed = maria.client.ingested(id(&answer.data(201))).await;
            assert_eq!(failed["ingestionStatus"], "FAILED", "{failed}");
        }
    }

    // `$ref` to an inner address, and a redirect to one, are not followed; each is told.
    let inside = Reply::of(302, "text/plain", "").with("location", "http://169.254.169.254/latest/meta-data");
    internal.script("GET /moved.json", [inside]);
    let mut spec = ledger::document(internal.url());
    for (n, url) in inner.iter().enumerate() {
        spec["paths"][format!("/evil/{n}")] = json!({ "$ref": url });
    }
    spec["paths"]["/moved"] = json!({ "$ref": format!("{}/moved.json", internal.url()) });
    spec["components"] = json!({ "schemas": { "A": { "$ref": "file:///etc/passwd" } } });
    let connection = maria.client.connect(json!({ "name": "refs", "spec": spec })).await;
    assert_eq!(connection["warningCount"], inner.len() + 2, "{connection}");
    let told = connection["warnings"].to_string();
    assert_eq!(told.matches("cannot be followed").count(), inner.len() + 1, "{told}");
    assert_eq!(internal.seen().len(), 1, "{:?}", internal.seen());
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dev_server_without_loopback_reaches_none() {
    let server = Server::start_with(&[("APIQ_EGRESS_ALLOW", "none")]).await;
    let maria = server.account("maria").await;
    let internal = Stub::start(|_| Reply::json(200, &ledger::document("/"))).await;
    let port = internal.url().rsplit(':').next().unwrap().to_owned();
    for host in [
        "127.0.0.1",
        "localhost",
        "localhost.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0",
        "[::]",
    ] {
        let url = format!("http://{host}:{port}/openapi.json");
        let answer = maria.client.post("/connections", json!({ "name": host, "specUrl": url })).await;
        if answer.status == 201 {
            let failed = maria.client.ingested(id(&answer.data(201))).await;
            assert_eq!(failed["ingestionStatus"], "FAILED", "{host}: {failed}");
        } else {
            answer.names(&["specUrl"]);
        }
    }
    // Not by a reference either.
    let item = json!({ "$ref": format!("{}/item.json", internal.url()) });
    let spec = json!({ "openapi": "3.0.0", "info": { "title": "t", "version": "1" }, "paths": { "/a": item } });
    let connection = maria.client.connect(json!({ "name": "ref", "spec": spec })).await;
    assert!(connection["warnings"].to_string().contains("cannot be followed"), "{connection}");
    assert_eq!(internal.seen().len(), 0, "an inner listener was reached");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lives() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let ledger = Ledger::start(Duration::ZERO).await;

    // From a URL: the relative server is made absolute by it.
    let spec_url = format!("{}/openapi.json", ledger.url());
    let body = json!({ "name": "ledger", "description": "counts", "documentationUrl": spec_url });
    let connection = client.connect(body).await;
    let path = format!("/connections/{}", id(&connection));
    assert_eq!((&connection["specUrl"], &connection["specSource"]), (&json!(spec_url), &json!("url")));
    assert_eq!((&connection["endpointCount"], &connection["status"]), (&json!(4), &json!("ACTIVE")));
    assert_eq!(connection["effectiveBaseUrl"].as_str().unwrap().trim_end_matches('/'), ledger.url());
    let risks = connection["risks"].to_string();
    assert!(risks.contains("plain HTTP") && risks.contains("no authentication"), "{risks}");

    // Endpoints and their filters.
    let count = async |query: &str| {
        let listed = client.get(&format!("{path}/endpoints{query}")).await.data(200);
        listed["pagination"]["total"].as_u64().unwrap()
    };
    assert_eq!(count("").await, 4);
    assert_eq!((count("?method=POST").await, count("?method=GET").await), (2, 2));
    assert_eq!((count("?tag=items").await, count("?tag=none").await), (2, 0));
    assert_eq!((count("?search=letter").await, count("?search=order&method=GET").await), (1, 0));
    let listed = client.get(&format!("{path}/endpoints?search=letter")).await.data(200);
    let endpoint = client.get(&format!("{path}/endpoints/{}", id(&listed["endpoints"][0]))).await.data(200);
    assert_eq!((&endpoint["method"], &endpoint["path"]), (&json!("POST"), &json!("/letters")));
    let ranked = client.get("/operations?search=place+an+order&limit=2").await.data(200);
    assert_eq!(ranked["operations"][0]["operationId"], "placeOrder", "{ranked}");

    // A test makes one harmless call and says what it found.
    let test = client.post(&format!("{path}/test"), json!({})).await.data(200);
    assert_eq!((&test["status"], &test["httpStatus"]), (&json!("success"), &json!(200)), "{test}");
    ledger.stub.script("GET /items", [Reply::json(500, &json!({})), Reply::json(401, &json!({})), Reply::Close]);
    for part in ["500", "401", "failed"] {
        let test = client.post(&format!("{path}/test"), json!({})).await.data(200);
        assert_eq!(test["status"], "failed");
        assert!(test["message"].as_str().unwrap().contains(part), "{test}");
    }

    // Changes, with versions.
    let tag = client.get(&path).await.header("etag").unwrap().to_owned();
    let fresh = client.header("if-match", &tag);
    let changed = fresh.patch(&path, json!({ "name": "renamed", "status": "INACTIVE" })).await.data(200);
    assert_eq!((&changed["name"], &changed["status"]), (&json!("renamed"), &json!("INACTIVE")));
    assert_eq!(changed["description"], "counts", "what is absent stays");
    fresh.patch(&path, json!({ "name": "lost" })).await.refused(409, "CONFLICT");
    client.patch(&path, json!({ "status": "ASLEEP", "id": "x" })).await.names(&["status", "id"]);
    client.patch(&path, json!({ "status": "ACTIVE" })).await.data(200);

    // A refresh tells what changed and what breaks.
    let mut smaller = ledger::document("/");
    smaller["paths"].as_object_mut().unwrap().remove("/letters");
    smaller["paths"]["/parcels"] = json!({ "post": { "operationId": "sendParcel", "responses": {} } });
    ledger.stub.script("GET /openapi.json", [Reply::json(200, &smaller)]);
    client.post(&format!("{path}/refresh"), json!({})).await.data(200);
    let refreshed = client.ingested(id(&connection)).await;
    assert_eq!(
        (&refreshed["changes"]["added"], &refreshed["changes"]["removed"]),
        (&json!(1), &json!(1)),
        "{refreshed}"
    );
    assert!(refreshed["changes"]["breakingChanges"].to_string().contains("/letters"), "{refreshed}");
    // A refresh that fails keeps what was there.
    ledger.stub.script("GET /openapi.json", [Reply::of(200, "text/html", "<html>")]);
    client.post(&format!("{path}/refresh"), json!({})).await.refused(502, "INTEGRATION_ERROR");
    let failed = client.ingested(id(&connection)).await;
    assert_eq!((&failed["ingestionStatus"], &failed["endpointCount"]), (&json!("FAILED"), &json!(4)), "{failed}");

    // Deleted is gone, with its operations.
    assert_eq!(client.delete(&path).await.status, 200);
    client.get(&path).await.refused(404, "CONNECTION_NOT_FOUND");
    client.get(&format!("{path}/endpoints")).await.refused(404, "CONNECTION_NOT_FOUND");
    client.delete(&path).await.refused(404, "CONNECTION_NOT_FOUND");
    let left = client.get("/operations?search=order").await.data(200);
    assert_eq!(left["operations"], json!([]));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_travel_as_declared_and_never_come_back() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let ledger = Ledger::start(Duration::ZERO).await;
    let kinds = [
        ("api_key", json!({ "in": "header", "name": "X-Their-Key", "value": "canary-one" })),
        ("api_key", json!({ "in": "query", "name": "their_key", "value": "canary-two" })),
        ("api_key", json!({ "in": "cookie", "name": "their_cookie", "value": "canary-three" })),
        ("bearer", json!({ "token": "canary-four" })),
        ("basic", json!({ "username": "maria", "password": "canary-five" })),
    ];
    for (kind, config) in kinds {
        let mut body = ledger.connection(kind);
        body["authType"] = json!(kind);
        body["authConfig"] = config;
        let created = client.post("/connections", body).await;
        assert!(!created.text.contains("canary"), "{}", created.text);
        let connection = client.ingested(id(&created.data(201))).await;
        let step =
            json!({ "id": "fetch", "type": "api_call", "connectionId": id(&connection), "operationId": "listItems" });
        let workflow = client.workflow(json!({ "name": kind, "steps": [step] })).await;
        let execution = client.execute(&workflow, json!({})).await;
        assert_eq!(execution["status"], "completed", "{execution}");
        assert!(!execution.to_string().contains("canary"), "{execution}");
    }
    let seen = ledger.stub.seen_at("GET /items");
    let header = |n: usize, name: &str| seen[n].header(name).unwrap_or_default().to_owned();
    assert_eq!(header(0, "x-their-key"), "canary-one");
    assert_eq!(seen[1].query, "their_key=canary-two");
    assert_eq!(header(2, "cookie"), "their_cookie=canary-three");
    assert_eq!(header(3, "authorization"), "Bearer canary-four");
    assert_eq!(header(4, "authorization"), "Basic bWFyaWE6Y2FuYXJ5LWZpdmU=");

    // Stored later, replaced, deleted.
    let mut body = ledger.connection("later");
    body["authType"] = json!("bearer");
    let connection = client.connect(body).await;
    let path = format!("/connections/{}", id(&connection));
    let step =
        json!({ "id": "fetch", "type": "api_call", "connectionId": id(&connection), "operationId": "listItems" });
    let workflow = client.workflow(json!({ "name": "later", "steps": [step] })).await;
    let without = client.execute(&workflow, json!({})).await;
    assert_eq!(without["steps"][0]["error"]["code"], "CREDENTIAL_MISSING", "{without}");
    client.get(&format!("{path}/credentials")).await.refused(404, "CREDENTIAL_NOT_FOUND");
    let value = |text: &str| json!({ "credentials": { "token": text } });
    let stored = client.post(&format!("{path}/credentials"), value("canary-six")).await;
    assert_eq!(stored.data(201)["credentials"]["currentVersion"], 1);
    client.post(&format!("{path}/credentials"), value("canary-x")).await.refused(409, "CONFLICT");
    let basic = json!({ "credentials": { "username": "a", "password": "b" } });
    assert_eq!(client.put(&format!("{path}/credentials"), basic).await.status, 422);
    client.execute(&workflow, json!({})).await;
    let replaced = client.put(&format!("{path}/credentials"), value("canary-seven")).await;
    assert_eq!(replaced.data(200)["credentials"]["currentVersion"], 2);
    client.execute(&workflow, json!({})).await;
    let seen: Vec<_> =
        ledger.stub.seen_at("GET /items")[5..].iter().map(|s| s.header("authorization").map(str::to_owned)).collect();
    assert_eq!(seen, [Some("Bearer canary-six".to_owned()), Some("Bearer canary-seven".to_owned())]);
    assert_eq!(client.delete(&format!("{path}/credentials")).await.status, 200);
    let after = client.execute(&workflow, json!({})).await;
    assert_eq!(after["steps"][0]["error"]["code"], "CREDENTIAL_MISSING", "{after}");

    // The credential stays with the connection's own host: neither a redirect nor the document leads it elsewhere.
    let thief = Stub::start(|_| Reply::json(200, &json!({}))).await;
    let mut body = ledger.connection("redirected");
    body["authType"] = json!("bearer");
    body["authConfig"] = json!({ "token": "canary-eight" });
    let connection = client.connect(body).await;
    let step =
        json!({ "id": "fetch", "type": "api_call", "connectionId": id(&connection), "operationId": "listItems" });
    let workflow = client.workflow(json!({ "name": "redirected", "steps": [step] })).await;
    let away = Reply::of(302, "text/plain", "").with("location", &format!("{}/items", thief.url()));
    ledger.stub.script("GET /items", [away]);
    client.execute(&workflow, json!({})).await;
    let leaked = thief.seen().iter().any(|seen| seen.headers.values().any(|value| value.contains("canary")));
    assert!(!leaked, "a redirect carried the credential to another host");
    server.finish().await;
}
