//! Workflows that run: data from step to step, conditions, loops, transforms, versions, retries, deduplication.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Ledger, Reply, Server};

/// The step instances of an execution by key.
pub fn step<'a>(execution: &'a Value, key: &str) -> &'a Value {
    let steps = execution["steps"].as_array().unwrap_or_else(|| panic!("no steps: {execution}"));
    steps.iter().find(|step| step["id"] == key).unwrap_or_else(|| panic!("no step {key}: {execution}"))
}

fn call(id: &str, connection: &str, operation: &str) -> Value {
    json!({ "id": id, "type": "api_call", "connectionId": connection, "operationId": operation })
}

fn with(mut step: Value, name: &str, value: Value) -> Value {
    step[name] = value;
    step
}

const QUICK: &str = r#"{ "maxAttempts": 4, "initialInterval": "50ms", "maxInterval": "100ms" }"#;

fn quick() -> Value {
    serde_json::from_str(QUICK).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_flows_from_step_to_step() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let ledger = Ledger::start(Duration::ZERO).await;
    let connection = maria.client.connect(ledger.connection("ledger")).await;
    let connection = id(&connection);

    let definition = json!({
        "name": "every kind of step",
        "description": "what a workflow can do",
        "inputSchema": {
            "type": "object", "required": ["colour"], "additionalProperties": false,
            "properties": { "colour": { "type": "string" }, "big": { "type": "boolean" } },
        },
        "steps": [
            call("list", connection, "listItems"),
            { "id": "first", "type": "api_call", "apiConnectionId": connection, "method": "get",
              "endpoint": "/items/{itemId}",
              "parameters": { "itemId": "{{ steps.list.output.items[0].id }}", "colour": "{{ input.colour }}" } },
            { "id": "shape", "type": "transform", "output": {
                "label": "{{ steps.first.output.label }}",
                "text": "{{ input.colour }}: {{ steps.list.output.total }}",
                "total": "{{ steps.list.output.total }}",
                "status": "{{ steps.first.status }}",
                "kind": "{{ steps.first.headers['content-type'] }}",
                "ids": "{{ steps.list.output.items | map(attribute='id') | list }}" } },
            { "id": "choice", "type": "condition", "expression": "steps.shape.output.total > 2",
              "then": [{ "id": "many", "type": "transform", "output": "many" }],
              "else": [{ "id": "few", "type": "transform", "output": "few" }] },
            { "id": "skipped", "type": "transform", "if": "input.big", "output": "never" },
            { "id": "each", "type": "loop", "items": "{{ steps.list.output.items }}", "as": "thing", "maxConcurrency": 2,
              "steps": [
                with(call("order", connection, "placeOrder"), "parameters", json!({ "item": "{{ thing.id }}" })),
                { "id": "note", "type": "transform", "output": "{{ index }}/{{ steps.order.output.item }}" },
              ] },
        ],
        "output": {
            "shape": "{{ steps.shape.output }}",
            "many": "{{ steps.many.output }}",
            "notes": "{{ steps.note | map(attribute='output') | list }}",
            "run": "{{ execution.id }}",
        },
    });
    let workflow = maria.client.workflow(definition).await;
    let input = json!({ "colour": "dark red", "big": false });
    let execution = maria.client.execute(&workflow, input.clone()).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    assert_eq!(execution["input"], input);
    let expected = json!({ "label": "item 1", "text": "dark red: 3", "total": 3, "status": 200,
        "kind": "application/json", "ids": [1, 2, 3] });
    assert_eq!(execution["output"]["shape"], expected);
    assert_eq!(execution["output"]["many"], "many");
    assert_eq!(execution["output"]["notes"], json!(["0/1", "1/2", "2/3"]));
    assert_eq!(execution["output"]["run"], execution["id"]);

    let first = step(&execution, "first");
    assert_eq!((&first["status"], &first["httpStatus"]), (&json!("completed"), &json!(200)), "{first}");
    assert!(first["input"].to_string().contains("/items/1"), "{first}");
    assert_eq!(step(&execution, "skipped")["status"], "skipped");
    assert_eq!(step(&execution, "each[2].order")["output"]["item"], json!(3));
    assert!(execution["steps"].as_array().unwrap().iter().all(|step| step["id"] != "few"));
    let query = &ledger.stub.seen_at("GET /items/1")[0].query;
    assert!(["colour=dark+red", "colour=dark%20red"].contains(&query.as_str()), "{query}");

    // Three orders, each once, each with a key of its own.
    let orders = ledger.orders();
    let mut items: Vec<_> = orders.values().map(|effect| (effect.body["item"].as_i64(), effect.asked)).collect();
    items.sort_unstable();
    assert_eq!(items, [(Some(1), 1), (Some(2), 1), (Some(3), 1)]);
    // Another run is another matter: three more.
    maria.client.execute(&workflow, json!({ "colour": "blue", "big": true })).await;
    assert_eq!(ledger.orders().len(), 6);

    // Where it stands, and the list.
    let status = maria.client.get(&format!("/executions/{}/status", id(&execution))).await.data(200);
    assert_eq!((&status["status"], &status["progress"]), (&json!("completed"), &json!(100)), "{status}");
    let listed = maria.client.get(&format!("/executions?workflowId={workflow}&status=completed")).await.data(200);
    assert_eq!(listed["pagination"]["total"], 2);
    let own = maria.client.get(&format!("/workflows/{workflow}/executions")).await.data(200);
    assert_eq!(own["pagination"]["total"], 2);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_kept_in_versions() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let say = |text: &str| json!([{ "id": "say", "type": "transform", "output": text }]);
    let workflow = client.workflow(json!({ "name": "say", "steps": say("one") })).await;
    let path = format!("/workflows/{workflow}");
    client.put(&path, json!({ "name": "say", "steps": say("two") })).await.data(200);
    let got = client.get(&path).await.data(200);
    assert_eq!((&got["currentVersion"], &got["steps"][0]["output"]), (&json!(2), &json!("two")), "{got}");
    let versions = client.get(&format!("{path}/versions")).await.data(200);
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2, "{versions}");
    let first = client.get(&format!("{path}/versions/1")).await.data(200);
    assert_eq!(first["steps"][0]["output"], "one", "{first}");
    client.get(&format!("{path}/versions/9")).await.refused(404, "WORKFLOW_NOT_FOUND");
    assert_eq!(client.execute(&workflow, json!({})).await["output"]["say"], "two");

    // Switched off, it does not run; deleted, it is not there.
    client.patch(&path, json!({ "status": "paused" })).await.data(200);
    client.post(&format!("{path}/execute"), json!({ "input": {} })).await.refused(409, "CONFLICT");
    client.patch(&path, json!({ "status": "active" })).await.data(200);
    assert_eq!(client.delete(&path).await.status, 200);
    client.get(&path).await.refused(404, "WORKFLOW_NOT_FOUND");
    client.post(&format!("{path}/execute"), json!({ "input": {} })).await.refused(404, "WORKFLOW_NOT_FOUND");
    let kept = client.get(&format!("/executions?workflowId={workflow}")).await.data(200);
    assert_eq!(kept["pagination"]["total"], 1, "what ran stays");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_with_faults_is_asked_again_where_that_is_safe() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let ledger = Ledger::start(Duration::ZERO).await;
    let connection = client.connect(ledger.connection("ledger")).await;
    let connection = id(&connection);
    let run = async |step: Value| {
        let workflow = client.workflow(json!({ "name": "one step", "steps": [with(step, "retry", quick())] })).await;
        client.execute(&workflow, json!({})).await
    };
    let error = |status: u16| Reply::json(status, &json!({ "error": "out of order" }));

    // A read: 500, nothing at all, half of an answer, then the truth. Each attempt is kept.
    ledger.stub.script("GET /items", [error(500), Reply::Close, Reply::Cut]);
    let execution = run(call("list", connection, "listItems")).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let list = step(&execution, "list");
    assert_eq!(list["attempts"].as_array().unwrap().len(), 4, "{list}");
    assert_eq!(list["output"]["total"], 3);

    // 500 to the end: failed, with the code and the answer, and not one attempt more than asked for.
    ledger.stub.script("GET /items", [error(500), error(500), error(500), error(500)]);
    let before = ledger.stub.seen().len();
    let execution = run(call("list", connection, "listItems")).await;
    assert_eq!(execution["status"], "failed");
    assert_eq!(step(&execution, "list")["error"]["code"], "HTTP_500", "{execution}");
    assert_eq!(execution["error"]["code"], "HTTP_500", "{execution}");
    assert_eq!(ledger.stub.seen().len() - before, 4);
    // A client's fault is not repeated.
    ledger.stub.script("GET /items", [error(404)]);
    let before = ledger.stub.seen().len();
    let execution = run(call("list", connection, "listItems")).await;
    assert_eq!(step(&execution, "list")["error"]["code"], "HTTP_404");
    assert_eq!(ledger.stub.seen().len() - before, 1);

    // 429 is asked again when the server says so.
    ledger.stub.script("POST /orders", [error(429).with("retry-after", "1")]);
    let began = std::time::Instant::now();
    let order = |item: Value| with(call("order", connection, "placeOrder"), "parameters", json!({ "item": item }));
    assert_eq!(run(order(json!("late"))).await["status"], "completed");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());

    // A write with a key: the effect happened, the answer was lost; asked again, done once.
    ledger.stub.script("POST /orders", [Reply::Cut, Reply::Close, error(500)]);
    let execution = run(order(json!("book"))).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let keys: Vec<_> = ledger
        .stub
        .seen_at("POST /orders")
        .iter()
        .filter(|seen| seen.json()["item"] == "book")
        .map(|seen| seen.header("idempotency-key").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 4);
    assert!(keys.iter().all(|key| *key == keys[0]), "one key for all attempts: {keys:?}");
    assert_eq!(ledger.orders().values().filter(|effect| effect.body["item"] == "book").count(), 1);

    // A write without a key: nobody knows, and nobody asks again. A person decides.
    let letter = with(call("letter", connection, "sendLetter"), "parameters", json!({ "text": "hello" }));
    ledger.stub.script("POST /letters", [Reply::Cut]);
    let execution = run(letter.clone()).await;
    assert_eq!(execution["status"], "outcome_unknown", "{execution}");
    assert_eq!(ledger.stub.seen_at("POST /letters").len(), 1);
    let path = format!("/executions/{}/steps/letter/resolve", id(&execution));
    client.post(&path, json!({ "outcome": "perhaps" })).await.names(&["outcome"]);
    let resolved = client.post(&path, json!({ "outcome": "completed", "output": { "letterId": 7 } })).await;
    assert_eq!(resolved.status, 200, "{}", resolved.text);
    let ended = client.ended(id(&execution), Duration::from_secs(20)).await;
    assert_eq!((&ended["status"], &ended["output"]["letter"]["letterId"]), (&json!("completed"), &json!(7)), "{ended}");
    assert_eq!(client.post(&path, json!({ "outcome": "failed" })).await.status, 409);
    // 500 and the like may come after the effect: nobody knows, either. 503 says that nothing was done: repeated.
    for status in [500, 502, 504] {
        ledger.stub.script("POST /letters", [error(status)]);
        let execution = run(letter.clone()).await;
        assert_eq!(execution["status"], "outcome_unknown", "{execution}");
        let told = step(&execution, "letter")["error"]["message"].as_str().unwrap();
        assert!(told.contains(&status.to_string()), "{told}");
    }
    ledger.stub.script("POST /letters", [error(503)]);
    assert_eq!(run(letter).await["status"], "completed");
    assert_eq!(ledger.letters().len(), 1);

    // An API that says nothing: the step's own timeout, then again.
    ledger.stub.script("GET /items", [Reply::Hang]);
    let execution = run(with(call("list", connection, "listItems"), "timeout", json!("300ms"))).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let attempts = step(&execution, "list")["attempts"].clone();
    assert_eq!(attempts.as_array().unwrap().len(), 2, "{attempts}");
    assert_eq!(attempts[0]["error"]["code"], "TIMEOUT", "{attempts}");

    // A failure may be passed over.
    ledger.stub.script("GET /items", [error(404)]);
    let steps = json!([with(call("list", connection, "listItems"), "onError", json!("continue")),
        { "id": "after", "type": "transform", "output": "went on" }]);
    let workflow = client.workflow(json!({ "name": "goes on", "steps": steps })).await;
    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!((&execution["status"], &execution["output"]["after"]), (&json!("completed"), &json!("went on")));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_can_be_cancelled() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let ledger = Ledger::start(Duration::ZERO).await;
    let connection = client.connect(ledger.connection("ledger")).await;
    ledger.stub.script("GET /items", [Reply::Hang]);
    let order = with(call("order", id(&connection), "placeOrder"), "parameters", json!({ "item": 1 }));
    let steps = json!([call("list", id(&connection), "listItems"), order]);
    let workflow = client.workflow(json!({ "name": "hangs", "steps": steps })).await;
    let started = client.post(&format!("/workflows/{workflow}/execute"), json!({ "input": {} })).await.data(202);
    let execution = started["executionId"].as_str().unwrap();
    crate::support::until("the call is under way", Duration::from_secs(20), async || {
        (!ledger.stub.seen().is_empty()).then_some(())
    })
    .await;
    let path = format!("/executions/{execution}");
    assert_eq!(client.post(&format!("{path}/cancel"), json!({})).await.status, 200);
    let ended = client.ended(execution, Duration::from_secs(20)).await;
    assert_eq!(ended["status"], "cancelled", "{ended}");
    client.post(&format!("{path}/cancel"), json!({})).await.refused(409, "EXECUTION_ALREADY_COMPLETED");
    assert_eq!(ledger.orders().len(), 0, "nothing happens after the end");
    server.finish().await;
}
