//! Outgoing webhooks: signed, retried, recorded, switched off by 410, never to inner addresses.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::client::id;
use crate::support::stub::Seen;
use crate::support::{Account, Reply, Server, Stub, until};

const SOON: Duration = Duration::from_secs(20);

async fn receiver() -> Stub {
    Stub::start(|_| Reply::json(200, &json!({ "thanks": true }))).await
}

fn headers(seen: &Seen) -> HeaderMap {
    let pair = |(name, value): (&String, &String)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    seen.headers.iter().map(pair).collect()
}

async fn hook(account: &Account, url: &str, events: Value) -> Value {
    let body = json!({ "name": "to us", "url": url, "events": events });
    account.client.post("/webhooks", body).await.data(201)
}

/// Something that leaves `workflow.created`, and its id.
async fn make_workflow(account: &Account) -> String {
    let steps = json!([{ "id": "say", "type": "transform", "output": "hello" }]);
    account.client.workflow(json!({ "name": "say", "steps": steps })).await
}

async fn deliveries(account: &Account, hook: &Value) -> Vec<Value> {
    let listed = account.client.get(&format!("/webhooks/{}/deliveries", id(hook))).await.data(200);
    listed["deliveries"].as_array().unwrap().clone()
}

/// Wait until every delivery of a webhook has this status.
async fn settled(account: &Account, hook: &Value, count: usize, status: &str) -> Vec<Value> {
    until(&format!("{count} deliveries are {status}"), SOON, async || {
        let all = deliveries(account, hook).await;
        (all.len() == count && all.iter().all(|delivery| delivery["status"] == status)).then_some(all)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_signed_once_and_listed() {
    let server = Server::start().await;
    let (maria, jonas) = (server.account("maria").await, server.account("jonas").await);
    let stub = receiver().await;
    let made =
        hook(&maria, &format!("{}/in?tag=1", stub.url()), json!(["workflow.created", "workflow.completed"])).await;
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"));
    let shown = maria.client.get(&format!("/webhooks/{}", id(&made))).await;
    assert!(!shown.text.contains(&secret), "the secret is shown once");

    make_workflow(&jonas).await;
    let workflow = make_workflow(&maria).await;
    let execution = maria.client.execute(&workflow, json!({ "canary": "input-canary" })).await;
    let listed = settled(&maria, &made, 2, "succeeded").await;
    let mut types: Vec<_> = listed.iter().map(|delivery| delivery["eventType"].as_str().unwrap()).collect();
    types.sort_unstable();
    assert_eq!(types, ["workflow.completed", "workflow.created"], "his events are not hers");

    // The receiver's side: the standard's own library is content, and with nothing else.
    let seen = stub.seen();
    assert_eq!(seen.len(), 2);
    let verifier = Webhook::new(&secret).unwrap();
    for seen in &seen {
        assert_eq!((seen.route().as_str(), seen.query.as_str()), ("POST /in", "tag=1"));
        verifier.verify(&seen.body, &headers(seen)).unwrap();
        let mut changed = seen.body.clone();
        changed[5] ^= 1;
        assert!(verifier.verify(&changed, &headers(seen)).is_err());
        let other = Webhook::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert!(other.verify(&seen.body, &headers(seen)).is_err());
        assert!(seen.header("authorization").is_none());
        let text = String::from_utf8_lossy(&seen.body).into_owned();
        assert!(!text.contains("input-canary") && !text.contains(&secret), "{text}");
    }
    let ids: Vec<_> = listed.iter().map(|delivery| id(delivery).to_owned()).collect();
    assert!(seen.iter().all(|seen| ids.contains(&seen.header("webhook-id").unwrap().to_owned())));
    let completed = seen.iter().map(Seen::json).find(|body| body["type"] == "workflow.completed").unwrap();
    assert_eq!(completed["data"]["resource"]["id"], execution["id"], "{completed}");
    assert!(completed["timestamp"].as_str().unwrap().ends_with('Z'));

    // One delivery in detail, and by hand once more under the same id.
    let first = format!("/webhooks/{}/deliveries/{}", id(&made), ids[0]);
    let detail = maria.client.get(&first).await.data(200);
    assert_eq!(detail["attempts"][0]["httpStatus"], 200, "{detail}");
    assert_eq!(detail["body"]["type"], listed[0]["eventType"], "{detail}");
    let again = maria.client.post(&format!("{first}/resend"), json!({})).await;
    assert!([200, 202].contains(&again.status), "{}", again.text);
    until("it comes again", SOON, async || (stub.seen().len() == 3).then_some(())).await;
    let third = &stub.seen()[2];
    assert_eq!(third.header("webhook-id"), Some(ids[0].as_str()), "receivers can tell that they know it");
    verifier.verify(&third.body, &headers(third)).unwrap();
    let listed = settled(&maria, &made, 2, "succeeded").await;
    let sent_again = listed.iter().find(|delivery| id(delivery) == ids[0]).unwrap();
    let attempts = sent_again["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "numbers go on in the new round: {sent_again}");
    assert!(attempts.iter().all(|attempt| attempt["httpStatus"] == 200), "no attempt is told as failed: {sent_again}");

    let known = maria.client.get("/webhooks/event-types").await.data(200);
    let known = known["eventTypes"].to_string();
    assert!(known.contains("workflow.completed") && known.contains("credential.read") && !known.contains("delivery."));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_with_faults() {
    let server = Server::start().await;
    let maria = server.account("maria").await;

    // 500, and nothing at all: again after a while, with the same id.
    let stub = receiver().await;
    let made = hook(&maria, stub.url(), json!(["workflow.created"])).await;
    stub.script("POST /", [Reply::json(500, &json!({}))]);
    make_workflow(&maria).await;
    let listed = settled(&maria, &made, 1, "succeeded").await;
    assert_eq!(listed[0]["attempts"].as_array().unwrap().len(), 2, "{}", listed[0]);
    assert_eq!(listed[0]["attempts"][0]["httpStatus"], 500);
    let seen = stub.seen();
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    assert_eq!(seen[0].body, seen[1].body);

    // A slow one is not asked twice meanwhile.
    stub.script("POST /", [Reply::Late(Duration::from_secs(4), Box::new(Reply::json(200, &json!({}))))]);
    make_workflow(&maria).await;
    settled(&maria, &made, 2, "succeeded").await;
    assert_eq!(stub.seen().len(), 3, "an attempt was made while another was under way");

    // A redirect is not followed: it would carry the event to another host.
    let thief = receiver().await;
    let away = Reply::of(307, "text/plain", "").with("location", thief.url());
    stub.script("POST /", [away]);
    make_workflow(&maria).await;
    settled(&maria, &made, 3, "succeeded").await;
    assert_eq!(thief.seen().len(), 0);

    // 410: nobody wants it any more.
    stub.script("POST /", [Reply::json(410, &json!({}))]);
    make_workflow(&maria).await;
    let path = format!("/webhooks/{}", id(&made));
    until("the webhook is switched off", SOON, async || {
        (maria.client.get(&path).await.data(200)["status"] == "inactive").then_some(())
    })
    .await;
    let before = stub.seen().len();
    make_workflow(&maria).await;
    // Another webhook shows when the event has been dispatched.
    let other = hook(&maria, thief.url(), json!(["workflow.created"])).await;
    make_workflow(&maria).await;
    settled(&maria, &other, 1, "succeeded").await;
    assert_eq!(stub.seen().len(), before, "a switched-off webhook got an event");

    // Changes, and the end.
    maria.client.patch(&path, json!({ "status": "active", "events": ["workflow.deleted"] })).await.data(200);
    let put = json!({ "name": "put", "url": thief.url(), "events": ["*"] });
    assert_eq!(maria.client.put(&path, put).await.data(200)["name"], "put");
    assert_eq!(maria.client.delete(&path).await.status, 200);
    maria.client.get(&path).await.refused(404, "WEBHOOK_NOT_FOUND");
    let wrong = json!({ "name": "x", "url": "ftp://x.example", "events": ["nonsense.*", "workflow.created"], "secret": "short" });
    let answer = maria.client.post("/webhooks", wrong).await;
    answer.refused(422, "VALIDATION_ERROR");
    maria
        .client
        .post("/webhooks", json!({ "name": "x", "url": thief.url(), "events": ["nope", "no.*"] }))
        .await
        .names(&["events[0]", "events[1]"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_gets_each_event_once_and_no_hash() {
    const WORKFLOWS: usize = 90;
    let server = Server::start().await;
    let maria = server.account("maria").await;
    // More deliveries than places, each slower than a look at what is due.
    let slow = Stub::start(|_| Reply::Late(Duration::from_millis(1_500), Box::new(Reply::json(200, &json!({}))))).await;
    let made = hook(&maria, slow.url(), json!(["workflow.created", "api_key.created"])).await;
    let key = json!({ "name": "a key", "role": "viewer" });
    maria.client.post("/api-keys", key).await.data(201);
    futures::future::join_all((0..WORKFLOWS).map(|_| make_workflow(&maria))).await;
    let path = format!("/webhooks/{}/deliveries?status=succeeded&limit=1", id(&made));
    until("all are delivered", 3 * SOON, async || {
        let listed = maria.client.get(&path).await.data(200);
        (listed["pagination"]["total"] == WORKFLOWS + 1).then_some(())
    })
    .await;
    let seen = slow.seen();
    let ids: std::collections::HashSet<_> = seen.iter().map(|seen| seen.header("webhook-id").unwrap()).collect();
    assert_eq!((seen.len(), ids.len()), (WORKFLOWS + 1, WORKFLOWS + 1), "an event was posted twice");
    let made = seen.iter().map(Seen::json).find(|body| body["type"] == "api_key.created").unwrap();
    assert!(made["data"]["details"]["prefix"].is_string(), "{made}");
    assert!(!made.to_string().to_lowercase().contains("hash"), "{made}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_delivered_to_inner_addresses() {
    let server = Server::start_with(&[("APIQ_EGRESS_ALLOW", "none")]).await;
    let maria = server.account("maria").await;
    let stub = receiver().await;
    let port = stub.url().rsplit(':').next().unwrap();
    let mut accepted = Vec::new();
    for host in ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433", "[::ffff:127.0.0.1]"] {
        let body = json!({ "name": host, "url": format!("http://{host}:{port}/"), "events": ["workflow.created"] });
        let answer = maria.client.post("/webhooks", body).await;
        match answer.status {
            201 => accepted.push(answer.data(201)),
            _ => answer.names(&["url"]),
        }
    }
    make_workflow(&maria).await;
    for hook in &accepted {
        until("an attempt is recorded", SOON, async || {
            let all = deliveries(&maria, hook).await;
            let attempts = all.first()?["attempts"].as_array()?.clone();
            let first = attempts.first()?;
            first["error"].as_str().map(str::to_owned)
        })
        .await;
    }
    assert_eq!(stub.seen().len(), 0, "an inner listener got an event");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_tells_no_more_than_its_maker_may_read() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let manager = maria.with_role("manager").await;
    let stub = receiver().await;
    let body = |events: Value| json!({ "name": "mine", "url": stub.url(), "events": events });
    for closed in ["*", "user.*", "api_key.created", "credential.read"] {
        let answer = manager.post("/webhooks", body(json!(["workflow.created", closed]))).await;
        answer.refused(403, "FORBIDDEN");
        assert!(answer.fields().contains("events[1]"), "{}", answer.text);
    }
    let open = manager.post("/webhooks", body(json!(["workflow.*", "connection.created"]))).await.data(201);
    let path = format!("/webhooks/{}", id(&open));
    manager.patch(&path, json!({ "events": ["*"] })).await.refused(403, "FORBIDDEN");

    // An owner's webhook: its events do not go to where a manager says, but a manager may end it.
    let all = hook(&maria, stub.url(), json!(["*"])).await;
    let path = format!("/webhooks/{}", id(&all));
    manager.patch(&path, json!({ "url": format!("{}/mine", stub.url()) })).await.refused(403, "FORBIDDEN");
    manager.patch(&path, json!({ "status": "inactive" })).await.data(200);
    manager.patch(&path, json!({ "status": "active" })).await.refused(403, "FORBIDDEN");
    maria.client.patch(&path, json!({ "status": "active" })).await.data(200);
    assert_eq!(manager.delete(&path).await.status, 200);
    server.finish().await;
}
