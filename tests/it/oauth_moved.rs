//! Connections that are changed after somebody has authorized them: tokens and client secrets go where they went, or
//! nowhere.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::fake_provider::{Fake, SECRET, Way, access, form};
use crate::support::{Client, Reply, Server, until};

const SOON: Duration = Duration::from_secs(30);

async fn calling(client: &Client, connection: &str, method: &str) -> String {
    let step =
        json!({ "id": "me", "type": "api_call", "connectionId": connection, "method": method, "endpoint": "/api/me" });
    client.workflow(json!({ "name": "call", "steps": [step] })).await
}

fn error_of(execution: &Value) -> &str {
    execution["steps"][0]["error"]["code"].as_str().unwrap_or("none")
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_gets_no_token() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let (fake, evil) = (Fake::start(false).await, Fake::start(false).await);
    let connection = fake.connection(client, fake.by_endpoints()).await;
    Way::begin(client, &connection).await.back(&server, "").await.data(200);
    let workflow = calling(client, &connection, "GET").await;
    assert_eq!(client.execute(&workflow, json!({})).await["status"], "completed");

    // Whoever may write connections and credentials may not see a token: a new host and a new secret give none away.
    let manager = maria.with_role("manager").await;
    let path = format!("/connections/{connection}");
    let (before, other) = (Way::begin(client, &connection).await, Way::begin(client, &connection).await);
    manager.patch(&path, json!({ "baseUrl": evil.url() })).await.data(200);
    manager
        .put(&format!("{path}/credentials"), json!({ "credentials": { "clientSecret": "another-secret" } }))
        .await
        .data(200);
    assert_eq!(error_of(&client.execute(&workflow, json!({})).await), "CREDENTIAL_BOUND");
    let test = client.post(&format!("{path}/test"), json!({})).await.data(200);
    assert_eq!(test["problem"], "credential_bound", "{test}");
    // Nor does somebody who agrees to the host that it was.
    let answer = before.back(&server, "").await;
    let sentence = answer.refused(400, "OAUTH2_ERROR")["error"].as_str().unwrap().to_owned();
    assert!(sentence.contains("host was changed"), "{sentence}");
    assert_eq!(evil.stub.seen().len(), 0, "nothing was sent there");
    assert_eq!(fake.stub.seen_at("POST /token").len(), 1, "no code was exchanged");

    // Back at the old host the grant is as good as it was; agreed to anew, the new one gets it.
    manager.patch(&path, json!({ "baseUrl": fake.url() })).await.data(200);
    assert_eq!(client.execute(&workflow, json!({})).await["status"], "completed");
    other.back(&server, "").await.data(200);
    manager.patch(&path, json!({ "baseUrl": evil.url() })).await.data(200);
    Way::begin(client, &connection).await.back(&server, "").await.data(200);
    client.execute(&workflow, json!({})).await;
    let seen = evil.stub.seen_at("GET /api/me");
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {}", access(3)).as_str()));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_or_kind_gets_no_secret() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let (fake, evil) = (Fake::start(false).await, Fake::start(false).await);
    let connection = fake.connection(client, fake.by_endpoints()).await;
    let path = format!("/connections/{connection}");
    Way::begin(client, &connection).await.back(&server, "").await.data(200);
    let begun = Way::begin(client, &connection).await;

    // Another token endpoint, and the secret that is stored.
    let moved = json!({
        "authorizationUrl": format!("{}/authorize", fake.url()), "tokenUrl": format!("{}/token", evil.url()),
        "clientId": "apiq",
    });
    client.patch(&path, json!({ "authConfig": moved })).await.data(200);
    let way = Way::begin(client, &connection).await;
    assert!(way.path.contains("--"), "both hosts name the callback: {}", way.path);
    way.back(&server, "").await.data(200);
    let seen = evil.stub.seen_at("POST /token");
    let told = |seen: &crate::support::stub::Seen| {
        (form(&seen.body).get("client_secret").cloned(), seen.header("authorization").map(str::to_owned))
    };
    assert_eq!(told(&seen[0]), (None, None), "it has no secret");
    // With the secret in the same request it has; and an authorization of the client before is over.
    let mut again = moved.clone();
    (again["clientId"], again["clientSecret"]) = (json!("second"), json!("second-secret"));
    client.patch(&path, json!({ "authConfig": again })).await.data(200);
    let answer = begun.back(&server, "").await;
    answer.refused(400, "OAUTH2_ERROR");
    Way::begin(client, &connection).await.back(&server, "").await.data(200);
    let told = format!("{:?}", told(&evil.stub.seen_at("POST /token")[1]));
    assert!(told.contains("Basic") || told.contains("second-secret"), "{told}");
    for seen in evil.stub.seen() {
        let text = format!("{:?} {}", seen.header("authorization"), String::from_utf8_lossy(&seen.body));
        assert!(!text.contains(SECRET), "{text}");
    }
    assert_eq!(fake.stub.seen_at("POST /token").len(), 1);
    // An issuer vouches for its own endpoints only.
    let mixed = json!({ "issuer": fake.url(), "tokenUrl": format!("{}/token", evil.url()), "clientId": "apiq" });
    client.patch(&path, json!({ "authConfig": mixed })).await.names(&["authConfig.tokenUrl"]);

    // As another kind of credential nothing of it is sent.
    let workflow = calling(client, &connection, "GET").await;
    client.patch(&path, json!({ "authType": "bearer" })).await.data(200);
    let execution = client.execute(&workflow, json!({})).await;
    assert!(["CREDENTIAL_MISSING", "CREDENTIAL_UNUSABLE"].contains(&error_of(&execution)), "{execution}");
    assert_eq!(fake.stub.seen_at("GET /api/me").len(), 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_sent_as_another_kind() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let fake = Fake::start(false).await;
    let body = json!({
        "name": "key", "baseUrl": fake.url(), "authType": "basic",
        "authConfig": { "username": "maria", "password": "canary-password" },
    });
    let made = client.post("/connections", body).await.data(201);
    let connection = crate::support::client::id(&made);
    let workflow = calling(client, connection, "GET").await;
    client.patch(&format!("/connections/{connection}"), json!({ "authType": "bearer" })).await.data(200);
    assert_eq!(error_of(&client.execute(&workflow, json!({})).await), "CREDENTIAL_UNUSABLE");
    let test = client.post(&format!("/connections/{connection}/test"), json!({})).await.data(200);
    assert_eq!(test["problem"], "credential_unusable", "{test}");
    assert_eq!(fake.stub.seen().len(), 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_call_whose_end_nobody_knows_is_unknown() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let fake = Fake::start(false).await;
    let connection = fake.connection(client, fake.by_endpoints()).await;
    Way::begin(client, &connection).await.back(&server, "").await.data(200);
    let workflow = calling(client, &connection, "POST").await;
    let refused = Reply::json(401, &json!({ "error": "invalid_token" }));
    fake.stub.script("POST /api/me", [refused, Reply::Close]);
    let begun = client.post(&format!("/workflows/{workflow}/execute"), json!({ "input": {} })).await;
    let id = begun.body["data"]["executionId"].as_str().or(begun.body["data"]["id"].as_str()).unwrap().to_owned();
    let execution = until("the step is not known to have happened", SOON, async || {
        let execution = client.get(&format!("/executions/{id}")).await.data(200);
        let status = execution["steps"][0]["status"].as_str().unwrap_or_default().to_owned();
        (status != "running" && status != "pending").then_some(execution)
    })
    .await;
    assert_eq!(execution["steps"][0]["status"], "outcome_unknown", "{execution}");
    assert_eq!(fake.stub.seen_at("POST /api/me").len(), 2);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_stores_what_the_provider_gave() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    let client = maria.client.clone();
    let fake = Fake::start(false).await;
    let connection = fake.connection(&client, fake.by_endpoints()).await;
    Way::begin(&client, &connection).await.back(&server, "").await.data(200);
    fake.book().pace = Duration::from_secs(7);
    let (asking, body) = (client.clone(), json!({ "connectionId": connection }));
    let asked = tokio::spawn(async move { asking.try_post("/oauth/refresh", body).await });
    until("the provider was asked", SOON, async || (fake.refreshes() == 1).then_some(())).await;
    // Whoever asked hangs up, and the node is told to stop.
    asked.abort();
    server.stop().await;
    server.launch().await;
    let client = server.anonymous().bearer(&maria.access);
    let token = client.get(&format!("/oauth/token?connectionId={connection}")).await.data(200);
    assert_eq!(token["accessToken"], json!(access(2)));
    server.finish().await;
}
