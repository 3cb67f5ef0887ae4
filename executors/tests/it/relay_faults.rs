//! The relay among other relays, other writers, and a log that went back.

use async_nats::jetstream;
use domain::event::LogPosition;
use sqlx::Executor;

use crate::house::{House, id, until};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_one_is_active_and_a_takeover_loses_and_reorders_nothing() {
    let house = House::new().await;
    let (one, other) = (house.relay().await, house.relay().await);
    until("one is active", async || (one.stats.is_active() || other.stats.is_active()).then_some(())).await;
    for _ in 0..4 {
        // The lock goes with its connection, in the middle of the work; the loser does not know it at once.
        let cut = async {
            let mut db = house.database.connect().await;
            let cut = "select pg_terminate_backend(a.pid) from pg_stat_activity a
                        where a.datname = current_database() and a.application_name = 'apiq-lock'";
            db.execute(cut).await.unwrap();
        };
        tokio::join!(house.append(1_000), cut);
    }
    house.append(1).await;
    house.assert_seen().await;
    house.assert_stream(&house.table().await).await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_does_not_know_that_it_lost_its_role_publishes_nothing_twice() {
    let house = House::new().await;
    let relay = house.relay().await;
    house.append(20).await;
    house.assert_seen().await;
    // A transaction held open: the events after it are in the log, and this relay does not have them yet.
    let mut held = house.database.connect().await;
    held.execute("begin; select pg_current_xact_id()").await.unwrap();
    house.append(10).await;
    // Another relay publishes them; long ago, so that the server does not know their ids any more.
    let mut db = house.database.connect().await;
    let events = event_store::read_after(&mut db, house.store.generation() + 1, LogPosition::START, 100).await.unwrap();
    let context = jetstream::new(house.nats.client().await);
    for event in &events[20..] {
        let body = format!("{{\"id\":\"{}\",\"position\":\"{}\"}}", event.event_id, event.at);
        let sent = context.publish("apiq.events.x.workflow.created", body.into()).await.unwrap();
        sent.await.unwrap();
    }
    held.execute("commit").await.unwrap();
    house.append(10).await;
    house.assert_stream(&house.table().await).await;
    assert_eq!(house.table().await.len(), 40);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_went_back_goes_on_from_its_checkpoint() {
    let house = House::new().await;
    let relay = house.relay().await;
    house.append(20).await;
    house.assert_seen().await;
    house.checkpointed().await;
    relay.stop().await;
    // The database was restored to an earlier time: JetStream knows an event of a future that never was.
    let context = jetstream::new(house.nats.client().await);
    let future = id();
    let body = format!("{{\"id\":\"{future}\",\"position\":\"1-999999999999-999999999\"}}");
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", future.to_string());
    let sent = context.publish_with_headers("apiq.events.x.workflow.created", headers, body.into()).await.unwrap();
    sent.await.unwrap();

    let relay = house.relay().await;
    house.append(15).await;
    let mut wanted = house.table().await;
    wanted.insert(20, future);
    house.assert_stream(&wanted).await;
    relay.stop().await;

    // A checkpoint that is lost costs nothing, and a message of somebody else at the stream's end is passed over.
    let mut db = house.database.connect().await;
    db.execute("delete from log.checkpoints").await.unwrap();
    let sent = context.publish("apiq.events.x.workflow.created", "{\"id\":1}".into()).await.unwrap();
    assert_eq!(sent.await.unwrap().sequence, 37);
    let relay = house.relay().await;
    house.append(5).await;
    until("they are there", async || {
        let info = house.stream().await?.get_info().await.ok()?;
        (info.state.messages == 42).then_some(())
    })
    .await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_too_large_for_a_message_stops_nothing() {
    let house = House::new().await;
    let relay = house.relay().await;
    house.append(5).await;
    house.append_one(format!("{{\"text\":\"{}\"}}", "x".repeat(2 * 1024 * 1024))).await;
    house.append(5).await;
    house.assert_seen().await;
    relay.stop().await;
}
