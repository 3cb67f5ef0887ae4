//! Providers of the operator's file, and scopes that a workflow needs and a grant lacks.

use serde_json::json;

use crate::support::fake_provider::{Fake, SECRET, Way};
use crate::support::{Reply, Server};

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_client_serves_connections_without_one() {
    let fake = Fake::start(true).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("providers.json");
    let provider = json!({ "name": "acme", "title": "Acme <i>", "issuer": fake.url(), "clientId": "apiq",
        "clientSecret": SECRET, "scopes": ["read"] });
    std::fs::write(&file, json!({ "providers": [provider] }).to_string()).unwrap();
    let server = Server::start_with(&[("APIQ_OAUTH_PROVIDERS_FILE", file.to_str().unwrap())]).await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let listed = server.anonymous().get("/oauth/providers").await;
    assert!(!listed.text.contains("canary"), "{}", listed.text);
    let listed = listed.data(200);
    assert_eq!((&listed["count"], &listed["providers"][0]["name"]), (&json!(4), &json!("acme")), "{listed}");
    assert_eq!((&listed["providers"][0]["ready"], &listed["providers"][1]["ready"]), (&json!(true), &json!(false)));
    let redirect = format!("{}/api/v1/oauth/callback/acme", server.url());
    assert_eq!(listed["providers"][0]["redirectUri"], json!(redirect));

    // Nobody knows it; nobody here has a client of it.
    let body = |config| json!({ "name": "x", "baseUrl": fake.url(), "authType": "oauth2", "authConfig": config });
    client.post("/connections", body(json!({ "provider": "gitlab" }))).await.names(&["authConfig.provider"]);
    client.post("/connections", body(json!({ "provider": "github" }))).await.names(&["authConfig.clientId"]);
    let connection = fake.connection(client, json!({ "provider": "acme" })).await;
    let way = Way::begin(client, &connection).await;
    assert!(way.path.ends_with("/callback/acme"), "{}", way.path);
    let back = way.back(&server, &format!("&iss={}", fake.url())).await.data(200);
    assert_eq!(back["provider"], "Acme <i>", "{back}");
    let sent = fake.stub.seen_at("POST /token");
    assert!(sent[0].header("authorization").is_some_and(|said| said.starts_with("Basic ")), "the file's secret");

    // Given back, nothing is left of it: the secret was never the connection's.
    client.post("/oauth/revoke", json!({ "connectionId": connection, "force": true })).await.data(200);
    let mut database = server.database().await;
    let left: i64 = sqlx::query_scalar("select count(*) from vault.credential_values where destroyed_at is null")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(left, 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_that_lack_are_said_before_and_after() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let fake = Fake::start(false).await;
    let operation = |id: &str, scopes: &[&str]| {
        json!({ "operationId": id, "security": [{ "login": scopes }],
        "responses": { "200": { "description": "ok" } } })
    };
    let document = json!({
        "openapi": "3.0.3", "info": { "title": "Files", "version": "1" }, "servers": [{ "url": fake.url() }],
        "components": { "securitySchemes": { "login": { "type": "oauth2", "flows": {} } } },
        "paths": { "/api/me": { "get": operation("read", &["read"]) }, "/files": { "put": operation("write", &["read", "write"]) } },
    });
    let connection = client
        .connect(json!({ "name": "Files", "spec": document, "authType": "oauth2", "authConfig": fake.by_endpoints() }))
        .await;
    let connection = connection["id"].as_str().unwrap();
    let steps = |id: &str| {
        json!({ "name": id, "steps": [
        { "id": "call", "type": "api_call", "connectionId": connection, "operationId": id }] })
    };
    let warned = |answer: serde_json::Value| answer["warnings"].to_string();
    let early = client.post("/workflows/validate", steps("read")).await.data(200);
    assert!(warned(early).contains("authorize"), "nobody has connected it");
    Way::begin(client, connection).await.back(&server, "").await.data(200);
    assert_eq!(client.post("/workflows/validate", steps("read")).await.data(200)["warnings"], json!([]));
    let validated = client.post("/workflows/validate", steps("write")).await.data(200);
    assert!(warned(validated).contains("needs write, which was not granted"));

    let workflow = client.workflow(steps("write")).await;
    fake.stub.script("PUT /files", [Reply::json(403, &json!({ "error": "insufficient_scope" }))]);
    let started = client.post(&format!("/workflows/{workflow}/execute?wait=30s"), json!({ "input": {} })).await;
    let message = started.body["message"].as_str().unwrap_or_default();
    assert!(message.contains("needs write, which was not granted"), "{}", started.text);
    let execution = started.data(200);
    let said = execution["steps"][0]["error"]["message"].as_str().unwrap().to_owned();
    assert!(said.contains("write") && said.contains("not granted"), "{execution}");
    assert_eq!(fake.refreshes(), 0, "a 403 without invalid_token renews nothing");
    server.finish().await;
}
