//! Workflows that must not be saved, and inputs that must not be run: every fault at once, with its place.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Ledger, Server};
use crate::workflows::step;

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_workflow_is_named_at_once() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let ledger = Ledger::start(Duration::ZERO).await;
    let connection = client.connect(ledger.connection("ledger")).await;
    let connection = id(&connection);

    // The shape: types, ranges, unknown fields, names.
    let shapes = json!([
        { "id": "a b", "type": "transform", "output": 1 },
        { "id": "x", "type": "teleport" },
        { "id": "y", "type": "transform" },
        { "id": "y", "type": "transform", "output": 1, "colour": "red" },
        { "type": "api_call", "connectionId": connection },
        { "type": "api_call", "connectionId": "wf_01h455vb4pex5vsknk084sn02q", "method": "GRAB", "endpoint": "items" },
        { "type": "loop", "as": "steps", "maxConcurrency": 1000 },
        { "type": "condition" },
        { "type": "transform", "output": 1, "timeout": "soon", "onError": "panic", "retry": { "maxAttempts": 0, "on": ["4xx"] } },
        { "type": "api_call", "connectionId": connection, "operationId": "listItems", "headers": { "Authorization": "x" } },
    ]);
    let answer = client.post("/workflows", json!({ "name": "shapes", "steps": shapes })).await;
    answer.names(&[
        "steps[0].id",
        "steps[1].type",
        "steps[2].output",
        "steps[3].id",
        "steps[3].colour",
        "steps[4].endpoint",
        "steps[5].connectionId",
        "steps[5].method",
        "steps[5].endpoint",
        "steps[6].items",
        "steps[6].as",
        "steps[6].maxConcurrency",
        "steps[6].steps",
        "steps[7].expression",
        "steps[7].then",
        "steps[8].timeout",
        "steps[8].onError",
        "steps[8].retry.maxAttempts",
        "steps[8].retry.on",
        "steps[9].headers.Authorization",
    ]);

    // The meaning: operations, parameters and variables that do not exist.
    let meanings = json!([
        { "id": "one", "type": "api_call", "connectionId": connection, "operationId": "listItemz" },
        { "id": "two", "type": "api_call", "connectionId": connection, "method": "DELETE", "endpoint": "/items" },
        { "id": "three", "type": "api_call", "connectionId": connection, "operationId": "getItem", "parameters": { "size": 1 } },
        { "id": "four", "type": "transform", "output": {
            "a": "{{ input.colour }}", "b": "{{ steps.nine.output }}", "c": "{{ secrets.token }}", "d": "{{ nonsense }}",
            "e": "{{ steps.one.result }}", "f": "{{ 1 + }}" } },
        { "id": "five", "type": "condition", "expression": "steps.six.output", "then": [
            { "id": "six", "type": "transform", "output": "{{ steps.six.output }}" }] },
        { "id": "seven", "type": "api_call", "connectionId": "conn_01h455vb4pex5vsknk084sn02q", "operationId": "x" },
    ]);
    let schema = json!({ "type": "object", "properties": { "size": { "type": "integer" } } });
    let body =
        json!({ "name": "meanings", "inputSchema": schema, "steps": meanings, "output": "{{ steps.eight.output }}" });
    let expected = [
        "steps[0].operationId",
        "steps[1].endpoint",
        "steps[2].parameters.itemId",
        "steps[2].parameters.size",
        "steps[3].output.a",
        "steps[3].output.b",
        "steps[3].output.c",
        "steps[3].output.d",
        "steps[3].output.e",
        "steps[3].output.f",
        "steps[4].expression",
        "steps[4].then[0].output",
        "steps[5].connectionId",
        "output",
    ];
    let answer = client.post("/workflows", body.clone()).await;
    answer.names(&expected);
    let hint = answer.body["details"].to_string();
    assert!(hint.contains("did you mean GET /items"), "{hint}");
    let mut definition = body;
    definition.as_object_mut().unwrap().remove("name");
    let validated = client.post("/workflows/validate", definition).await.data(200);
    assert_eq!(validated["valid"], false, "{validated}");
    assert_eq!(validated["errors"].as_array().unwrap().len(), expected.len(), "{validated}");

    for bad in
        [json!({}), json!({ "name": "x" }), json!({ "name": "x", "steps": [] }), json!({ "name": "x", "steps": "a" })]
    {
        let answer = client.post("/workflows", bad).await;
        answer.refused(422, "VALIDATION_ERROR");
        assert!(answer.fields().contains("steps"), "{}", answer.text);
    }
    let bad_schema =
        json!({ "name": "x", "inputSchema": { "type": "thing" }, "steps": [{ "type": "transform", "output": 1 }] });
    client.post("/workflows", bad_schema).await.names(&["inputSchema"]);
    let many: Vec<Value> = (0..501).map(|_| json!({ "type": "transform", "output": 1 })).collect();
    client.post("/workflows", json!({ "name": "x", "steps": many })).await.names(&["steps[500]"]);

    assert_eq!(client.get("/workflows").await.data(200)["pagination"]["total"], 0, "none of them was saved");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_inputs_and_expressions() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let schema = json!({ "type": "object", "required": ["name", "size"], "additionalProperties": false,
        "properties": { "name": { "type": "string", "minLength": 2 }, "size": { "type": "integer", "maximum": 9 } } });
    let steps = json!([{ "id": "say", "type": "transform", "output": "{{ input.name }}" }]);
    let workflow = client.workflow(json!({ "name": "checked", "inputSchema": schema, "steps": steps })).await;
    let path = format!("/workflows/{workflow}/execute");
    let answer = client.post(&path, json!({ "input": { "name": "x", "size": 10, "colour": "red" } })).await;
    answer.refused(422, "VALIDATION_ERROR");
    let fields = answer.fields();
    assert!(fields.len() == 3 && fields.contains("input.name") && fields.contains("input.size"), "{fields:?}");
    let missing = client.post(&path, json!({ "input": {} })).await;
    missing.refused(422, "VALIDATION_ERROR");
    assert_eq!(missing.body["details"].as_array().unwrap().len(), 2, "{}", missing.text);
    client.post(&path, json!({ "input": [1] })).await.refused(422, "VALIDATION_ERROR");
    client.post(&path, json!({ "inputs": {} })).await.names(&["inputs"]);
    client.post(&format!("{path}?wait=forever"), json!({})).await.names(&["wait"]);

    // What only shows when it runs fails the step, and names the expression but not the values.
    let run = async |output: Value| {
        let steps = json!([{ "id": "say", "type": "transform", "output": output }]);
        let workflow = client.workflow(json!({ "name": "runs", "steps": steps })).await;
        client.execute(&workflow, json!({ "secretish": "canary-input" })).await
    };
    for bad in ["{{ input.absent }}", "{{ input.secretish + 1 }}", "{{ input.secretish.a.b }}"] {
        let execution = run(json!(bad)).await;
        assert_eq!(execution["status"], "failed", "{bad}");
        let error = step(&execution, "say")["error"].clone();
        assert_eq!(error["code"], "EXPRESSION", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("input.") && !message.contains("canary"), "{message}");
    }
    // Bounded: neither endless nor endlessly large.
    let list: Vec<u32> = (0..2_000).collect();
    let run = async |steps: Value| {
        let workflow = client.workflow(json!({ "name": "bounded", "steps": steps })).await;
        let execution = client.execute(&workflow, json!({ "list": list })).await;
        assert_eq!(execution["status"], "failed", "{steps}");
        execution["error"]["message"].as_str().unwrap().to_owned()
    };
    let bomb = "{% for a in input.list %}{% for b in input.list %}{{ a }}{% endfor %}{% endfor %}";
    run(json!([{ "id": "x", "type": "transform", "output": bomb }])).await;
    let loops = json!([{ "id": "each", "type": "loop", "items": "{{ input.list }}", "maxIterations": 5,
        "steps": [{ "id": "x", "type": "transform", "output": 1 }] }]);
    assert!(run(loops).await.contains("maxIterations"));
    server.finish().await;
}
