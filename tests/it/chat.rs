//! Plain English, offline: the seeds' sentence on the two sandbox APIs, confirmation, and what is not run unasked.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Client, Server};

pub const SENTENCE: &str = "Get customer data from CRM and send a welcome email";

/// Both sandbox APIs of a dev server, connected. Gives the sandbox's URL.
pub async fn connect_sandbox(server: &Server, client: &Client) -> String {
    let sandbox = std::fs::read_to_string(server.data().join("sandbox-url")).unwrap().trim().to_owned();
    let crm = json!({ "name": "CRM", "specUrl": format!("{sandbox}/crm/openapi.json"), "authType": "api_key",
        "authConfig": { "in": "header", "name": "X-CRM-Key", "value": "crm_test" } });
    let mailer = json!({ "name": "Mailer", "specUrl": format!("{sandbox}/mailer/openapi.json"), "authType": "bearer",
        "authConfig": { "token": "mail_test" } });
    client.connect(crm).await;
    client.connect(mailer).await;
    sandbox
}

/// What the sandbox mailer has sent.
pub async fn outbox(sandbox: &str) -> Value {
    let request = crate::support::client::http().get(format!("{sandbox}/mailer/messages?limit=100"));
    request.bearer_auth("mail_test").send().await.unwrap().json().await.unwrap()
}

/// An input that satisfies a plan's schema: Jonas, by whatever name the planner gave the field.
pub fn input_for(plan: &Value) -> Value {
    let schema = &plan["workflow"]["inputSchema"];
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let mut input = serde_json::Map::new();
    for name in required.iter().filter_map(Value::as_str) {
        let lower = name.to_lowercase();
        let value = match lower.as_str() {
            text if text.contains("mail") => "jonas.weber@example.org",
            text if text.contains("id") => "cus_1002",
            text if text.contains("name") => "Jonas Weber",
            _ => "Jonas",
        };
        input.insert(name.to_owned(), json!(value));
    }
    Value::Object(input)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sentence_becomes_one_mail() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;

    client.post("/chat", json!({ "message": SENTENCE })).await.refused(502, "AI_SERVICE_ERROR");
    let sandbox = connect_sandbox(&server, client).await;

    // The draft says who planned it, how sure, and what it would do. Nothing has happened.
    let plan = client.post("/chat", json!({ "message": SENTENCE })).await.data(200);
    assert_eq!(plan["planner"], "offline");
    assert!(plan["planId"].as_str().unwrap().starts_with("plan_"), "{plan}");
    let confidence = plan["confidence"].as_f64().unwrap();
    assert!((0.3..=1.0).contains(&confidence), "{confidence}");
    assert!(!plan["explanation"].as_str().unwrap().is_empty());
    let steps = plan["workflow"]["steps"].as_array().unwrap();
    let shown = plan["workflow"].to_string();
    assert!(steps.len() >= 2 && shown.contains("customers") && shown.contains("/messages/welcome"), "{shown}");
    assert!(shown.contains("{{ steps."), "the second step takes what the first found: {shown}");
    assert!(plan["candidates"].as_array().is_some_and(|list| !list.is_empty()), "{plan}");
    assert_eq!(outbox(&sandbox).await["total"], 0, "a plan runs nothing");

    // Run at once it is not, because it writes: the plan comes back to be confirmed.
    let at_once = client.post("/chat/execute", json!({ "message": SENTENCE, "input": input_for(&plan) })).await;
    let offered = at_once.refused(409, "CONFIRMATION_REQUIRED")["data"].clone();
    assert_eq!(offered["planHash"], plan["planHash"], "{offered}");
    assert_eq!(outbox(&sandbox).await["total"], 0);

    // Another hash is another plan.
    let confirm =
        |plan: &Value, hash: &str| json!({ "planId": plan["planId"], "planHash": hash, "input": input_for(plan) });
    let hash = plan["planHash"].as_str().unwrap();
    let other = format!("{}{}", &hash[..hash.len() - 1], if hash.ends_with('0') { '1' } else { '0' });
    client.post("/chat/execute", confirm(&plan, &other)).await.refused(409, "CONFLICT");
    client.post("/chat/execute", confirm(&plan, "")).await;
    assert_eq!(outbox(&sandbox).await["total"], 0);
    let unknown = json!({ "planId": "plan_01h455vb4pex5vsknk084sn02q", "planHash": hash, "input": {} });
    client.post("/chat/execute", unknown).await.refused(404, "PLAN_NOT_FOUND");
    client.post("/chat/execute", json!({ "planId": plan["planId"] })).await.refused(422, "VALIDATION_ERROR");
    client.post("/chat/execute", json!({})).await.refused(422, "VALIDATION_ERROR");

    // Exactly what was shown, once.
    let keyed = client.header("idempotency-key", "confirm");
    let run = keyed.post("/chat/execute", confirm(&plan, hash)).await.data(202);
    let again = keyed.post("/chat/execute", confirm(&plan, hash)).await.data(202);
    assert_eq!(run["executionId"], again["executionId"]);
    let execution = client.ended(run["executionId"].as_str().unwrap(), Duration::from_secs(30)).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let sent = outbox(&sandbox).await;
    assert_eq!(sent["total"], 1, "{sent}");
    let message = &sent["messages"][0];
    assert_eq!(message["template"], "welcome");
    let text = message.to_string();
    assert!(text.contains("example."), "to somebody of the CRM: {text}");
    let workflow = client.get(&format!("/workflows/{}", execution["workflowId"].as_str().unwrap())).await.data(200);
    assert_eq!(workflow["steps"], plan["workflow"]["steps"], "what ran is what was shown");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_only_reads_runs_at_once() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let sandbox = connect_sandbox(&server, &maria.client).await;
    let body = json!({ "message": "List all customers of the CRM", "input": {} });
    let run = maria.client.post("/chat/execute", body).await.data(202);
    let execution = maria.client.ended(run["executionId"].as_str().unwrap(), Duration::from_secs(30)).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    assert!(execution["steps"].to_string().contains("Maria Oliveira"), "{execution}");
    assert_eq!(outbox(&sandbox).await["total"], 0);

    // Nonsense, too long, and what nobody offers.
    maria.client.post("/chat", json!({ "message": "" })).await.names(&["message"]);
    maria.client.post("/chat", json!({ "message": "x".repeat(5_000) })).await.names(&["message"]);
    let context = json!({ "message": "hello", "context": 5, "model": "x" });
    let answer = maria.client.post("/chat", context).await;
    assert!(answer.status == 422 && answer.fields().contains("model"), "{}", answer.text);
    let strange = maria.client.post("/chat", json!({ "message": "zxqv blorp frumious" })).await;
    if strange.status == 200 {
        let plan = strange.data(200);
        assert!(plan["confidence"].as_f64().unwrap() < 0.3, "sure of nonsense: {plan}");
    } else {
        strange.refused(502, "AI_SERVICE_ERROR");
    }

    // Plans of a deleted connection cannot be run.
    let plan = maria.client.post("/chat", json!({ "message": "List all customers of the CRM" })).await.data(200);
    let connections = maria.client.get("/connections?search=CRM").await.data(200);
    maria.client.delete(&format!("/connections/{}", id(&connections["connections"][0]))).await;
    let confirm = json!({ "planId": plan["planId"], "planHash": plan["planHash"], "input": {} });
    let answer = maria.client.post("/chat/execute", confirm).await;
    assert!([409, 422].contains(&answer.status), "{}", answer.text);
    server.finish().await;
}
