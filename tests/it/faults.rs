//! The server and its queue are killed in the middle of everything. A ledger outside counts what was really done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Client, Ledger, Reply, Server, Stub, until};

const LONG: Duration = Duration::from_secs(90);
/// A killed server must be back at all of its work within this time.
const BACK: Duration = Duration::from_secs(30);
const ITEMS: usize = 10;

/// Every history is numbered from 1 without a hole, and the read models say what the log says.
async fn assert_whole(server: &Server) {
    let mut database = server.database().await;
    let holes: Vec<(String, String)> = sqlx::query_as(
        "select aggregate_type, aggregate_id::text from log.events group by 1, 2
         having min(sequence) <> 1 or max(sequence) <> count(*)",
    )
    .fetch_all(&mut database)
    .await
    .unwrap();
    assert_eq!(holes, [], "histories with holes");
    server.assert_settled().await;
    let (code, text) = server.tool(&["replay", "verify"]).await;
    assert_eq!(code, 0, "{text}");
}

/// Orders, each with a key; a letter, without.
fn orders(connection: &Value) -> Value {
    json!({ "name": "orders", "steps": [
        { "id": "each", "type": "loop", "items": (0..ITEMS).collect::<Vec<_>>(), "as": "n", "maxConcurrency": 2, "steps": [
            { "id": "order", "type": "api_call", "connectionId": id(connection), "operationId": "placeOrder",
              "retry": { "maxAttempts": 10, "initialInterval": "100ms" },
              "parameters": { "item": "{{ n }}", "run": "{{ input.run }}" } }] },
        { "id": "done", "type": "transform", "output": "{{ steps.order | length }}" },
    ], "output": { "count": "{{ steps.done.output }}" } })
}

fn letters(connection: &Value) -> Value {
    let send = |n: usize| {
        json!({ "id": format!("letter{n}"), "type": "api_call", "connectionId": id(connection), "operationId": "sendLetter",
            "parameters": { "text": format!("{{{{ input.run }}}} {n}") } })
    };
    json!({ "name": "letters", "steps": (0..6).map(send).collect::<Vec<_>>() })
}

/// A client that insists, under one key, until it is told that its execution has been taken.
async fn insist(server: &Server, token: &str, workflow: &str, run: &str) -> Option<String> {
    let client = server.anonymous().bearer(token).header("idempotency-key", run);
    let answer = client.post(&format!("/workflows/{workflow}/execute"), json!({ "input": { "run": run } })).await;
    (answer.status == 202).then(|| answer.body["data"]["executionId"].as_str().unwrap().to_owned())
}

async fn ended(server: &Server, token: &str, execution: &str) -> Value {
    server.anonymous().bearer(token).ended(execution, LONG).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_finishes_what_it_began_and_does_nothing_twice() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    let token = maria.key("owner").await;
    let ledger = Ledger::start(Duration::from_millis(100)).await;
    let connection = maria.client.connect(ledger.connection("ledger")).await;
    let (order_flow, letter_flow) =
        (maria.client.workflow(orders(&connection)).await, maria.client.workflow(letters(&connection)).await);

    let mut runs: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..4 {
        for n in 0..2 {
            let (orders, letters) = (format!("orders {round} {n}"), format!("letters {round} {n}"));
            let order_run = insist(&server, &token, &order_flow, &orders).await.unwrap();
            let letter_run = insist(&server, &token, &letter_flow, &letters).await.unwrap();
            runs.extend([(orders, order_run), (letters, letter_run)]);
        }
        // Not at the beginning and not at the end: when some of this round's effects have happened.
        let (before, wanted) = (ledger.stub.seen().len(), 3 + 4 * round);
        until("calls are under way", LONG, async || (ledger.stub.seen().len() >= before + wanted).then_some(())).await;
        server.kill().await;
        server.launch().await;
        // What was acknowledged is not taken twice, and not forgotten.
        for (run, execution) in &runs {
            let workflow = if run.starts_with("orders") { &order_flow } else { &letter_flow };
            assert_eq!(insist(&server, &token, workflow, run).await.as_ref(), Some(execution), "{run}");
        }
    }

    let (mut completed, mut unknown) = (0, 0);
    for (run, execution) in &runs {
        let execution = ended(&server, &token, execution).await;
        let sent: Vec<_> =
            ledger.letters().into_iter().filter(|letter| letter["text"].as_str().unwrap().starts_with(run)).collect();
        let distinct: BTreeSet<String> = sent.iter().map(Value::to_string).collect();
        assert_eq!(distinct.len(), sent.len(), "{run}: a letter was sent twice: {sent:?}");
        match execution["status"].as_str().unwrap() {
            "completed" if run.starts_with("orders") => {
                completed += 1;
                assert_eq!(execution["output"]["count"], json!(ITEMS), "{execution}");
            }
            "completed" => assert_eq!(sent.len(), 6, "{run}"),
            "outcome_unknown" if run.starts_with("letters") => unknown += 1,
            other => panic!("{run} is {other}: {execution}"),
        }
    }
    assert_eq!(completed, 8, "every accepted execution of orders finishes");
    assert!(unknown > 0, "no letter was under way at a kill: the test proves nothing");

    // One effect per step, whatever was asked how often.
    let book = ledger.orders();
    let effects: BTreeSet<String> = book.values().map(|effect| effect.body.to_string()).collect();
    assert_eq!((book.len(), effects.len()), (8 * ITEMS, 8 * ITEMS), "an order was placed under two keys");
    assert!(book.values().any(|effect| effect.asked > 1), "no call was repeated: the test proves nothing");
    let listed = server.anonymous().bearer(&token).get("/executions?limit=1").await.data(200);
    assert_eq!(listed["pagination"]["total"], runs.len(), "no execution was started twice");

    // A person resolves what nobody can know, and the run goes on from there.
    let client = server.anonymous().bearer(&token);
    let open = client.get("/executions?status=outcome_unknown&limit=100").await.data(200);
    for execution in open["executions"].as_array().unwrap() {
        let detail = client.get(&format!("/executions/{}", id(execution))).await.data(200);
        let step = detail["steps"].as_array().unwrap().iter().find(|step| step["status"] == "outcome_unknown").unwrap();
        let path = format!("/executions/{}/steps/{}/resolve", id(execution), id(step));
        client.post(&path, json!({ "outcome": "completed" })).await.data(200);
        assert_eq!(client.ended(id(execution), LONG).await["status"], "completed");
    }
    assert_whole(&server).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_goes_on_with_its_documents_and_webhooks() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    let token = maria.key("owner").await;
    let hooked = Stub::start(|_| Reply::json(200, &json!({}))).await;
    let slow = |body: &Value| Reply::Late(Duration::from_secs(2), Box::new(Reply::json(200, body)));
    let library = Stub::start(|_| Reply::json(200, &crate::support::ledger::document("/"))).await;
    library.script("GET /openapi.json", [slow(&crate::support::ledger::document("/"))]);
    hooked.script("POST /", [slow(&json!({}))]);

    let hook = json!({ "name": "hook", "url": hooked.url(), "events": ["connection.created"] });
    let hook = maria.client.post("/webhooks", hook).await.data(201);
    let spec_url = format!("{}/openapi.json", library.url());
    let connection = maria.client.post("/connections", json!({ "name": "slow", "specUrl": spec_url })).await.data(201);
    until("both are under way", LONG, async || (!library.seen().is_empty() && !hooked.seen().is_empty()).then_some(()))
        .await;
    server.kill().await;
    let killed = std::time::Instant::now();
    server.launch().await;
    let client = server.anonymous().bearer(&token);
    let ingested = client.ingested(id(&connection)).await;
    assert_eq!(ingested["ingestionStatus"], "SUCCEEDED", "{ingested}");
    assert!(killed.elapsed() < BACK, "the document was ready after {:?} only", killed.elapsed());
    let path = format!("/webhooks/{}/deliveries", id(&hook));
    until("the delivery ends", LONG, async || {
        let listed = client.get(&path).await.data(200);
        (listed["deliveries"][0]["status"] == "succeeded").then_some(())
    })
    .await;
    assert!(killed.elapsed() < BACK * 2, "the event was delivered after {:?} only", killed.elapsed());
    let ids: BTreeSet<_> = hooked.seen().iter().map(|seen| seen.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1, "one event under two ids");
    assert_whole(&server).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_finishes_without_nats_and_after_it() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    let client: &Client = &maria.client;
    let ledger = Ledger::start(Duration::from_millis(20)).await;
    let hooked = Stub::start(|_| Reply::json(200, &json!({}))).await;
    let hook = json!({ "name": "hook", "url": hooked.url(), "events": ["workflow.completed"] });
    let hook = client.post("/webhooks", hook).await.data(201);
    let connection = client.connect(ledger.connection("ledger")).await;
    let workflow = client.workflow(orders(&connection)).await;
    let start = async |run: &str| {
        let body = json!({ "input": { "run": run } });
        let started = client.post(&format!("/workflows/{workflow}/execute"), body).await.data(202);
        started["executionId"].as_str().unwrap().to_owned()
    };

    // In the middle of a run, and before one begins.
    let first = start("before").await;
    until("it is under way", LONG, async || (!ledger.stub.seen().is_empty()).then_some(())).await;
    server.kill_nats(true).await;
    let second = start("without").await;
    for execution in [&first, &second] {
        assert_eq!(client.ended(execution, LONG).await["status"], "completed");
    }
    until("health tells that NATS is gone", LONG, async || {
        let answer = client.try_get("/health").await?;
        (answer.status == 200 && answer.body["data"]["status"] == "degraded").then_some(())
    })
    .await;
    // A document can be connected meanwhile.
    assert_eq!(client.connect(ledger.connection("meanwhile")).await["endpointCount"], 4);

    // It comes back empty: streams and consumers are made again.
    server.start_nats();
    until("health tells that NATS is back", LONG, async || {
        let answer = client.try_get("/health").await?;
        (answer.body["data"]["status"] == "healthy").then_some(())
    })
    .await;
    let third = start("after").await;
    assert_eq!(client.ended(&third, LONG).await["status"], "completed");
    let path = format!("/webhooks/{}/deliveries", id(&hook));
    until("all three are delivered", LONG, async || {
        let listed = client.get(&path).await.data(200);
        let all = listed["deliveries"].as_array().unwrap().clone();
        (all.len() == 3 && all.iter().all(|delivery| delivery["status"] == "succeeded")).then_some(())
    })
    .await;
    let ids: BTreeSet<_> = hooked.seen().iter().map(|seen| seen.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ledger.orders().len(), 3 * ITEMS, "one effect per step");
    assert_whole(&server).await;
    server.finish().await;
}
