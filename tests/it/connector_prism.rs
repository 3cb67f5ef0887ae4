//! Slack's and Stripe's real documents, served by Prism: requests that they do not allow are refused there.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::connectors::{credential, step};
use crate::prism::{installed, serve};
use crate::support::{Server, specs};
use crate::workflows::step as of;

/// Slack's document is of the time when the token travelled in a header of its own, and wants that header with every
/// call; today's API takes `Authorization` alone, which the same document declares as its security scheme.
fn with_todays_token(text: &str) -> String {
    let mut document: Value = serde_json::from_str(text).unwrap();
    for item in document["paths"].as_object_mut().unwrap().values_mut() {
        for operation in item.as_object_mut().unwrap().values_mut() {
            if let Some(parameters) = operation["parameters"].as_array_mut() {
                parameters.retain(|parameter| parameter["name"] != "token");
            }
        }
    }
    document.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_as_prism_serves_it() {
    let Some(specs) = specs::folder() else { return };
    let Some(program) = tokio::task::spawn_blocking(installed).await.unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("slack.json");
    fs::write(&document, with_todays_token(&fs::read_to_string(specs.join("slack-web-v2.json")).unwrap())).unwrap();
    let prism = serve(&program, &document, folder.path(), "/api.test", false).await;
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let slack = credential(client, "slack", json!({ "token": "xoxb-1", "baseUrl": prism.url })).await;
    let blocks = json!([{ "type": "section", "text": { "type": "mrkdwn", "text": "*sold*" } }]);
    let workflow = json!({ "name": "slack", "steps": [
        step("say", "slack", "send_message", &slack, json!({
            "channel": "C1", "text": "hello", "blocks": blocks, "threadTs": "1503435956.000247", "unfurlLinks": false,
            "unfurlMedia": true, "mrkdwn": true, "username": "APIQ", "iconEmoji": ":robot_face:", "replyBroadcast": false,
        })),
        step("fix", "slack", "update_message", &slack,
             json!({ "channel": "{{ steps.say.output.channel }}", "ts": "{{ steps.say.output.ts }}", "text": "new" })),
        step("react", "slack", "add_reaction", &slack,
             json!({ "channel": "C1", "timestamp": "{{ steps.say.output.ts }}", "name": "tada" })),
    ] });
    let workflow = client.workflow(workflow).await;
    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    assert!(of(&execution, "say")["output"]["ts"].is_string(), "{execution}");
    // Some of the document's examples break its own schemas; what we sent does not.
    for step in execution["steps"].as_array().unwrap() {
        let violations = step["headers"]["sl-violations"].as_str().unwrap_or_default();
        assert!(!violations.contains("\"request\""), "{step}");
    }
    let body = json!({ "connectorType": "slack", "name": "Slack", "credentialId": slack });
    let connector = client.post("/connectors", body).await.data(201);
    let tested = client.post(&format!("/connectors/{}/test", connector["id"].as_str().unwrap()), json!({})).await;
    assert_eq!(tested.data(200)["status"], "success", "{}", tested.text);
    server.finish().await;
}

const BALANCE: &str = "/v1/balance";

/// Prism takes minutes to unfold the schemas of Stripe's answers. What is looked at here are requests, which lie in the
/// document as they are: some paths of it, with plain answers. It also takes an object of a form that was not sent for one
/// without its fields: those that must have some are left out, and none is sent.
const REDUCE: &str = r#"
const [yaml, from, to, ...paths] = process.argv.slice(1), fs = require('fs');
const document = require(yaml).parse(fs.readFileSync(from, 'utf8'));
document.paths = Object.fromEntries(paths.map(path => [path, document.paths[path]]));
const schema = { type: 'object' }, example = { id: 'id_1', object: 'thing' };
for (const item of Object.values(document.paths)) for (const operation of Object.values(item)) {
  operation.responses = { 200: { description: 'ok', content: { 'application/json': { schema, example } } } };
  for (const { schema: form, encoding } of Object.values(operation.requestBody?.content ?? {})) {
    for (const [name, field] of Object.entries(form.properties ?? {})) {
      if (JSON.stringify(field).includes('"required"')) { delete form.properties[name]; delete encoding?.[name]; }
    }
  }
}
document.components = { securitySchemes: document.components.securitySchemes };
fs.writeFileSync(to, JSON.stringify(document));
"#;

#[tokio::test(flavor = "multi_thread")]
async fn stripe_as_prism_serves_it() {
    let Some(specs) = specs::folder() else { return };
    let Some(program) = tokio::task::spawn_blocking(installed).await.unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("stripe.json");
    let paths =
        ["/v1/customers", "/v1/customers/{customer}", "/v1/invoices", "/v1/invoiceitems", "/v1/payment_intents"];
    let yaml = program.parent().unwrap().join("../@stoplight/yaml");
    let mut reduce = Command::new("node");
    reduce.args(["-e", REDUCE]).arg(yaml).arg(specs.join("stripe-spec3.yaml")).arg(&document).args(paths).arg(BALANCE);
    let reduced = reduce.output().unwrap();
    assert!(reduced.status.success(), "{}", String::from_utf8_lossy(&reduced.stderr));
    let prism = serve(&program, &document, folder.path(), BALANCE, true).await;
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let stripe = credential(client, "stripe", json!({ "apiKey": "sk_test_1", "baseUrl": prism.url })).await;
    let act = |id: &str, action: &str, input: Value| {
        let mut step = step(id, "stripe", action, &stripe, input);
        step["retry"] = json!({ "maxAttempts": 1 });
        step
    };
    let workflow = json!({ "name": "stripe", "steps": [
        act("customer", "create_customer", json!({
            "email": "ada@example.com", "name": "Ada", "phone": "+49 30 1", "description": "d", "metadata": { "order": 7 },
            "more": { "address": { "city": "Köln", "country": "DE" }, "preferred_locales": ["de"] } })),
        act("invoice", "create_invoice", json!({
            "customer": "cus_1", "collectionMethod": "send_invoice", "daysUntilDue": 14, "autoAdvance": false, "currency": "eur" })),
        act("item", "create_invoice_item", json!({
            "customer": "cus_1", "amount": 1999, "currency": "eur", "invoice": "in_1", "description": "one" })),
        act("intent", "create_payment_intent", json!({
            "amount": 1999, "currency": "eur", "customer": "cus_1", "paymentMethodTypes": ["card"], "confirm": false,
            "receiptEmail": "ada@example.com", "metadata": { "order": "7" } })),
        act("read", "retrieve_customer", json!({ "customer": "cus_1" })),
    ] });
    let workflow = client.workflow(workflow).await;
    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let body = json!({ "connectorType": "stripe", "name": "Stripe", "credentialId": stripe });
    let connector = client.post("/connectors", body).await.data(201);
    let tested = client.post(&format!("/connectors/{}/test", connector["id"].as_str().unwrap()), json!({})).await;
    assert_eq!(tested.data(200)["status"], "success", "{}", tested.text);

    // What the document does not allow is refused by Prism, and shown as such.
    let bad = act("bad", "create_customer", json!({ "more": { "balance": "much" } }));
    let workflow = client.workflow(json!({ "name": "bad", "steps": [bad] })).await;
    let refused = client.execute(&workflow, json!({})).await;
    assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!("failed"), &json!("HTTP_422")), "{refused}");
    server.finish().await;
}
