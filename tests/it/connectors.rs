//! Connectors by their routes: what types there are, typed credentials, instances and their test, and what is refused.

use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Client, Reply, Server, Stub};

/// Stores a connector's credential and gives its id.
pub async fn credential(client: &Client, kind: &str, data: Value) -> String {
    let body = json!({ "name": format!("{kind} credential"), "type": kind, "data": data });
    id(&client.post("/credentials", body).await.data(201)).to_owned()
}

/// A step of a connector.
pub fn step(id: &str, kind: &str, action: &str, credential: &str, input: Value) -> Value {
    let mut config = json!({ "connectorType": kind, "action": action, "credentialId": credential });
    config.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
    json!({ "id": id, "type": "connector", "config": config })
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_listed_with_what_they_want() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let listed = maria.client.get("/connectors?available=true").await.data(200);
    assert!(listed["connectors"].is_null(), "{listed}");
    let types = listed["types"].as_array().unwrap();
    let actions = |name: &str| -> Vec<String> {
        let found = types.iter().find(|known| known["connectorType"] == name).unwrap_or_else(|| panic!("no {name}"));
        for action in found["actions"].as_array().unwrap() {
            assert_eq!(action["input"]["type"], "object", "{action}");
            assert!(action["output"].is_object() && action["repeat"].is_string(), "{action}");
        }
        assert!(found["credential"]["properties"].is_object() && found["config"].is_object());
        found["actions"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(types.len(), 5);
    assert_eq!(actions("slack"), ["send_message", "update_message", "add_reaction"]);
    assert_eq!(actions("smtp"), ["send_email"]);
    let stripe =
        ["create_customer", "create_invoice", "create_invoice_item", "create_payment_intent", "retrieve_customer"];
    assert_eq!(actions("stripe"), stripe);
    assert_eq!(actions("discord"), ["send_message", "send_webhook", "edit_message"]);
    assert_eq!(actions("http"), ["request"]);
    assert_eq!(maria.client.get("/connectors").await.data(200)["connectors"], json!([]));
    maria.client.get("/connectors?available=maybe&status=on&colour=red").await.names(&[
        "available",
        "status",
        "colour",
    ]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_the_wrong_shape_is_refused_by_field_and_never_by_value() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    const MARK: &str = "canary-9f2c";
    let refused = async |kind: &str, data: Value, fields: &[&str]| {
        let answer = client.post("/credentials", json!({ "name": "x", "type": kind, "data": data })).await;
        answer.names(fields);
        assert!(!answer.text.contains(MARK), "{}", answer.text);
    };
    refused("slack", json!({ "tokn": MARK, "baseUrl": 7 }), &["data.token", "data.tokn", "data.baseUrl"]).await;
    refused("stripe", json!({ "apiKey": [MARK] }), &["data.apiKey"]).await;
    refused(
        "smtp",
        json!({ "port": MARK, "tls": MARK, "username": "u" }),
        &["data.host", "data.port", "data.tls", "data.password"],
    )
    .await;
    refused(
        "smtp",
        json!({ "host": "mail.example.com", "port": 25, "tls": "none", "username": "u", "password": MARK }),
        &["data.tls"],
    )
    .await;
    refused("discord", json!({ "baseUrl": "https://discord.com" }), &["data.botToken"]).await;
    refused("discord", json!({ "webhookUrl": format!("https://x.test/{MARK}") }), &["data.webhookUrl"]).await;
    refused("http", json!({ "auth": "basic", "token": MARK }), &["data.baseUrl", "data.username", "data.password"])
        .await;
    refused(
        "http",
        json!({ "auth": "bearer", "token": format!("{MARK}\r\nX: y"), "baseUrl": "https://a.test" }),
        &["data.token"],
    )
    .await;
    refused("slack", json!(MARK), &["data"]).await;
    refused("teams", json!({}), &["type"]).await;
    refused("secret", json!({}), &["type"]).await;
    // Where nothing may ever be sent is refused by its looks.
    refused("slack", json!({ "token": "x", "baseUrl": "http://169.254.169.254/api" }), &["data.baseUrl"]).await;
    refused("smtp", json!({ "host": "169.254.169.254", "port": 25 }), &["data.host"]).await;
    // A secret does not travel in the open.
    refused("slack", json!({ "token": MARK, "baseUrl": "http://chat.example.com" }), &["data.baseUrl"]).await;
    let hook = format!("http://chat.example.com/webhooks/1/{MARK}");
    refused("discord", json!({ "webhookUrl": hook }), &["data.webhookUrl"]).await;
    client.post("/credentials", json!({ "data": 1, "colour": 2 })).await.names(&["name", "type", "colour"]);

    let good = json!({ "name": "Bot", "type": "slack", "data": { "token": MARK } });
    let made = client.header("idempotency-key", "k1").post("/credentials", good.clone()).await;
    let bot = made.data(201);
    assert_eq!((&bot["type"], &bot["currentVersion"]), (&json!("slack"), &json!(1)));
    let again = client.header("idempotency-key", "k1").post("/credentials", good).await;
    assert_eq!(id(&again.data(201)), id(&bot), "the same key gives the first answer again");
    let path = format!("/credentials/{}", id(&bot));
    let wrong = client.patch(&path, json!({ "data": { "token": "" } })).await;
    wrong.names(&["data.token"]);
    client.patch(&path, json!({})).await.names(&["data"]);
    client.header("if-match", "\"7\"").patch(&path, json!({ "data": { "token": "y" } })).await.refused(409, "CONFLICT");
    let changed = client.patch(&path, json!({ "data": { "token": format!("{MARK}-2") } })).await;
    assert_eq!(changed.data(200)["currentVersion"], 2);
    let listed = client.get("/credentials?type=slack").await;
    assert_eq!(listed.data(200)["credentials"].as_array().unwrap().len(), 1);
    assert!(!listed.text.contains(MARK) && !changed.text.contains(MARK) && !made.text.contains(MARK));
    let secret = client.post("/secrets", json!({ "name": "s", "value": "v" })).await.data(201);
    let other = format!("/credentials/{}", secret["credentialId"].as_str().unwrap());
    client.patch(&other, json!({ "data": {} })).await.names(&["data"]);
    client.delete(&path).await.data(200);
    client.get(&path).await.refused(404, "CREDENTIAL_NOT_FOUND");
    assert!(!server.output().contains(MARK));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_made_tested_switched_off_and_deleted() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let slack = Stub::start(|seen| match seen.header("authorization") {
        Some("Bearer xoxb-good") => Reply::json(200, &json!({ "ok": true, "team": "T", "user": "apiq" })),
        _ => Reply::json(200, &json!({ "ok": false, "error": "invalid_auth" })),
    })
    .await;
    let bad = credential(client, "slack", json!({ "token": "xoxb-bad", "baseUrl": slack.url() })).await;
    let good = credential(client, "slack", json!({ "token": "xoxb-good", "baseUrl": slack.url() })).await;
    let http = credential(client, "http", json!({ "auth": "bearer", "token": "t", "baseUrl": slack.url() })).await;

    let wrong = json!({ "connectorType": "slack", "name": "a\nb", "credentialId": http,
                        "config": { "baseUrl": "http://10.0.0.1", "colour": 1 } });
    client.post("/connectors", wrong).await.names(&["name", "credentialId", "config.baseUrl", "config.colour"]);
    let unknown = json!({ "connectorType": "teams", "name": "x", "credentialId": "cred_01h455vb4pex5vsknk084sn02q" });
    client.post("/connectors", unknown).await.names(&["connectorType", "credentialId"]);
    client.post("/connectors", json!({})).await.names(&["connectorType", "name"]);

    let body = json!({ "connectorType": "slack", "name": "Team chat", "credentialId": bad });
    let keyed = client.header("idempotency-key", "c1");
    let made = keyed.post("/connectors", body.clone()).await;
    let connector = made.data(201);
    assert_eq!(id(&keyed.post("/connectors", body).await.data(201)), id(&connector));
    assert_eq!(made.header("etag"), Some("\"1\""));
    let path = format!("/connectors/{}", id(&connector));

    let failed = client.post(&format!("{path}/test"), json!({})).await.data(200);
    assert_eq!((&failed["status"], &failed["problem"]), (&json!("failed"), &json!("unauthorised")), "{failed}");
    assert_eq!(failed["message"], "Slack answered invalid_auth.");
    client.patch(&path, json!({ "credentialId": http })).await.names(&["credentialId"]);
    client.patch(&path, json!({ "credentialId": good })).await.data(200);
    let worked = client.post(&format!("{path}/test"), json!({})).await.data(200);
    assert_eq!(worked["status"], "success", "{worked}");
    assert_eq!(slack.seen_at("GET /auth.test").len(), 2);
    let traced = slack.seen().iter().all(|seen| seen.header("traceparent").is_some());
    assert!(traced, "the trace goes along");

    let shown = client.get(&path).await;
    assert_eq!(shown.data(200)["lastTest"]["status"], "success");
    // Each use of a credential is told, the test's too.
    let reads = client.get(&format!("/credentials/{good}/reads")).await.data(200);
    assert_eq!(reads["reads"][0]["purpose"], "connector_test", "{reads}");
    assert_eq!(
        (&reads["reads"][0]["readerType"], &reads["reads"][0]["readerId"]),
        (&json!("connector"), &connector["id"])
    );
    let events = client.get(&format!("/logs?resource={}", id(&connector))).await.data(200);
    let names: Vec<&str> =
        events["logs"].as_array().unwrap().iter().rev().map(|entry| entry["action"].as_str().unwrap()).collect();
    let expected = [
        "connector.created",
        "credential.read",
        "connector.tested",
        "connector.updated",
        "credential.read",
        "connector.tested",
    ];
    assert_eq!(names, expected);
    assert!(!events.to_string().contains("xoxb"), "no token is in the log");

    client.header("if-match", "\"1\"").patch(&path, json!({ "name": "x" })).await.refused(409, "CONFLICT");
    let version = shown.header("etag").unwrap();
    let off = client.header("if-match", version).patch(&path, json!({ "status": "disabled" })).await.data(200);
    assert_eq!(off["status"], "disabled");
    let listed = client.get("/connectors?status=disabled&connectorType=slack&search=chat").await.data(200);
    assert_eq!(id(&listed["connectors"][0]), id(&connector));
    let refused = client.post(&format!("{path}/test"), json!({})).await.data(200);
    assert_eq!(refused["message"], "The connector is switched off: enable it first.");
    client.delete(&format!("/credentials/{good}")).await.data(200);
    client.patch(&path, json!({ "status": "enabled" })).await.data(200);
    let gone = client.post(&format!("{path}/test"), json!({})).await.data(200);
    assert!(gone["message"].as_str().unwrap().contains("was deleted"), "{gone}");
    client.delete(&path).await.data(200);
    client.get(&path).await.refused(404, "RESOURCE_NOT_FOUND");
    client.post(&format!("{path}/test"), json!({})).await.refused(404, "RESOURCE_NOT_FOUND");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_does_not_fit_its_action_is_refused_with_every_fault() {
    let server = Server::start().await;
    let (maria, jonas) = (server.account("maria").await, server.account("jonas").await);
    let client = &maria.client;
    let slack = credential(client, "slack", json!({ "token": "x" })).await;
    let his = credential(&jonas.client, "slack", json!({ "token": "x" })).await;
    let connector = json!({ "connectorType": "stripe", "name": "Pay" });
    let stripe = client.post("/connectors", connector).await.data(201);
    let refused = async |steps: Value, fields: &[&str]| {
        let fields: Vec<String> = fields.iter().map(|field| format!("steps[{}", field)).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        client.post("/workflows", json!({ "name": "w", "steps": steps })).await.names(&fields);
    };
    let one = |config: Value| json!([{ "id": "a", "type": "connector", "config": config }]);
    refused(one(json!({})), &["0].config.action", "0].config.connectorType"]).await;
    refused(json!([{ "id": "a", "type": "connector" }]), &["0].config"]).await;
    refused(one(json!({ "connectorType": "teams", "action": "x" })), &["0].config.connectorType"]).await;
    let unknown = json!({ "connectorType": "slack", "action": "fly", "credentialId": slack });
    refused(one(unknown), &["0].config.action"]).await;
    refused(
        one(json!({ "connectorType": "slack", "action": "send_message" })),
        &["0].config.credentialId", "0].config.channel", "0].config.text"],
    )
    .await;
    // The faults of several steps, of several kinds, at once.
    refused(
        json!([
            step("a", "slack", "send_message", &his, json!({ "channel": 7, "text": "{{ steps.nobody.output }}", "colour": 1 })),
            step("b", "slack", "add_reaction", &slack, json!({ "channel": "{{ input.channel }}", "name": "" })),
            { "id": "c", "type": "condition", "expression": "true", "then": [
                { "id": "d", "type": "connector", "idempotency": "key",
                  "config": { "connectorType": "slack", "action": "send_message", "connectorId": id(&stripe), "channel": "C", "text": "t" } }] },
        ]),
        &["0].config.credentialId", "0].config.channel", "0].config.text", "0].config.colour",
          "1].config.timestamp", "1].config.name", "2].then[0].config.connectorType", "2].then[0].config.action"],
    )
    .await;
    let mut keyed = step("a", "slack", "send_message", &slack, json!({ "channel": "C", "text": "t" }));
    keyed["idempotency"] = json!("key");
    refused(json!([keyed]), &["0].idempotency"]).await;
    let mail = json!({ "to": ["a@b.test\r\nBcc: x@y.test", "{{ input.to }}"], "subject": "s\r\nBcc: x@y.test", "html": "x",
                       "attachments": [{ "filename": "a/b", "content": "!" }] });
    let smtp = credential(client, "smtp", json!({ "host": "mail.example.com", "port": 587 })).await;
    refused(
        json!([step("m", "smtp", "send_email", &smtp, mail)]),
        &[
            "0].config.to[0]",
            "0].config.subject",
            "0].config.attachments[0].filename",
            "0].config.attachments[0].content",
        ],
    )
    .await;

    // Expressions fit any type; what will not work as it is, is a warning.
    let open = json!([step(
        "i",
        "stripe",
        "create_payment_intent",
        "",
        json!({ "amount": "{{ input.amount }}", "currency": "{{ input.currency }}" })
    ),]);
    let mut open = open;
    open[0]["config"].as_object_mut().unwrap().remove("credentialId");
    open[0]["config"]["connectorId"] = stripe["id"].clone();
    let checked = client.post("/workflows/validate", json!({ "steps": open })).await.data(200);
    assert_eq!(checked["valid"], true, "{checked}");
    assert_eq!(checked["warnings"][0]["field"], "steps[0].config.connectorId", "{checked}");
    server.finish().await;
}
