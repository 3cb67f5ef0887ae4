//! Health of connections by real traffic, what is recorded of calls, and limits of outgoing calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::{http, id};
use crate::support::keeper::free_port;
use crate::support::{Client, Reply, Server, Stub, ledger, until};

const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A third party whose status is set from outside.
async fn moody() -> (Stub, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let mood = status.clone();
    let stub = Stub::start(move |_| Reply::json(mood.load(Ordering::Relaxed), &json!({ "items": [] }))).await;
    (stub, status)
}

fn step(connection: &Value, attempts: u32) -> Value {
    let retry = json!({ "maxAttempts": attempts, "initialInterval": "100ms" });
    json!({ "id": "fetch", "type": "api_call", "connectionId": id(connection), "operationId": "listItems", "retry": retry })
}

/// Waits until the connection shows this health.
async fn shows(client: &Client, connection: &Value, health: &str) -> Value {
    let path = format!("/connections/{}", id(connection));
    until(&format!("the connection is {health}"), PATIENCE, async || {
        let shown = client.get(&path).await.data(200);
        (shown["health"] == health).then_some(shown)
    })
    .await
}

/// The connection's changes of health, oldest first: from, to.
async fn changes(client: &Client, connection: &Value) -> Vec<(String, String)> {
    let path = format!("/logs?action=connection.health_changed&resource={}", id(connection));
    let listed = client.get(&path).await.data(200);
    let text = |entry: &Value, name: &str| entry["data"][name].as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> =
        listed["logs"].as_array().unwrap().iter().map(|entry| (text(entry, "from"), text(entry, "to"))).collect();
    found.reverse();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_real_traffic_with_one_event_a_change() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let (stub, status) = moody().await;
    let mut body = json!({ "name": "moody", "spec": ledger::document(stub.url()) });
    body["authType"] = json!("bearer");
    body["authConfig"] = json!({ "token": "canary-token" });
    let connection = client.connect(body).await;
    assert_eq!(connection["health"], "healthy");
    let workflow = client.workflow(json!({ "name": "moody", "steps": [step(&connection, 1)] })).await;
    let run = async |answer: u16| {
        status.store(answer, Ordering::Relaxed);
        client.execute(&workflow, json!({})).await
    };
    let events = async || {
        let mut database = server.database().await;
        let count = "select count(*) from log.events where aggregate_type = 'connection'";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut database).await.unwrap()
    };

    // Healthy calls of a healthy connection leave nothing in its stream.
    let before = events().await;
    for _ in 0..5 {
        assert_eq!(run(200).await["status"], "completed");
    }
    assert_eq!((events().await, changes(client, &connection).await), (before, vec![]));

    // One 401 may be one operation's own; two say that the credential is not accepted any more.
    run(401).await;
    run(404).await;
    assert_eq!(changes(client, &connection).await, []);
    run(401).await;
    run(401).await;
    let shown = shows(client, &connection, "credential_expired").await;
    assert!(shown["healthReason"].as_str().unwrap().contains("401"), "{shown}");
    assert!(shown["healthChangedAt"].is_string(), "{shown}");
    for _ in 0..3 {
        run(401).await;
    }
    let first = ("healthy".to_owned(), "credential_expired".to_owned());
    assert_eq!(changes(client, &connection).await, std::slice::from_ref(&first), "one event a change");

    // Lists and filters.
    let count = async |health: &str| {
        let listed = client.get(&format!("/connections?health={health}")).await.data(200);
        listed["pagination"]["total"].as_i64().unwrap()
    };
    assert_eq!((count("credential_expired").await, count("unreachable,degraded").await), (1, 0));
    assert_eq!(client.get("/connections?health=ill").await.status, 422);
    let known = client.get("/webhooks/event-types").await.data(200);
    assert!(known.to_string().contains("connection.health_changed"), "{known}");

    // The credential works again.
    run(200).await;
    shows(client, &connection, "healthy").await;
    assert_eq!(changes(client, &connection).await.len(), 2);

    // A person's test is believed at once.
    status.store(503, Ordering::Relaxed);
    let path = format!("/connections/{}/test", id(&connection));
    let test = client.post(&path, json!({})).await.data(200);
    assert_eq!((&test["status"], &test["problem"]), (&json!("failed"), &json!("server_error")), "{test}");
    shows(client, &connection, "degraded").await;
    status.store(200, Ordering::Relaxed);
    assert_eq!(client.post(&path, json!({})).await.data(200)["status"], "success");
    let shown = shows(client, &connection, "healthy").await;
    assert_eq!(shown["lastTest"]["problem"], Value::Null, "{shown}");
    assert_eq!(changes(client, &connection).await.len(), 4);

    // Nobody is there: three calls in a row say so; the first that comes through takes it back.
    let port = free_port();
    let body = json!({ "name": "gone", "spec": ledger::document(&format!("http://127.0.0.1:{port}")) });
    let gone = client.connect(body).await;
    let workflow = client.workflow(json!({ "name": "gone", "steps": [step(&gone, 3)] })).await;
    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!(execution["steps"][0]["error"]["code"], "NETWORK", "{execution}");
    let shown = shows(client, &gone, "unreachable").await;
    assert!(shown["healthReason"].as_str().unwrap().contains("refused"), "{shown}");
    let _back = Stub::start_on(&format!("127.0.0.1:{port}"), |_| Reply::json(200, &json!({}))).await;
    assert_eq!(client.execute(&workflow, json!({})).await["status"], "completed");
    shows(client, &gone, "healthy").await;
    assert_eq!(changes(client, &gone).await.len(), 2);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_recorded_and_traced_without_secrets() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let resets = (chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now()) + chrono::TimeDelta::seconds(90))
        .timestamp();
    let stub = Stub::start(move |_| {
        let reply = Reply::json(200, &json!({ "ok": true })).with("x-ratelimit-limit", "10");
        reply.with("x-ratelimit-remaining", "7").with("x-ratelimit-reset", &resets.to_string())
    })
    .await;
    let client = &maria.client;
    let connection = client
        .connect(json!({ "name": "bot", "baseUrl": stub.url(), "authType": "api_key",
            "authConfig": { "in": "query", "name": "key", "value": "canary-key" } }))
        .await;
    let call = |name: &str, method: &str, endpoint: &str| json!({ "id": name, "type": "api_call", "connectionId": id(&connection), "method": method, "endpoint": endpoint });
    let mut post = call("post", "POST", "/bots/canary-key/say");
    post["body"] = json!({ "text": "canary-body" });
    post["headers"] = json!({ "X-Own": "canary-header" });
    post["query"] = json!({ "q": "canary-query" });
    let workflow = client.workflow(json!({ "name": "bot", "steps": [call("get", "GET", "/items/7"), post] })).await;
    let traced = client.header("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-01"));
    let execution = traced.execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");

    // The called API sees the same trace, and a span of its own each time.
    let parents: Vec<String> = stub.seen().iter().map(|seen| seen.header("traceparent").unwrap().to_owned()).collect();
    let of_trace = |parent: &String| parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01");
    assert!(parents.len() == 2 && parents.iter().all(of_trace) && parents[0] != parents[1], "{parents:?}");
    assert!(!parents.iter().any(|parent| parent.contains("00f067aa0ba902b7")), "{parents:?}");
    client.execute(&workflow, json!({})).await;
    let untraced = stub.seen()[2].header("traceparent").unwrap().to_owned();
    assert!(untraced.starts_with("00-") && untraced.ends_with("-00") && !untraced.contains(TRACE), "{untraced}");

    // The log and the execution say what was called, and no more.
    let call = &execution["steps"][1]["attempts"][0]["call"];
    let host = stub.url().trim_start_matches("http://");
    assert_eq!(
        (&call["method"], &call["host"], &call["status"]),
        (&json!("POST"), &json!(host), &json!(200)),
        "{call}"
    );
    assert_eq!((&call["path"], &call["attempts"]), (&json!("/bots/[redacted]/say"), &json!(1)), "{call}");
    assert_eq!((&call["requestBytes"], &call["responseBytes"]), (&json!(22), &json!(11)), "{call}");
    let mut database = server.database().await;
    let events =
        "select event_type || payload::text || metadata::text from log.events where aggregate_type = 'execution'";
    let events: Vec<String> = sqlx::query_scalar(events).fetch_all(&mut database).await.unwrap();
    let completed: Vec<_> = events.iter().filter(|event| event.starts_with("execution.step_completed")).collect();
    assert!(completed.len() == 4 && completed.iter().all(|event| event.contains("\"call\":{")), "{completed:?}");
    assert!(events.iter().filter(|event| event.contains(TRACE)).count() >= 6, "{events:#?}");
    assert!(!events.iter().any(|event| event.contains("canary")), "{events:#?}");

    // What the API said of its limit.
    let shown = until("the limit is shown", PATIENCE, async || {
        let shown = client.get(&format!("/connections/{}", id(&connection))).await.data(200);
        shown["rateLimit"].is_object().then_some(shown)
    })
    .await;
    let limit = &shown["rateLimit"];
    assert_eq!((&limit["limit"], &limit["remaining"]), (&json!(10), &json!(7)), "{limit}");
    assert!(limit["resetAt"].is_string() && limit["observedAt"].is_string(), "{limit}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_apis_and_failing_hosts_hold_calls_back() {
    let port = free_port();
    let settings = [("APIQ_EGRESS_BREAKER_FAILURES", "4"), ("APIQ_METRICS_LISTEN", &format!("127.0.0.1:{port}"))];
    let server = Server::start_with(&settings).await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let connect = async |name: &str, stub: &Stub| {
        client.connect(json!({ "name": name, "spec": ledger::document(stub.url()) })).await
    };

    // Nothing is left for two seconds: the next call waits for them. For an hour: it fails at once.
    let stub = Stub::start(|_| Reply::json(200, &json!({}))).await;
    let used_up = |seconds: &str| {
        Reply::json(200, &json!({})).with("ratelimit", &format!("limit=5, remaining=0, reset={seconds}"))
    };
    stub.script("GET /items", [used_up("2"), used_up("3600")]);
    let connection = connect("limited", &stub).await;
    let workflow = client.workflow(json!({ "name": "limited", "steps": [step(&connection, 1)] })).await;
    let began = Instant::now();
    client.execute(&workflow, json!({})).await;
    assert_eq!(client.execute(&workflow, json!({})).await["status"], "completed");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    let began = Instant::now();
    let execution = client.execute(&workflow, json!({})).await;
    let error = &execution["steps"][0]["error"];
    assert_eq!(error["code"], "RATE_LIMITED", "{execution}");
    assert!(error["message"].as_str().unwrap().contains("not called before 20"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(stub.seen_at("GET /items").len(), 2);
    let call = &execution["steps"][0]["attempts"][0]["call"];
    assert_eq!((&call["attempts"], &call["status"]), (&json!(0), &Value::Null), "it was not sent: {call}");

    // A host that fails is left alone; a step that meets that tries again by its own policy, and comes through.
    let (ill, status) = moody().await;
    status.store(503, Ordering::Relaxed);
    let connection = connect("ill", &ill).await;
    let once = client.workflow(json!({ "name": "once", "steps": [step(&connection, 1)] })).await;
    for _ in 0..4 {
        assert_eq!(client.execute(&once, json!({})).await["steps"][0]["error"]["code"], "HTTP_503");
    }
    let open = client.execute(&once, json!({})).await;
    let error = &open["steps"][0]["error"];
    assert_eq!(error["code"], "CIRCUIT_OPEN", "{open}");
    assert!(error["message"].as_str().unwrap().contains("not called before 20"), "{error}");
    assert_eq!(ill.seen_at("GET /items").len(), 4);
    let url = format!("http://127.0.0.1:{port}/metrics");
    until("the metrics tell", PATIENCE, async || {
        let text = http().get(&url).send().await.unwrap().text().await.unwrap();
        let says = |line: &str| text.lines().any(|known| known == line);
        let told =
            says("apiq_egress_open_breakers 1") && says("apiq_egress_requests_total{outcome=\"breaker_open\"} 1");
        let waited = !says("apiq_egress_waited_total 0") && text.contains("apiq_egress_waited_total ");
        (told && waited && says("apiq_egress_requests_total{outcome=\"held_back\"} 1")).then_some(())
    })
    .await;
    status.store(200, Ordering::Relaxed);
    let patient = client.workflow(json!({ "name": "patient", "steps": [step(&connection, 3)] })).await;
    let execution = client.execute(&patient, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let attempts = execution["steps"][0]["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["error"]["code"]), (2, &json!("CIRCUIT_OPEN")), "{execution}");
    server.finish().await;
}
