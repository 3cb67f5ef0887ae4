//! Risk notes, and hosts that wait for an admin's approval: nothing reaches them before.

use serde_json::{Value, json};

use crate::connectors::{credential, step};
use crate::support::client::id;
use crate::support::keeper::free_port;
use crate::support::{Client, Reply, Server, Stub, ledger};

async fn require_approval(client: &Client) {
    let changed = client.put("/organizations/current", json!({ "settings": { "requireHostApproval": true } })).await;
    assert_eq!(changed.data(200)["settings"]["requireHostApproval"], true);
}

/// What came of a workflow with one call.
async fn called(client: &Client, connection: &Value) -> Value {
    let step = json!({ "id": "fetch", "type": "api_call", "connectionId": id(connection), "method": "GET",
        "endpoint": "/items" });
    let workflow = client.workflow(json!({ "name": "one call", "steps": [step] })).await;
    client.execute(&workflow, json!({})).await
}

async fn says(client: &Client, path: &str) -> Value {
    client.post(&format!("{path}/test"), json!({})).await.data(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_called_at_a_new_host_before_an_admin_says_so() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let (one, two) =
        (Stub::start(|_| Reply::json(200, &json!({}))).await, Stub::start(|_| Reply::json(200, &json!({}))).await);
    let before = client.post("/connections", json!({ "name": "before", "baseUrl": one.url() })).await.data(201);
    assert_eq!(before["approval"], "not_required");
    require_approval(client).await;
    assert_eq!(called(client, &before).await["status"], "completed", "it was there before");

    let body = json!({ "name": "new", "baseUrl": format!("{}/base", two.url()) });
    let connection = client.post("/connections", body.clone()).await.data(201);
    let path = format!("/connections/{}", id(&connection));
    assert_eq!((&connection["approval"], &connection["waitingHosts"]), (&json!("pending"), &json!([two.url()])));
    let execution = called(client, &connection).await;
    assert_eq!(execution["steps"][0]["error"]["code"], "HOST_NOT_APPROVED", "{execution}");
    let test = says(client, &path).await;
    assert_eq!(test["status"], "failed");
    assert!(test["message"].as_str().unwrap().contains("waits for the approval"), "{test}");
    assert!(two.seen().is_empty(), "a host that waits was called");

    let member = maria.with_role("member").await;
    member.post(&format!("{path}/approve"), json!({})).await.refused(403, "FORBIDDEN");
    member.put("/organizations/current", json!({ "settings": {} })).await.refused(403, "FORBIDDEN");
    let rejected = client.post(&format!("{path}/reject"), json!({ "reason": "not a partner" })).await.data(200);
    assert_eq!((&rejected["approval"], &rejected["approvalReason"]), (&json!("rejected"), &json!("not a partner")));
    assert!(says(client, &path).await["message"].as_str().unwrap().contains("not a partner"));
    // Who approves says what: what waits may be another host by now.
    client.post(&format!("{path}/approve"), json!({})).await.names(&["hosts"]);
    let other = json!({ "hosts": [two.url(), "https://other.test"] });
    let refused = client.post(&format!("{path}/approve"), other).await;
    assert_eq!(refused.refused(409, "CONFLICT")["details"][0]["field"], "hosts[1]");
    let approved = client.post(&format!("{path}/approve"), json!({ "hosts": [two.url()] })).await.data(200);
    assert_eq!((&approved["approval"], &approved["waitingHosts"]), (&json!("approved"), &json!([])));
    assert_eq!(called(client, &connection).await["status"], "completed");

    // Approved for the whole workspace; another host asks again.
    let second = client.post("/connections", body).await.data(201);
    assert_eq!(second["approval"], "not_required");
    let third = Stub::start(|_| Reply::json(200, &json!({}))).await;
    let moved = client.patch(&path, json!({ "baseUrl": third.url() })).await.data(200);
    assert_eq!((&moved["approval"], &moved["waitingHosts"]), (&json!("pending"), &json!([third.url()])));
    assert_eq!(called(client, &connection).await["steps"][0]["error"]["code"], "HOST_NOT_APPROVED");
    assert!(third.seen().is_empty());
    // Taken back: new connections ask, this one is closed.
    let back = client.patch(&path, json!({ "baseUrl": two.url() })).await.data(200);
    assert_eq!(back["approval"], "approved");
    client.post(&format!("{path}/reject"), json!({})).await.data(200);
    let seen = two.seen().len();
    assert_eq!(called(client, &connection).await["steps"][0]["error"]["code"], "HOST_NOT_APPROVED");
    assert_eq!(two.seen().len(), seen);
    let again = client.post("/connections", json!({ "name": "again", "baseUrl": two.url() })).await.data(201);
    assert_eq!(again["approval"], "pending");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_waits_for_its_host_and_is_read_after_the_approval() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    require_approval(client).await;
    let api = Stub::start(|_| Reply::json(200, &json!({}))).await;
    let spec = ledger::document(api.url());
    let library = Stub::start(move |_| Reply::json(200, &spec)).await;
    let body = json!({ "name": "doc", "specUrl": format!("{}/openapi.json", library.url()) });
    let connection = client.post("/connections", body).await.data(201);
    let path = format!("/connections/{}", id(&connection));
    let failed = client.ingested(id(&connection)).await;
    assert_eq!((&failed["ingestionStatus"], &failed["approval"]), (&json!("FAILED"), &json!("pending")), "{failed}");
    assert!(failed["ingestionErrors"][0]["message"].as_str().unwrap().contains("waits for the approval"), "{failed}");
    assert!(library.seen().is_empty(), "the document was fetched");

    let stale = client.header("if-match", "\"1\"").post(&format!("{path}/approve"), json!({})).await;
    stale.refused(409, "CONFLICT");
    let seen = failed["version"].to_string();
    client.header("if-match", &seen).post(&format!("{path}/approve"), json!({})).await.data(200);
    let read = client.ingested(id(&connection)).await;
    assert_eq!(read["ingestionStatus"], "SUCCEEDED", "{read}");
    // The document names the API's own host, which waits in turn.
    assert_eq!((&read["approval"], &read["waitingHosts"]), (&json!("pending"), &json!([api.url()])), "{read}");
    let risks = read["risks"].to_string();
    for part in ["plain HTTP", "no authentication", "private range", "write operations: 2 of 4"] {
        assert!(risks.contains(part), "{part}: {risks}");
    }
    client.post(&format!("{path}/approve"), json!({ "hosts": [api.url()] })).await.data(200);
    assert_eq!(says(client, &path).await["status"], "success");
    server.finish().await;
}

/// What an approved host leads to is as closed as it is by itself, for calls, tests and documents.
#[tokio::test(flavor = "multi_thread")]
async fn an_approved_host_leads_to_no_other_one() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let hidden = Stub::start(|_| Reply::json(200, &json!({ "openapi": "3.1.0", "info": {} }))).await;
    let there = format!("{}/somewhere", hidden.url());
    let front = Stub::start(move |_| Reply::json(302, &json!({})).with("Location", &there)).await;
    let before = client.post("/connections", json!({ "name": "before", "baseUrl": front.url() })).await.data(201);
    assert_eq!(called(client, &before).await["status"], "completed");
    assert_eq!(hidden.seen().len(), 1, "nobody has asked for approvals yet");
    require_approval(client).await;
    let execution = called(client, &before).await;
    let message = execution["steps"][0]["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("nobody has approved this host"), "{execution}");

    let body = json!({ "name": "front", "baseUrl": front.url() });
    let connection = client.post("/connections", body).await.data(201);
    let path = format!("/connections/{}", id(&connection));
    client.post(&format!("{path}/approve"), json!({ "hosts": [front.url()] })).await.data(200);
    let execution = called(client, &connection).await;
    let message = execution["steps"][0]["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("nobody has approved this host"), "{execution}");
    assert_eq!(says(client, &path).await["status"], "failed");

    let body = json!({ "name": "document", "specUrl": format!("{}/openapi.json", front.url()) });
    let document = client.post("/connections", body).await.data(201);
    assert_eq!(document["approval"], "not_required", "its host is approved for the workspace");
    let failed = client.ingested(id(&document)).await;
    assert_eq!(failed["ingestionStatus"], "FAILED", "{failed}");
    assert!(failed["ingestionErrors"][0]["message"].as_str().unwrap().contains("nobody has approved"), "{failed}");
    assert!(front.seen().len() >= 3, "the approved host was not asked");
    assert_eq!(hidden.seen().len(), 1, "a host that nobody has approved was called");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_call_approved_hosts_only() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let stub = Stub::start(|_| Reply::json(200, &json!({ "ok": true }))).await;
    let slack = credential(client, "slack", json!({ "token": "t", "baseUrl": stub.url() })).await;
    let mail = json!({ "host": "127.0.0.1", "port": free_port(), "tls": "none", "from": "a@example.com" });
    let mail = credential(client, "smtp", mail).await;
    require_approval(client).await;
    let open = json!({ "connectorType": "http", "action": "request", "url": stub.url() });
    let letter = json!({ "to": "a@example.com", "subject": "s", "text": "t" });
    let mut steps = vec![
        step("say", "slack", "send_message", &slack, json!({ "channel": "C", "text": "t" })),
        json!({ "id": "open", "type": "connector", "config": open }),
        step("mail", "smtp", "send_email", &mail, letter),
    ];
    for step in &mut steps {
        step["onError"] = json!("continue");
        step["retry"] = json!({ "maxAttempts": 1 });
    }
    let workflow = client.workflow(json!({ "name": "connectors", "steps": steps })).await;
    let codes = async || {
        let execution = client.execute(&workflow, json!({})).await;
        let steps = execution["steps"].as_array().unwrap().clone();
        steps.iter().map(|step| step["error"]["code"].as_str().unwrap_or("none").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(codes().await, ["HOST_NOT_APPROVED"; 3]);
    let body = json!({ "connectorType": "slack", "name": "chat", "credentialId": slack });
    let connector = client.post("/connectors", body).await.data(201);
    let test = says(client, &format!("/connectors/{}", id(&connector))).await;
    assert_eq!(test["problem"], "not_approved", "{test}");
    assert!(stub.seen().is_empty(), "a host that nobody approved was called");
    let connection = client.post("/connections", json!({ "name": "chat", "baseUrl": stub.url() })).await.data(201);
    let path = format!("/connections/{}/approve", id(&connection));
    client.post(&path, json!({ "hosts": [stub.url()] })).await.data(200);
    assert_eq!(codes().await, ["none", "none", "NETWORK"], "the mail server's host is approved, and nobody listens");
    server.finish().await;
}
