//! How events find their way to receivers: exact subscriptions, room for everybody, nothing lost at a stop, and how long
//! it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::support::client::id;
use crate::support::{Account, Reply, Server, Stub, until};

const SOON: Duration = Duration::from_secs(30);

async fn receiver() -> Stub {
    Stub::start(|_| Reply::json(200, &json!({}))).await
}

async fn hook(account: &Account, url: &str, events: Value) -> Value {
    let body = json!({ "name": "to us", "url": url, "events": events });
    account.client.post("/webhooks", body).await.data(201)
}

async fn make_workflow(account: &Account) -> String {
    let steps = json!([{ "id": "say", "type": "transform", "output": "hello" }]);
    account.client.workflow(json!({ "name": "say", "steps": steps })).await
}

/// Delivery ids of every webhook, from the log itself.
async fn scheduled(database: &mut PgConnection) -> BTreeMap<String, BTreeSet<String>> {
    let sql =
        "select payload->>'webhookId', aggregate_id::text from log.events where event_type = 'delivery.scheduled'";
    let rows: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(database).await.unwrap();
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    for (webhook, delivery) in rows {
        all.entry(webhook).or_default().insert(delivery);
    }
    all
}

/// The scheduler has come to the end of the log.
async fn caught_up(server: &Server) {
    let mut database = server.database().await;
    until("every event is scheduled", SOON, async || {
        let sql = "select not exists (select from log.events e, log.checkpoints c where c.name = 'dispatcher' and
                     (e.generation, e.transaction_id, e.position) > (c.generation, c.transaction_id, c.position))
                   and exists (select from log.checkpoints where name = 'dispatcher')";
        let done: bool = sqlx::query_scalar(sql).fetch_one(&mut database).await.unwrap();
        done.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_to_who_was_subscribed_at_its_place_whenever_it_is_scheduled() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    let token = maria.key("owner").await;
    let stub = receiver().await;
    make_workflow(&maria).await;
    let early = hook(&maria, stub.url(), json!(["workflow.created"])).await;
    make_workflow(&maria).await;
    let late = hook(&maria, stub.url(), json!(["workflow.created"])).await;
    make_workflow(&maria).await;
    let path = format!("/webhooks/{}", id(&early));
    maria.client.patch(&path, json!({ "events": ["workflow.deleted"] })).await.data(200);
    make_workflow(&maria).await;
    maria.client.patch(&path, json!({ "events": ["workflow.created"], "status": "inactive" })).await.data(200);
    make_workflow(&maria).await;
    maria.client.patch(&path, json!({ "status": "active" })).await.data(200);
    let gone = hook(&maria, stub.url(), json!(["workflow.created"])).await;
    make_workflow(&maria).await;
    maria.client.delete(&format!("/webhooks/{}", id(&gone))).await;
    make_workflow(&maria).await;
    caught_up(&server).await;

    let first = scheduled(&mut server.database().await).await;
    let counts: Vec<_> = [&early, &late, &gone].iter().map(|hook| first[id(hook)].len()).collect();
    assert_eq!(counts, [4, 5, 1], "{first:?}");

    // From the start of the log again, and from the middle of it: neither more nor other deliveries.
    for back in [0, 3] {
        server.kill().await;
        let mut database = PgConnection::connect(server.database_url()).await.unwrap();
        let to = format!(
            "update log.checkpoints c set (generation, transaction_id, position) =
               (select e.generation, e.transaction_id, e.position from log.events e where e.event_type = 'workflow.created'
                 order by e.generation, e.transaction_id, e.position offset {back} limit 1)
              where c.name = 'dispatcher'"
        );
        database.execute(to.as_str()).await.unwrap();
        if back == 0 {
            database.execute("delete from log.checkpoints where name = 'dispatcher'").await.unwrap();
        }
        server.launch().await;
        caught_up(&server).await;
        assert_eq!(scheduled(&mut server.database().await).await, first);
    }
    let client = server.anonymous().bearer(&token);
    until("everything that could be is delivered", SOON, async || {
        let path = format!("/webhooks/{}/deliveries?status=succeeded&limit=1", id(&late));
        (client.get(&path).await.data(200)["pagination"]["total"] == 5).then_some(())
    })
    .await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_holds_up_no_other() {
    const EVENTS: usize = 40;
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let dead = Stub::start(|_| Reply::Hang).await;
    let live = receiver().await;
    let hung = hook(&maria, dead.url(), json!(["workflow.created"])).await;
    hook(&maria, live.url(), json!(["workflow.created"])).await;
    futures::future::join_all((0..EVENTS).map(|_| make_workflow(&maria))).await;
    // Before the first attempt at the dead one has timed out.
    until("the live one has all", Duration::from_secs(18), async || (live.seen().len() == EVENTS).then_some(())).await;
    assert!((1..=8).contains(&dead.seen().len()), "{} attempts at once to one receiver", dead.seen().len());
    maria.client.delete(&format!("/webhooks/{}", id(&hung))).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_attempts_under_way_and_records_them() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    let token = maria.key("owner").await;
    let slow = Stub::start(|_| Reply::Late(Duration::from_secs(3), Box::new(Reply::json(200, &json!({}))))).await;
    let made = hook(&maria, slow.url(), json!(["workflow.created"])).await;
    make_workflow(&maria).await;
    until("it is under way", SOON, async || (!slow.seen().is_empty()).then_some(())).await;
    assert!(server.stop().await.is_some_and(|status| status.success()));
    server.launch().await;
    let client = server.anonymous().bearer(&token);
    let path = format!("/webhooks/{}/deliveries", id(&made));
    let delivery = until("it is shown", SOON, async || {
        let listed = client.get(&path).await.data(200);
        Some(listed["deliveries"][0].clone()).filter(|delivery| delivery["status"] == "succeeded")
    })
    .await;
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1, "{delivery}");
    assert_eq!(slow.seen().len(), 1, "it was posted again");
    server.finish().await;
}

/// From the request that writes to the receiver's having it; printed, because machines differ.
#[tokio::test(flavor = "multi_thread")]
async fn from_write_to_webhook_received() {
    const EVENTS: usize = 100;
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let stub = receiver().await;
    hook(&maria, stub.url(), json!(["workflow.created"])).await;
    let mut took = Vec::new();
    for n in 0..EVENTS {
        let written = Instant::now();
        make_workflow(&maria).await;
        while stub.seen().len() <= n {
            assert!(written.elapsed() < SOON, "event {n} does not come");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        took.push(written.elapsed());
    }
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    println!("write_to_webhook_received: p50 {:?}, p99 {:?}, of {EVENTS}", at(50), at(99));
    assert!(at(50) < Duration::from_secs(2), "wake-ups are lost, and the sweep does the work: {:?}", at(50));
    server.finish().await;
}
