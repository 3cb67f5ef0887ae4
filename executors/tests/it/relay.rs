//! The relay: NATS down, wiped, rolled back. Everything is delivered later, in order, nothing twice to a consumer that
//! tells known events by their id.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use sqlx::Executor;

use crate::house::{House, until};

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_published_once_and_in_order() {
    let house = House::new().await;
    house.append(300).await;
    let relay = house.relay().await;
    house.append(1_500).await;
    house.assert_seen().await;
    house.assert_stream(&house.table().await).await;
    // A consumer may see a message before the relay has its acknowledgement.
    until("all are counted", async || (relay.stats.published() == 1_800).then_some(())).await;
    assert_eq!(relay.stats.republished(), 0);

    // Another start goes on where this one left off.
    relay.stop().await;
    house.append(20).await;
    let relay = house.relay().await;
    house.assert_seen().await;
    until("the new ones are counted", async || (relay.stats.published() == 20).then_some(())).await;
    assert_eq!(relay.stats.republished(), 0);
    until("it is not behind", async || (relay.stats.lag_events() == 0).then_some(())).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_that_is_down_delays_and_loses_nothing() {
    let mut house = House::new().await;
    let relay = house.relay().await;
    house.append(50).await;
    house.assert_seen().await;

    house.nats.stop().await;
    // Appends notice nothing.
    house.append(3_000).await;
    until("the lag is told", async || {
        (relay.stats.lag_events() >= 3_000 && !relay.stats.lag().is_zero()).then_some(())
    })
    .await;
    house.nats.launch().await;
    house.assert_seen().await;
    house.assert_stream(&house.table().await).await;
    until("it has caught up", async || (relay.stats.lag_events() == 0).then_some(())).await;
    assert_eq!(relay.stats.republished(), 0);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_that_was_wiped_gets_everything_again() {
    let mut house = House::new().await;
    let relay = house.relay().await;
    house.append(700).await;
    house.assert_seen().await;

    // While the relay runs and nothing else happens.
    house.nats.stop().await;
    house.nats.wipe();
    house.nats.launch().await;
    house.assert_stream(&house.table().await).await;
    until("they are counted", async || (relay.stats.republished() == 700).then_some(())).await;
    house.append(10).await;
    house.assert_seen().await;
    relay.stop().await;

    // While it does not run.
    house.nats.stop().await;
    house.nats.wipe();
    house.nats.launch().await;
    house.append(10).await;
    let relay = house.relay().await;
    house.assert_stream(&house.table().await).await;
    house.assert_seen().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_that_was_rolled_back_gets_again_what_it_lost() {
    let mut house = House::new().await;
    let relay = house.relay().await;
    house.append(200).await;
    house.assert_seen().await;
    house.nats.stop().await;
    house.nats.copy();
    house.nats.launch().await;
    house.append(400).await;
    house.assert_seen().await;

    // While the relay runs and nothing else happens.
    house.nats.stop().await;
    house.nats.put_back();
    house.nats.launch().await;
    house.assert_stream(&house.table().await).await;
    until("they are counted", async || (relay.stats.republished() == 400).then_some(())).await;
    house.append(30).await;
    house.assert_seen().await;
    relay.stop().await;

    // While it does not run; there is something new, too.
    house.nats.stop().await;
    house.nats.put_back();
    house.nats.launch().await;
    house.append(30).await;
    let relay = house.relay().await;
    house.assert_stream(&house.table().await).await;
    house.assert_seen().await;
    assert!(relay.stop().await.republished() >= 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_is_no_loss_while_the_relay_runs() {
    let house = House::new().await;
    let relay = house.relay().await;
    house.append(100).await;
    house.assert_seen().await;
    house.stream().await.unwrap().purge().await.unwrap();
    // Longer than the relay goes without a look at the stream.
    let later = tokio::time::Instant::now() + Duration::from_secs(7);
    until("it has looked", async || (tokio::time::Instant::now() > later).then_some(())).await;
    house.append(5).await;
    house.assert_seen().await;
    house.assert_stream(&house.table().await[100..]).await;
    let stats = relay.stop().await;
    assert_eq!((stats.published(), stats.republished()), (105, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_the_stream_at_its_other_end_is_not_published_again() {
    let house = House::new().await;
    let relay = house.relay().await;
    house.append(100).await;
    house.assert_seen().await;
    relay.stop().await;
    house.stream().await.unwrap().purge().keep(3).await.unwrap();
    let relay = house.relay().await;
    house.append(5).await;
    house.assert_stream(&house.table().await[97..]).await;
    assert_eq!(relay.stop().await.republished(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_older_than_the_stream_keeps_are_not_published_again_but_new_ones_always() {
    let mut house = House::new().await;
    let relay = house.relay().await;
    house.append(60).await;
    house.assert_seen().await;
    house.checkpointed().await;
    relay.stop().await;
    house.nats.stop().await;
    house.nats.wipe();
    // As if a long time had passed: the first 40 published, and, after 20 young ones, never published ones.
    house.append(10).await;
    let table = house.table().await;
    let mut db = house.database.connect().await;
    for old in [&table[..40], &table[60..]] {
        let age = sqlx::query("update log.events set recorded_at = now() - interval '3 days' where event_id = any($1)");
        age.bind(old).execute(&mut db).await.unwrap();
    }
    house.nats.launch().await;
    let relay = house.relay().await;
    house.assert_stream(&table[40..]).await;
    house.checkpointed().await;
    assert_eq!(relay.stop().await.republished(), 20);

    // All published, all old, the stream empty: there is nothing to do.
    db.execute("update log.events set recorded_at = now() - interval '3 days'").await.unwrap();
    house.nats.stop().await;
    house.nats.wipe();
    house.nats.launch().await;
    let relay = house.relay().await;
    house.append(1).await;
    house.assert_stream(&house.table().await[70..]).await;
    assert_eq!(relay.stop().await.published(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_found_otherwise_is_set_right_or_refused_in_words() {
    let house = House::new().await;
    let context = jetstream::new(house.nats.client().await);
    let found = stream::Config {
        name: executors::nats::STREAM.into(),
        subjects: vec!["apiq.events.*".into()],
        max_age: Duration::from_secs(60),
        ..Default::default()
    };
    context.create_stream(found.clone()).await.unwrap();
    let relay = house.relay().await;
    house.append(10).await;
    house.assert_seen().await;
    let config = house.stream().await.unwrap().cached_info().config.clone();
    assert_eq!(config.subjects, [executors::nats::SUBJECTS]);
    assert_eq!(config.max_age, Duration::from_secs(24 * 3600));
    house.checkpointed().await;
    relay.stop().await;

    // One that cannot be changed is left alone, and nothing is lost meanwhile.
    context.delete_stream(executors::nats::STREAM).await.unwrap();
    let queue = stream::Config {
        subjects: vec![executors::nats::SUBJECTS.into()],
        retention: stream::RetentionPolicy::WorkQueue,
        ..found
    };
    context.create_stream(queue).await.unwrap();
    let relay = house.relay().await;
    house.append(10).await;
    until("it waits", async || (relay.stats.lag_events() == 10).then_some(())).await;
    assert_eq!(house.stream().await.unwrap().cached_info().state.messages, 0);
    context.delete_stream(executors::nats::STREAM).await.unwrap();
    house.assert_seen().await;
    relay.stop().await;
}
