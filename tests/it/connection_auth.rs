//! How connections authenticate: several keys, client certificates, header templates.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::stub::Seen;
use crate::support::tls::{Authority, TlsStub};
use crate::support::{Client, Ledger, Reply, Server, Stub};

/// A workflow of one call, and the connection's own path.
async fn calling(client: &Client, connection: &Value, operation: Value) -> String {
    let mut step = json!({ "id": "fetch", "type": "api_call", "connectionId": id(connection) });
    step.as_object_mut().unwrap().extend(operation.as_object().unwrap().clone());
    client.workflow(json!({ "name": "one call", "steps": [step] })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_keys_and_templates_travel_and_never_come_back() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let ledger = Ledger::start(Duration::ZERO).await;

    let mut body = ledger.connection("keys");
    body["authType"] = json!("api_key");
    body["authConfig"] = json!({ "keys": [
        { "name": "X-App-Id", "value": "canary-app" },
        { "in": "query", "name": "api_key", "value": "canary key" },
        { "in": "cookie", "name": "sid", "value": "canary-sid" },
    ] });
    let created = client.post("/connections", body).await;
    assert!(!created.text.contains("canary"), "{}", created.text);
    let connection = client.ingested(id(&created.data(201))).await;
    assert_eq!(connection["authPlaces"][1], json!({ "in": "query", "name": "api_key" }));
    let workflow = calling(client, &connection, json!({ "operationId": "listItems" })).await;
    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    assert!(!execution.to_string().contains("canary"), "{execution}");
    let seen = ledger.stub.seen_at("GET /items");
    assert_eq!(seen[0].header("x-app-id"), Some("canary-app"));
    assert_eq!(seen[0].query, "api_key=canary+key");
    assert_eq!(seen[0].header("cookie"), Some("sid=canary-sid"));

    // All values are replaced together, by the same places.
    let path = format!("/connections/{}", id(&connection));
    let one = json!({ "credentials": { "keys": [{ "name": "x-app-id", "value": "new" }] } });
    client.put(&format!("{path}/credentials"), one).await.names(&["keys"]);
    let all = json!({ "credentials": { "keys": [
        { "name": "x-app-id", "value": "new-app" },
        { "in": "query", "name": "api_key", "value": "new-key" },
        { "in": "cookie", "name": "sid", "value": "new-sid" },
    ] } });
    assert_eq!(client.put(&format!("{path}/credentials"), all).await.data(200)["credentials"]["currentVersion"], 2);
    client.execute(&workflow, json!({})).await;
    assert_eq!(ledger.stub.seen_at("GET /items")[1].header("x-app-id"), Some("new-app"));

    // Places that changed without their values: nothing is sent under a name it was not stored for.
    let moved = json!({ "authConfig": { "keys": [{ "name": "X-Other" }, { "in": "query", "name": "api_key" }] } });
    client.patch(&path, moved).await.data(200);
    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!(execution["steps"][0]["error"]["code"], "CREDENTIAL_UNUSABLE", "{execution}");
    assert_eq!(ledger.stub.seen_at("GET /items").len(), 2);

    let mut body = ledger.connection("custom");
    body["authType"] = json!("custom");
    body["authConfig"] = json!({
        "headers": { "X-Sign": "id={{ secret.ID }};k={{secret.KEY}}", "X-Api-Version": "2" },
        "secrets": { "ID": "canary-id", "KEY": "{{ secret.ID }}" },
    });
    let created = client.post("/connections", body).await;
    assert!(!created.text.contains("canary"), "{}", created.text);
    let connection = client.ingested(id(&created.data(201))).await;
    assert_eq!(connection["authHeaders"][1], json!({ "name": "X-Sign", "secrets": ["ID", "KEY"] }));
    let workflow = calling(client, &connection, json!({ "operationId": "listItems" })).await;
    client.execute(&workflow, json!({})).await;
    let seen = ledger.stub.seen_at("GET /items");
    assert_eq!(seen[2].header("x-sign"), Some("id=canary-id;k={{ secret.ID }}"), "a value is no template");
    assert_eq!(seen[2].header("x-api-version"), Some("2"));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_authenticate_is_refused_with_every_field() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let refused = async |auth_type: &str, config: Value, fields: &[&str]| {
        let body = json!({ "name": "x", "baseUrl": "https://a.example", "authType": auth_type, "authConfig": config });
        maria.client.post("/connections", body).await.names(fields);
    };
    let split = json!({ "headers": { "X-A": "a\r\nX-Evil: {{ secret.K }}", "Host": "{{ secret.K }}" } });
    refused("custom", split, &["authConfig.headers.X-A", "authConfig.headers.Host"]).await;
    let other = json!({ "headers": { "X-A": "{{ input.k }}" } });
    refused("custom", other, &["authConfig.headers.X-A"]).await;
    let names = json!({ "headers": { "X-A": "{{ secret.K }}" }, "secrets": { "k": "v" } });
    refused("custom", names, &["authConfig.secrets.K", "authConfig.secrets.k"]).await;
    let lines = json!({ "headers": { "X-A": "{{ secret.K }}" }, "secrets": { "K": "a\r\nX-Evil: 1" } });
    refused("custom", lines, &["authConfig.secrets.K"]).await;
    let twice = json!({ "keys": [{ "name": "X-A", "value": "1" }, { "name": "x-a", "value": "2" }] });
    refused("api_key", twice, &["authConfig.keys[1].name"]).await;
    refused("api_key", json!({ "name": "Content-Length", "value": "1" }), &["authConfig.name"]).await;
    refused("bearer", json!({ "token": "a\nb" }), &["authConfig.token"]).await;
    let texts = json!({ "certificate": "x", "privateKey": "y" });
    refused("mtls", texts, &["authConfig.certificate", "authConfig.privateKey"]).await;

    let authority = Authority::new();
    let (one, two) = (authority.client("one", (2100, 1, 1)), authority.client("two", (2100, 1, 1)));
    let mixed = json!({ "certificate": one.certificate, "privateKey": two.private_key });
    refused("mtls", mixed, &["authConfig.privateKey"]).await;
    let old = authority.client("old", (2021, 1, 1));
    refused("mtls", old.json(), &["authConfig.certificate"]).await;
    let plain = json!({ "name": "x", "baseUrl": "http://a.example", "authType": "mtls", "authConfig": one.json() });
    maria.client.post("/connections", plain).await.names(&["baseUrl"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_to_a_server_that_demands_one() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, authority.pem()).unwrap();
    let server = Server::start_with(&[("SSL_CERT_FILE", roots.to_str().unwrap())]).await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let stub = TlsStub::start(&authority).await;

    let pair = authority.client("one", (2100, 1, 1));
    let body = json!({ "name": "mtls", "baseUrl": stub.url(), "authType": "mtls", "authConfig": pair.json() });
    let created = client.post("/connections", body).await;
    assert!(!created.text.contains("BEGIN"), "{}", created.text);
    let connection = created.data(201);
    let path = format!("/connections/{}", id(&connection));
    let test = client.post(&format!("{path}/test"), json!({})).await.data(200);
    assert_eq!(test["status"], "success", "{test}");
    let workflow = calling(client, &connection, json!({ "method": "GET", "endpoint": "/items" })).await;
    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let shown = stub.shown();
    assert_eq!((shown.len(), shown[0] == shown[1]), (2, true));

    // A new version is shown from the next attempt on; one that the server does not know is said in words.
    let renewed = json!({ "credentials": authority.client("one, renewed", (2100, 1, 1)).json() });
    client.put(&format!("{path}/credentials"), renewed).await.data(200);
    client.execute(&workflow, json!({})).await;
    assert_ne!(stub.shown()[2], shown[0]);
    let stranger = json!({ "credentials": Authority::new().client("one", (2100, 1, 1)).json() });
    client.put(&format!("{path}/credentials"), stranger).await.data(200);
    let test = client.post(&format!("{path}/test"), json!({})).await.data(200);
    assert_eq!(test["status"], "failed", "{test}");
    assert!(test["message"].as_str().unwrap().contains("certificate"), "{test}");
    assert_eq!(stub.shown().len(), 3);
    server.finish().await;
}

/// An API whose operations are authorised in different ways.
fn document(url: &str) -> Value {
    let get = |id: &str, security: Value| {
        let mut operation = json!({ "operationId": id, "responses": { "200": { "description": "ok" } } });
        if !security.is_null() {
            operation["security"] = security;
        }
        json!({ "get": operation })
    };
    json!({
        "openapi": "3.0.3", "info": { "title": "ways", "version": "1" }, "servers": [{ "url": url }],
        "security": [{ "key": [] }],
        "components": { "securitySchemes": {
            "key": { "type": "apiKey", "in": "query", "name": "their_key" },
            "app": { "type": "apiKey", "in": "header", "name": "X-App" },
            "oauth": { "type": "oauth2", "flows": {} },
        } },
        "paths": {
            "/default": get("usual", Value::Null),
            "/public": get("public", json!([])),
            "/both": get("both", json!([{ "key": [], "app": [] }])),
            "/token": get("token", json!([{ "oauth": ["read"] }])),
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_says_how_values_travel_and_what_each_operation_takes() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let stub = Stub::start(|_| Reply::json(200, &json!({}))).await;

    // A value and no word about its place: the document's default decides.
    let spec = document(stub.url());
    let body = json!({ "name": "value", "spec": spec, "authConfig": { "value": "canary-one" } });
    let connection = client.connect(body).await;
    assert_eq!((&connection["authType"], &connection["authNote"]), (&json!("api_key"), &Value::Null), "{connection}");
    assert_eq!(connection["authPlace"], json!({ "in": "query", "name": "their_key" }));
    let used: Vec<_> = connection["securitySchemes"].as_array().unwrap().iter().map(|s| s["used"].clone()).collect();
    assert_eq!(used, [json!(false), json!(true), json!(false)], "app, key, oauth: {connection}");

    let usual = calling(client, &connection, json!({ "operationId": "usual" })).await;
    client.execute(&usual, json!({})).await;
    assert_eq!(stub.seen_at("GET /default")[0].query, "their_key=canary-one");
    let reads = format!("/credentials/{}/reads", connection["credentialId"].as_str().unwrap());
    let count = async || client.get(&reads).await.data(200)["reads"].as_array().unwrap().len();
    assert_eq!(count().await, 1);
    let public = calling(client, &connection, json!({ "operationId": "public" })).await;
    assert_eq!(client.execute(&public, json!({})).await["status"], "completed");
    assert_eq!(stub.seen_at("GET /public")[0].query, "");
    assert_eq!(count().await, 1, "what is not sent is not read");

    // What is needed together and is not there: a warning when it is saved, an error in words when it runs.
    let step = json!({ "id": "fetch", "type": "api_call", "connectionId": id(&connection), "operationId": "both" });
    let saved = client.post("/workflows", json!({ "name": "both", "steps": [step] })).await.data(201);
    assert_eq!(saved["warnings"][0]["field"], "steps[0].connectionId", "{saved}");
    assert!(saved["warnings"][0]["message"].as_str().unwrap().contains("app (header X-App)"), "{saved}");
    let execution = client.execute(id(&saved), json!({})).await;
    let error = &execution["steps"][0]["error"];
    assert_eq!(error["code"], "CREDENTIAL_LACKING", "{execution}");
    assert!(error["message"].as_str().unwrap().contains("app (header X-App) and key (query their_key)"), "{error}");
    assert!(stub.seen_at("GET /both").is_empty());

    // Values by scheme: each operation takes its own.
    let schemes =
        json!({ "key": { "value": "canary-k" }, "app": { "value": "canary-a" }, "oauth": { "value": "canary-t" } });
    let body = json!({ "name": "schemes", "spec": spec, "authConfig": { "schemes": schemes } });
    let created = client.post("/connections", body).await;
    assert!(!created.text.contains("canary"), "{}", created.text);
    let connection = client.ingested(id(&created.data(201))).await;
    assert_eq!(connection["authType"], "document", "{connection}");
    for operation in ["usual", "both", "token"] {
        let workflow = calling(client, &connection, json!({ "operationId": operation })).await;
        assert_eq!(client.execute(&workflow, json!({})).await["status"], "completed", "{operation}");
    }
    let both = &stub.seen_at("GET /both")[0];
    assert_eq!((both.query.as_str(), both.header("x-app")), ("their_key=canary-k", Some("canary-a")));
    let token = &stub.seen_at("GET /token")[0];
    assert_eq!((token.query.as_str(), token.header("authorization")), ("", Some("Bearer canary-t")));

    // A name that the document does not declare is said in words, and nothing is sent.
    let body = json!({ "name": "typo", "spec": spec, "authConfig": { "schemes": { "kay": { "value": "v" } } } });
    let connection = client.connect(body).await;
    assert!(connection["authNote"].as_str().unwrap().contains("kay"), "{connection}");
    let test = client.post(&format!("/connections/{}/test", id(&connection)), json!({})).await.data(200);
    assert!(test["message"].as_str().unwrap().contains("kay"), "{test}");
    let workflow = calling(client, &connection, json!({ "operationId": "token" })).await;
    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!(execution["steps"][0]["error"]["code"], "AUTH_UNDECIDED", "{execution}");
    assert_eq!(stub.seen_at("GET /token").len(), 1);
    // Without a document there is nobody to say it.
    let bare = json!({ "name": "x", "baseUrl": stub.url(), "authConfig": { "value": "v" } });
    client.post("/connections", bare).await.names(&["authType"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_is_said_in_words() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let refuse = |seen: &Seen| match seen.header("authorization") {
        Some("Bearer revoked") => Reply::json(401, &json!({ "error": "token revoked" })),
        Some(_) => Reply::json(403, &json!({})),
        None => Reply::json(401, &json!({})),
    };
    let stub = Stub::start(refuse).await;
    let spec = document(stub.url());
    for (auth, words) in [
        (json!({ "authType": "bearer", "authConfig": { "token": "revoked" } }), "wrong, expired or revoked"),
        (json!({ "authType": "bearer", "authConfig": { "token": "small" } }), "may not do this"),
        (json!({}), "it wants oauth (bearer token), and the connection's authType is none"),
    ] {
        let mut body = json!({ "name": "refused", "spec": spec });
        body.as_object_mut().unwrap().extend(auth.as_object().unwrap().clone());
        let connection = client.connect(body).await;
        let workflow = calling(client, &connection, json!({ "operationId": "token" })).await;
        let execution = client.execute(&workflow, json!({})).await;
        let message = execution["steps"][0]["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
        let attempts = execution["steps"][0]["attempts"].as_array().unwrap().len();
        assert_eq!(attempts, 1, "a refusal is not asked again: {execution}");
    }
    server.finish().await;
}
