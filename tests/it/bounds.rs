//! What a credential is bound to, and what a stop must not break.

use std::time::Duration;

use serde_json::json;

use crate::support::client::id;
use crate::support::{Ledger, Reply, Server, Stub, ledger, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_goes_to_the_host_it_was_stored_for_and_to_no_other() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let good = Ledger::start(Duration::ZERO).await;
    let thief = Stub::start(|_| Reply::json(200, &json!({}))).await;
    let mut body = good.connection("bound");
    body["authType"] = json!("bearer");
    body["authConfig"] = json!({ "token": "canary-bound" });
    let connection = maria.client.connect(body).await;
    let path = format!("/connections/{}", id(&connection));
    assert_eq!(maria.client.post(&format!("{path}/test"), json!({})).await.data(200)["status"], "success");
    let step =
        json!({ "id": "fetch", "type": "api_call", "connectionId": id(&connection), "operationId": "listItems" });
    let workflow = maria.client.workflow(json!({ "name": "bound", "steps": [step] })).await;

    // A member may change the connection, but the owner's credential does not follow it.
    let member = maria.with_role("member").await;
    member.patch(&path, json!({ "baseUrl": thief.url() })).await.data(200);
    let tested = member.post(&format!("{path}/test"), json!({})).await.data(200);
    assert_eq!((&tested["status"], &tested["problem"]), (&json!("failed"), &json!("credential_bound")), "{tested}");
    // It was opened for the first test alone: what is not sent is not read.
    let credential = connection["credentialId"].as_str().unwrap();
    let reads = maria.client.get(&format!("/credentials/{credential}/reads")).await.data(200)["reads"].clone();
    assert_eq!(reads.as_array().unwrap().len(), 1, "{reads}");
    let run = member.execute(&workflow, json!({})).await;
    assert_eq!(run["steps"][0]["error"]["code"], "CREDENTIAL_BOUND", "{run}");
    assert_eq!(thief.seen().len(), 0);
    // Whoever may store a credential says so by storing it again.
    let value = json!({ "credentials": { "token": "canary-again" } });
    assert_eq!(maria.client.put(&format!("{path}/credentials"), value).await.status, 200);
    member.execute(&workflow, json!({})).await;
    assert_eq!(thief.seen()[0].header("authorization"), Some("Bearer canary-again"));

    // A path that makes another host of the base is refused: `127.0.0.1:4425` and `7/x` are `127.0.0.1:44257`.
    let url = thief.url().trim_end_matches('/');
    let (base, digit) = url.split_at(url.len() - 1);
    let mut document = ledger::document(base);
    let item = document["paths"]["/items"].clone();
    document["paths"] = json!({ format!("{digit}/items"): item });
    let body = json!({ "name": "glued", "spec": document.to_string(), "baseUrl": base, "authType": "bearer",
        "authConfig": { "token": "canary-glued" } });
    let glued = maria.client.connect(body).await;
    let tested = maria.client.post(&format!("/connections/{}/test", id(&glued)), json!({})).await.data(200);
    assert_eq!(tested["status"], "failed", "{tested}");
    let all = format!("{:?}", thief.seen());
    assert!(!all.contains("canary-bound") && !all.contains("canary-glued"), "{all}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_ends_what_it_has_begun() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    let token = maria.key("owner").await;
    let stub = Stub::start(|_| Reply::json(200, &json!({ "sent": true }))).await;
    stub.script(
        "POST /slow",
        [Reply::Late(Duration::from_secs(3), Box::new(Reply::json(200, &json!({ "sent": true }))))],
    );
    let connection = json!({ "name": "plain", "baseUrl": stub.url(), "authType": "none" });
    let connection = maria.client.post("/connections", connection).await.data(201);
    let call = |name: &str, path: &str| json!({ "id": name, "type": "api_call", "connectionId": id(&connection), "method": "POST", "endpoint": path });
    let workflow = json!({ "name": "slow", "steps": [call("first", "/slow"), call("second", "/quick")] });
    let workflow = maria.client.workflow(workflow).await;
    let begun = maria.client.post(&format!("/workflows/{workflow}/execute"), json!({ "input": {} })).await.data(202);
    until("the call is under way", Duration::from_secs(20), async || (!stub.seen().is_empty()).then_some(())).await;
    server.stop().await;
    server.launch().await;
    let execution = begun["executionId"].as_str().unwrap();
    let ended = server.anonymous().bearer(&token).ended(execution, Duration::from_secs(60)).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!((stub.seen_at("POST /slow").len(), stub.seen_at("POST /quick").len()), (1, 1));
    server.finish().await;
}
