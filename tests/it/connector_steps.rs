//! Connector steps that run: each action, the credential's read before its use, limits, faults, and a kill in the middle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::connectors::{credential, step};
use crate::support::client::id;
use crate::support::{Reply, Server, Stub, until};
use crate::workflows::step as of;

const LONG: Duration = Duration::from_secs(90);
const TOKEN: &str = "canary-token-51b7";

fn form(body: &[u8]) -> BTreeMap<String, String> {
    url_pairs(std::str::from_utf8(body).unwrap())
}

fn url_pairs(text: &str) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://x/?{text}")).unwrap();
    url.query_pairs().into_owned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_of_discord_and_http() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let stub = Stub::start(|seen| {
        let echo = json!({ "id": "77", "channel_id": "42", "sent": seen.json(), "auth": seen.header("authorization"),
                           "query": seen.query, "key": seen.header("idempotency-key") });
        Reply::json(200, &echo)
    })
    .await;
    let hook = format!("{}/webhooks/12/{TOKEN}", stub.url());
    let discord =
        credential(client, "discord", json!({ "botToken": TOKEN, "webhookUrl": hook, "baseUrl": stub.url() })).await;
    let bearer = credential(client, "http", json!({ "auth": "bearer", "token": TOKEN, "baseUrl": stub.url() })).await;
    let basic = credential(
        client,
        "http",
        json!({ "auth": "basic", "username": "u", "password": TOKEN, "baseUrl": stub.url() }),
    )
    .await;
    let key = json!({ "auth": "api_key", "in": "query", "name": "k", "value": TOKEN, "baseUrl": stub.url() });
    let key = credential(client, "http", key).await;
    let mut open = step("open", "http", "request", "", json!({ "url": format!("{}/open", stub.url()) }));
    open["config"].as_object_mut().unwrap().remove("credentialId");
    let workflow = client
        .workflow(json!({
            "name": "every action",
            "steps": [
                step("say", "discord", "send_message", &discord, json!({ "channelId": "42", "content": "{{ input.text }}" })),
                step("hook", "discord", "send_webhook", &discord, json!({ "content": "{{ steps.say.output.id }}", "username": "A" })),
                step("edit", "discord", "edit_message", &discord,
                     json!({ "channelId": "42", "messageId": "{{ steps.say.output.id }}", "content": "new" })),
                step("hooked", "discord", "edit_message", &discord, json!({ "messageId": "77", "content": "new" })),
                step("bearer", "http", "request", &bearer, json!({ "url": "/a", "query": { "n": "{{ 1 + 1 }}" } })),
                step("basic", "http", "request", &basic,
                     json!({ "method": "POST", "url": "/b", "headers": { "X-A": "1" }, "body": { "n": "{{ 1 + 1 }}" } })),
                step("key", "http", "request", &key, json!({ "method": "DELETE", "url": "/c" })),
                open,
            ],
            "output": { "id": "{{ steps.say.output.id }}", "status": "{{ steps.say.status }}" },
        }))
        .await;
    let execution = client.execute(&workflow, json!({ "text": "hi" })).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    assert_eq!(execution["output"], json!({ "id": "77", "status": 200 }));
    let routes: Vec<String> = stub.seen().iter().map(|seen| seen.route()).collect();
    let webhook = format!("/webhooks/12/{TOKEN}");
    let expected = [
        "POST /channels/42/messages".to_owned(),
        format!("POST {webhook}"),
        "PATCH /channels/42/messages/77".to_owned(),
        format!("PATCH {webhook}/messages/77"),
        "GET /a".to_owned(),
        "POST /b".to_owned(),
        "DELETE /c".to_owned(),
        "GET /open".to_owned(),
    ];
    assert_eq!(routes, expected);
    let seen = stub.seen();
    assert_eq!(seen[0].header("authorization"), Some(format!("Bot {TOKEN}").as_str()));
    let said = seen[0].json();
    assert_eq!((&said["content"], &said["enforce_nonce"]), (&json!("hi"), &json!(true)));
    assert_eq!(said["nonce"].as_str().unwrap().len(), 25);
    assert_eq!((seen[1].json()["content"].clone(), seen[1].query.as_str()), (json!("77"), "wait=true"));
    assert_eq!((seen[4].query.as_str(), seen[5].json()), ("n=2", json!({ "n": 2 })));
    assert!(seen[5].header("idempotency-key").is_some() && seen[4].header("idempotency-key").is_none());
    assert_eq!(seen[6].query, format!("k={TOKEN}"));
    assert!(seen[7].header("authorization").is_none());
    assert!(seen.iter().all(|seen| seen.header("traceparent").is_some()));

    // The services echoed what they got; nothing of the credential is kept, in whatever form.
    let whole = execution.to_string();
    for form in [TOKEN.to_owned(), base64_of(&format!("u:{TOKEN}"))] {
        assert!(!whole.contains(&form), "{whole}");
    }
    assert!(whole.contains("[redacted]"), "{whole}");
    let logs = client.get(&format!("/logs?resource={}&limit=100", id(&execution))).await;
    assert!(!logs.text.contains(TOKEN), "{}", logs.text);
    // The attempt and the read of its credential are in the log, in this order, before the outcome.
    let data = logs.data(200);
    let names: Vec<&str> =
        data["logs"].as_array().unwrap().iter().rev().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(names[1..4], ["execution.step_started", "credential.read", "execution.step_completed"]);
    assert_eq!(names.iter().filter(|name| **name == "credential.read").count(), 7, "one step has no credential");
    let reads = client.get(&format!("/credentials/{discord}/reads")).await.data(200);
    assert_eq!((reads["reads"].as_array().unwrap().len(), &reads["reads"][0]["purpose"]), (4, &json!("connector")));
    server.finish().await;
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_of_slack_and_stripe_through_an_instance() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let stub = Stub::start(|seen| match seen.path.as_str() {
        "/chat.postMessage" => Reply::json(200, &json!({ "ok": true, "channel": "C1", "ts": "1.2" })),
        "/chat.update" => Reply::json(200, &json!({ "ok": true, "ts": "1.2" })),
        "/reactions.add" => Reply::json(200, &json!({ "ok": false, "error": "already_reacted" })),
        path => Reply::json(200, &json!({ "id": path.rsplit('/').next(), "object": "thing" })),
    })
    .await;
    let instance = async |kind: &str, data: Value| {
        let credential = credential(client, kind, data).await;
        let body = json!({ "connectorType": kind, "name": kind, "credentialId": credential });
        id(&client.post("/connectors", body).await.data(201)).to_owned()
    };
    let slack = instance("slack", json!({ "token": "xoxb-1", "baseUrl": stub.url() })).await;
    let stripe = instance("stripe", json!({ "apiKey": "sk_test_1", "baseUrl": stub.url() })).await;
    let act = |id: &str, connector: &str, action: &str, input: Value| {
        let mut config = json!({ "connectorId": connector, "action": action });
        config.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
        json!({ "id": id, "type": "connector", "config": config })
    };
    let workflow = json!({ "name": "sell", "steps": [
        act("customer", &stripe, "create_customer", json!({ "email": "{{ input.email }}", "metadata": { "run": "{{ execution.id }}" } })),
        act("invoice", &stripe, "create_invoice", json!({ "customer": "{{ steps.customer.output.id }}", "autoAdvance": false })),
        act("item", &stripe, "create_invoice_item", json!({ "customer": "cus_1", "amount": "{{ input.cents }}", "currency": "eur" })),
        act("intent", &stripe, "create_payment_intent", json!({ "amount": "{{ input.cents }}", "currency": "eur", "paymentMethodTypes": ["card"] })),
        act("read", &stripe, "retrieve_customer", json!({ "customer": "cus_1" })),
        act("say", &slack, "send_message", json!({ "channel": "#sales", "text": "sold for {{ input.cents }}" })),
        act("fix", &slack, "update_message", json!({ "channel": "C1", "ts": "{{ steps.say.output.ts }}", "text": "sold" })),
        act("react", &slack, "add_reaction", json!({ "channel": "C1", "timestamp": "{{ steps.say.output.ts }}", "name": "tada" })),
    ] });
    let workflow = client.workflow(workflow).await;
    let execution = client.execute(&workflow, json!({ "email": "ada@example.com", "cents": 1999 })).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let seen = stub.seen();
    let routes: Vec<String> = seen.iter().map(|seen| seen.route()).collect();
    assert_eq!(
        routes,
        [
            "POST /v1/customers",
            "POST /v1/invoices",
            "POST /v1/invoiceitems",
            "POST /v1/payment_intents",
            "GET /v1/customers/cus_1",
            "POST /chat.postMessage",
            "POST /chat.update",
            "POST /reactions.add",
        ]
    );
    let customer = form(&seen[0].body);
    assert_eq!((customer["email"].as_str(), customer["metadata[run]"].as_str()), ("ada@example.com", id(&execution)));
    assert_eq!(form(&seen[3].body)["payment_method_types[0]"], "card");
    assert_eq!(form(&seen[3].body)["amount"], "1999");
    assert_eq!(form(&seen[5].body)["text"], "sold for 1999");
    let keys: std::collections::BTreeSet<_> = seen[..4].iter().map(|s| s.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 4, "each write has a key of its own");
    assert!(seen[4..].iter().all(|seen| seen.header("idempotency-key").is_none()));
    assert_eq!(seen[0].header("authorization"), Some("Bearer sk_test_1"));
    assert_eq!(seen[5].header("authorization"), Some("Bearer xoxb-1"));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_refusals_and_unknown_outcomes() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let stub = Stub::start(|seen| Reply::json(200, &json!({ "ok": true, "id": "1", "route": seen.route() }))).await;
    let slack = credential(client, "slack", json!({ "token": TOKEN, "baseUrl": stub.url() })).await;
    let stripe = credential(client, "stripe", json!({ "apiKey": TOKEN, "baseUrl": stub.url() })).await;
    let run = async |mut one: Value, retry: Value| {
        one["retry"] = retry;
        let workflow = client.workflow(json!({ "name": "one", "steps": [one] })).await;
        client.execute(&workflow, json!({})).await
    };
    let quick = || json!({ "maxAttempts": 4, "initialInterval": "50ms", "maxInterval": "100ms" });
    let say = || step("a", "slack", "send_message", &slack, json!({ "channel": "C", "text": "t" }));
    let pay = || step("a", "stripe", "create_customer", &stripe, json!({ "email": "a@b.test" }));

    // The service's own limit, as status and as a word; Retry-After is kept to.
    let limited = || Reply::json(429, &json!({})).with("retry-after", "1");
    stub.script("POST /chat.postMessage", [limited()]);
    let began = std::time::Instant::now();
    let execution = run(say(), quick()).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
    assert_eq!(of(&execution, "a")["attempts"].as_array().unwrap().len(), 2, "{execution}");
    stub.script("POST /chat.postMessage", [Reply::json(200, &json!({ "ok": false, "error": "ratelimited" }))]);
    assert_eq!(run(say(), quick()).await["status"], "completed");

    // A refusal has the service's word, and no value.
    stub.script("POST /chat.postMessage", [Reply::json(200, &json!({ "ok": false, "error": "channel_not_found" }))]);
    let refused = run(say(), quick()).await;
    assert_eq!(refused["error"]["code"], "SLACK_CHANNEL_NOT_FOUND", "{refused}");
    let declined = json!({ "error": { "code": "card_declined", "message": "4242" } });
    stub.script("POST /v1/customers", [Reply::json(402, &declined)]);
    let refused = run(pay(), quick()).await;
    assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!("failed"), &json!("STRIPE_CARD_DECLINED")));

    // Without an answer: what has a key is sent again with the same one, what has none waits for a person.
    let before = stub.seen_at("POST /v1/customers").len();
    stub.script("POST /v1/customers", [Reply::Close, Reply::Cut]);
    assert_eq!(run(pay(), quick()).await["status"], "completed");
    let sent = stub.seen_at("POST /v1/customers");
    let keys: std::collections::BTreeSet<_> = sent[before..].iter().map(|s| s.header("idempotency-key")).collect();
    assert_eq!((sent.len() - before, keys.len()), (3, 1));
    let before = stub.seen_at("POST /chat.postMessage").len();
    stub.script("POST /chat.postMessage", [Reply::Close]);
    let unknown = run(say(), quick()).await;
    assert_eq!(unknown["status"], "outcome_unknown", "{unknown}");
    assert_eq!(stub.seen_at("POST /chat.postMessage").len(), before + 1, "never sent again");
    // So does what failed there and may have been done before; a redirect is neither done nor followed.
    stub.script("POST /chat.postMessage", [Reply::json(200, &json!({ "ok": false, "error": "internal_error" }))]);
    let unknown = run(say(), quick()).await;
    assert_eq!(unknown["status"], "outcome_unknown", "{unknown}");
    assert!(of(&unknown, "a")["error"]["message"].as_str().unwrap().contains("internal_error"), "{unknown}");
    let elsewhere = format!("{}/other", stub.url());
    stub.script("POST /v1/customers", [Reply::json(302, &json!({})).with("location", &elsewhere)]);
    let moved = run(pay(), quick()).await;
    assert_eq!((&moved["status"], &moved["error"]["code"]), (&json!("failed"), &json!("HTTP_302")), "{moved}");
    assert!(stub.seen_at("POST /other").is_empty() && stub.seen_at("GET /other").is_empty());
    let update = step("a", "slack", "update_message", &slack, json!({ "channel": "C", "ts": "1", "text": "t" }));
    stub.script("POST /chat.update", [Reply::Close]);
    assert_eq!(run(update, quick()).await["status"], "completed", "done twice it is as if done once");

    // An HTTP POST has a key only by the user's word.
    let open = |method: &str| {
        let mut open =
            step("a", "http", "request", "", json!({ "method": method, "url": format!("{}/x", stub.url()) }));
        open["config"].as_object_mut().unwrap().remove("credentialId");
        open
    };
    stub.script("POST /x", [Reply::Close, Reply::Close]);
    assert_eq!(run(open("POST"), quick()).await["status"], "outcome_unknown");
    let mut word = open("POST");
    word["idempotency"] = json!("key");
    assert_eq!(run(word, quick()).await["status"], "completed");
    stub.script("GET /x", [Reply::Close]);
    assert_eq!(run(open("GET"), quick()).await["status"], "completed");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_switched_off_or_gone_fails_its_steps_clearly() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let stub = Stub::start(|_| Reply::json(200, &json!({ "ok": true }))).await;
    let slack = credential(client, "slack", json!({ "token": TOKEN, "baseUrl": stub.url() })).await;
    let body = json!({ "connectorType": "slack", "name": "chat", "credentialId": slack });
    let connector = client.post("/connectors", body).await.data(201);
    let path = format!("/connectors/{}", id(&connector));
    let config = json!({ "connectorType": "slack", "action": "send_message", "connectorId": id(&connector), "channel": "C", "text": "t" });
    let workflow = json!({ "name": "w", "steps": [{ "id": "a", "type": "connector", "config": config }] });
    let workflow = client.workflow(workflow).await;
    let code = async || client.execute(&workflow, json!({})).await["error"]["code"].clone();
    assert_eq!(code().await, Value::Null);
    client.patch(&path, json!({ "status": "disabled" })).await.data(200);
    assert_eq!(code().await, "CONNECTOR_DISABLED");
    client
        .patch(&path, json!({ "status": "enabled", "config": { "baseUrl": "https://evil.example.com" } }))
        .await
        .data(200);
    assert_eq!(code().await, "CREDENTIAL_BOUND");
    client.patch(&path, json!({ "config": {} })).await.data(200);
    let soon =
        chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now()) + chrono::TimeDelta::milliseconds(600);
    client.patch(&format!("/credentials/{slack}"), json!({ "expiresAt": soon.to_rfc3339() })).await.data(200);
    let expired = until("it expires", LONG, async || {
        let code = code().await;
        (!code.is_null()).then_some(code)
    })
    .await;
    assert_eq!(expired, "CREDENTIAL_EXPIRED");
    client.delete(&format!("/credentials/{slack}")).await.data(200);
    assert_eq!(code().await, "CREDENTIAL_MISSING");
    client.delete(&path).await.data(200);
    let seen = stub.seen().len();
    assert_eq!(code().await, "CONNECTOR_GONE");
    assert_eq!(stub.seen().len(), seen, "nothing is sent");

    // What only the values decide is refused before anything is sent, with its place and without the value.
    let http = credential(client, "http", json!({ "auth": "bearer", "token": TOKEN, "baseUrl": stub.url() })).await;
    let step = step(
        "a",
        "http",
        "request",
        &http,
        json!({ "url": "{{ input.url }}", "headers": { "X-A": "{{ input.header }}" } }),
    );
    let workflow = client.workflow(json!({ "name": "w", "steps": [step] })).await;
    for (input, expected) in [
        (json!({ "url": "/x", "header": "a\r\nB: canary-value" }), "BAD_INPUT"),
        (json!({ "url": "http://127.0.0.1:9/x", "header": "a" }), "CREDENTIAL_BOUND"),
        (json!({ "url": "//evil.example.com", "header": "a" }), "BAD_URL"),
        (json!({ "url": 7, "header": "a" }), "BAD_INPUT"),
        (json!({ "url": null, "header": null }), "BAD_INPUT"),
    ] {
        let execution = client.execute(&workflow, input.clone()).await;
        assert_eq!(execution["error"]["code"], expected, "{input}: {execution}");
        // What does not fit is not kept: no attempt begins.
        let attempts = of(&execution, "a")["attempts"].as_array().unwrap().len();
        assert_eq!(attempts, usize::from(expected != "BAD_INPUT"), "{execution}");
        assert!(!execution["error"].to_string().contains("canary"), "{execution}");
    }
    assert_eq!(stub.seen().len(), seen);
    // An optional field that comes to nothing is as if it were not there.
    let execution = client.execute(&workflow, json!({ "url": "/x", "header": null })).await;
    assert_eq!((&execution["status"], stub.seen().len()), (&json!("completed"), seen + 1), "{execution}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_call_charges_once() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    let token = maria.key("owner").await;
    // Like Stripe: the effect is there before the answer, and once for each key.
    let book = Arc::<Mutex<BTreeMap<String, u32>>>::default();
    let shared = book.clone();
    let stub = Stub::start(move |seen| {
        let reply = Reply::json(200, &json!({ "id": "pi_1", "ok": true }));
        if let Some(key) = seen.header("idempotency-key") {
            *shared.lock().unwrap().entry(key.to_owned()).or_default() += 1;
        }
        Reply::Late(Duration::from_millis(700), Box::new(reply))
    })
    .await;
    let stripe = credential(&maria.client, "stripe", json!({ "apiKey": TOKEN, "baseUrl": stub.url() })).await;
    let slack = credential(&maria.client, "slack", json!({ "token": TOKEN, "baseUrl": stub.url() })).await;
    let pay = step("pay", "stripe", "create_payment_intent", &stripe, json!({ "amount": 100, "currency": "eur" }));
    let say = step("say", "slack", "send_message", &slack, json!({ "channel": "C", "text": "t" }));
    let pay = maria.client.workflow(json!({ "name": "pay", "steps": [pay] })).await;
    let say = maria.client.workflow(json!({ "name": "say", "steps": [say] })).await;
    let start = async |workflow: &str| {
        let started = maria.client.post(&format!("/workflows/{workflow}/execute"), json!({})).await.data(202);
        started["executionId"].as_str().unwrap().to_owned()
    };
    let (paid, said) = (start(&pay).await, start(&say).await);
    until("both calls are under way", LONG, async || (stub.seen().len() >= 2).then_some(())).await;
    server.kill().await;
    server.launch().await;
    let client = server.anonymous().bearer(&token);
    let paid = client.ended(&paid, LONG).await;
    assert_eq!(paid["status"], "completed", "{paid}");
    let book = book.lock().unwrap().clone();
    assert_eq!(book.len(), 1, "one key, whatever was asked how often");
    assert!(book.values().all(|asked| *asked == 2), "no call was repeated: the test proves nothing: {book:?}");
    assert_eq!(client.ended(&said, LONG).await["status"], "outcome_unknown");
    assert_eq!(stub.seen_at("POST /chat.postMessage").len(), 1, "a message is not sent twice");
    server.finish().await;
}
