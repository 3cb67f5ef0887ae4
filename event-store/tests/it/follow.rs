//! Followers of one node share its reader, each at a place and pace of its own; the log's health tells who is behind.

use std::{sync::Arc, time::Duration};

use domain::event::{LogPosition, RecordedEvent};
use event_store::{DatabaseRole, EventStore, FollowError, Follower, HELD_TOO_LONG, advance, connect_pool};
use sqlx::{Connection, Executor};
use tokio::time::Instant;

use crate::{append, cluster::Cluster, id, open, postgres::Database, stream, writers::insert};

const PATIENCE: Duration = Duration::from_secs(60);

async fn add(store: &EventStore, name: &str) {
    store.append(append(vec![stream(id(), 0, &[name])])).await.unwrap();
}

async fn next(follower: &mut Follower, max: usize) -> Vec<Arc<RecordedEvent>> {
    tokio::time::timeout(PATIENCE, follower.next(max)).await.expect("an event comes").unwrap()
}

async fn take(follower: &mut Follower, count: usize) -> Vec<Arc<RecordedEvent>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(next(follower, count - taken.len()).await);
    }
    taken
}

#[tokio::test]
async fn followers_at_the_end_share_what_is_read_once() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let start = LogPosition::START;
    let (mut a, mut b, mut c) = (store.follow(start), store.follow(start), store.follow(start));
    add(&store, "zero").await;
    for follower in [&mut a, &mut b] {
        next(follower, 10).await;
        let waits = tokio::time::timeout(Duration::from_millis(100), follower.next(10)).await;
        assert!(waits.is_err(), "at the log's end");
    }
    add(&store, "one").await;
    let (from_a, from_b) = (next(&mut a, 10).await, next(&mut b, 10).await);
    assert!(Arc::ptr_eq(&from_a[0], &from_b[0]), "one reading for both");
    // One that begins now is near enough for it too.
    next(&mut c, 1).await;
    assert!(Arc::ptr_eq(&from_a[0], &next(&mut c, 10).await[0]));
    // Another node has its own.
    let elsewhere = open(&database).await;
    let from_there = next(&mut elsewhere.follow(start), 10).await;
    assert_eq!(from_there[1], from_a[0]);
    assert!(!Arc::ptr_eq(&from_there[1], &from_a[0]));
    assert_eq!(a.at(), from_a[0].at);
}

#[tokio::test]
async fn who_is_behind_catches_up_and_joins_without_gap_or_double() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let mut owner = database.connect().await;
    insert(&mut owner, 1_000).await;
    let mut first = store.follow(LogPosition::START);
    let all: Vec<_> = take(&mut first, 1_000).await.iter().map(|e| e.at).collect();
    // From the start and from the middle, in steps that do not divide it, beyond where the ring begins.
    let (mut late, mut middle) = (store.follow(LogPosition::START), store.follow(all[499]));
    let live = async {
        for n in 0..20 {
            insert(&mut owner, 1 + n % 3).await;
        }
        20 + (0..20).map(|n| n % 3).sum::<i32>()
    };
    let (mut seen, mut half) = (Vec::new(), Vec::new());
    let first_events = async {
        while seen.len() < 400 {
            seen.extend(next(&mut late, 7).await.iter().map(|e| e.at));
        }
    };
    let (added, ()) = tokio::join!(live, first_events);
    let total = 1_000 + added as usize;
    while seen.len() < total {
        seen.extend(next(&mut late, 7).await.iter().map(|e| e.at));
    }
    while half.len() < total - 500 {
        half.extend(next(&mut middle, 13).await.iter().map(|e| e.at));
    }
    let table = crate::order::table(&store).await;
    crate::order::check("late", &seen, &table);
    crate::order::check("middle", &half, &table[500..]);
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let mut follower = store.follow(LogPosition::START);
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                add(&store, "n").await;
            }
        })
    };
    let (mut seen, mut dropped) = (Vec::new(), 0);
    while seen.len() < 200 {
        match tokio::time::timeout(Duration::from_micros(700), follower.next(10)).await {
            Ok(batch) => seen.extend(batch.unwrap().iter().map(|e| e.at)),
            Err(_) => dropped += 1,
        }
    }
    writer.await.unwrap();
    assert!(dropped > 0, "the test must drop some");
    crate::order::check("dropped", &seen, &crate::order::table(&store).await);
}

#[tokio::test]
async fn a_paced_follower_gets_batches_under_load_and_the_first_event_at_once() {
    const PACE: Duration = Duration::from_millis(400);
    let database = Database::fresh().await;
    let store = open(&database).await;
    let mut follower = store.follow(LogPosition::START).at_most_every(PACE);
    add(&store, "first").await;
    next(&mut follower, 10).await;
    let begun = Instant::now();
    for name in ["a", "b", "c"] {
        add(&store, name).await;
    }
    assert_eq!(next(&mut follower, 10).await.len(), 3, "what came meanwhile is one batch");
    assert!(begun.elapsed() >= PACE - Duration::from_millis(50), "{:?}", begun.elapsed());
    // After a quiet time nothing is held up, and neither is who has more to take.
    tokio::time::sleep(PACE).await;
    let mut owner = database.connect().await;
    insert(&mut owner, 40).await;
    let begun = Instant::now();
    for _ in 0..4 {
        assert_eq!(next(&mut follower, 10).await.len(), 10);
    }
    assert!(begun.elapsed() < PACE * 3, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_event_that_was_held_back_comes_when_the_older_transaction_ends() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let mut follower = store.follow(LogPosition::START);
    let mut other = database.connect().await;
    let mut held = other.begin().await.unwrap();
    held.execute("select pg_current_xact_id()").await.unwrap();
    add(&store, "waits").await;
    let early = tokio::time::timeout(Duration::from_millis(300), follower.next(1)).await;
    assert!(early.is_err(), "an older transaction is open");
    // It ends without a word.
    held.rollback().await.unwrap();
    assert_eq!(next(&mut follower, 1).await[0].payload, r#"{"name":"waits"}"#);
}

#[tokio::test]
async fn an_event_that_another_server_does_not_have_is_told() {
    let mut cluster = Cluster::start().await;
    event_store::migrate(&cluster.url("postgres"), false).await.unwrap();
    let pool = connect_pool(&cluster.url("postgres"), DatabaseRole::Writer, 5).await.unwrap();
    let store = EventStore::open(pool, event_store::Options::default()).await.unwrap();
    let (mut a, mut b) = (store.follow(LogPosition::START), store.follow(LogPosition::START));
    add(&store, "kept").await;
    next(&mut a, 9).await;
    add(&store, "lost").await;
    let lost = next(&mut a, 9).await[0].at;
    next(&mut b, 1).await;
    let mut owner = sqlx::PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    owner.execute("delete from log.events where payload::text like '%lost%'").await.unwrap();
    cluster.stop().await;
    cluster.run().await;
    let told = loop {
        match tokio::time::timeout(PATIENCE, a.next(9)).await.expect("it ends") {
            Err(FollowError::Database(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => break other,
        }
    };
    assert!(matches!(told, Err(FollowError::Lost { at }) if at == lost), "{told:?}");
    assert!(matches!(a.next(9).await, Err(FollowError::Lost { .. })), "it stays so");
}

#[tokio::test]
async fn no_reader_looks_through_the_whole_table() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let mut owner = database.connect().await;
    insert(&mut owner, 50_000).await;
    owner.execute("vacuum analyze log.events").await.unwrap();
    let scans = "select seq_scan from pg_stat_user_tables where relid = 'log.events'::regclass";
    let count = async |owner: &mut sqlx::PgConnection| -> i64 {
        owner.execute("select pg_stat_force_next_flush()").await.unwrap();
        sqlx::query_scalar(scans).fetch_one(owner).await.unwrap()
    };
    let before = count(&mut owner).await;
    let end = store.health().await.unwrap().end;
    advance(store.pool(), "behind", LogPosition::START, end).await.unwrap();
    // Often enough for plans that are made once and kept; at the end, behind it, and held back.
    let mut follower = store.follow(end);
    let mut other = database.connect().await;
    for _ in 0..10 {
        let mut held = other.begin().await.unwrap();
        held.execute("select pg_current_xact_id()").await.unwrap();
        add(&store, "n").await;
        assert!(tokio::time::timeout(Duration::from_millis(30), follower.next(9)).await.is_err());
        store.health().await.unwrap();
        held.rollback().await.unwrap();
        next(&mut follower, 9).await;
        next(&mut store.follow(LogPosition::START), 9).await;
        assert!(tokio::time::timeout(Duration::from_millis(150), follower.next(9)).await.is_err());
    }
    // Sessions tell what they did when they end.
    store.pool().close().await;
    assert_eq!(count(&mut owner).await, before);
}

#[tokio::test]
async fn health_tells_who_is_behind_and_who_holds_back() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let empty = store.health().await.unwrap();
    assert_eq!((empty.end, empty.consumers.len()), (LogPosition::START, 0));
    let mut owner = database.connect().await;
    insert(&mut owner, 3).await;
    let places: Vec<_> = take(&mut store.follow(LogPosition::START), 3).await.iter().map(|e| e.at).collect();
    for (name, at) in [("at the end", places[2]), ("behind", places[0])] {
        advance(store.pool(), name, LogPosition::START, at).await.unwrap();
    }
    let health = store.health().await.unwrap();
    assert_eq!(health.end, places[2]);
    let lag: Vec<_> = health.consumers.iter().map(|c| (c.name.as_str(), c.at, c.behind_events)).collect();
    assert_eq!(lag, [("at the end", places[2], 0), ("behind", places[0], 2)]);
    assert_eq!(health.consumers[0].behind_age, Duration::ZERO);
    assert!(health.consumers[1].behind_age > Duration::ZERO);

    let url = database.elsewhere();
    let join = if url.contains('?') { '&' } else { '?' };
    let mut other = sqlx::PgConnection::connect(&format!("{url}{join}application_name=report")).await.unwrap();
    let mut held = other.begin().await.unwrap();
    held.execute("select pg_current_xact_id()").await.unwrap();
    add(&store, "waits").await;
    let health = store.health().await.unwrap();
    let oldest = health.oldest_transaction.clone().expect("one is open");
    assert_eq!((oldest.application.as_str(), oldest.database.as_deref()), ("report", Some("postgres")));
    assert!(oldest.pid.is_some() && health.held_too_long().is_none(), "{oldest}");
    assert!(health.end > places[2], "committed, though no reader may have it yet");
    let begun = Instant::now();
    while store.health().await.unwrap().held_too_long().is_none() {
        assert!(begun.elapsed() < PATIENCE, "a transaction that stays is told");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(begun.elapsed() > HELD_TOO_LONG - Duration::from_secs(1));
    held.rollback().await.unwrap();
}

#[tokio::test]
async fn a_transaction_whose_begin_is_hidden_ages_from_when_it_was_seen() {
    let database = Database::fresh().await;
    let mut owner = database.connect().await;
    // The function's owner may not look at others' sessions, as on a managed server.
    let name = format!("plain_{}", id().simple());
    owner.execute(format!("create role {name}").as_str()).await.unwrap();
    owner.execute(format!("alter function log.oldest_transaction() owner to {name}").as_str()).await.unwrap();
    let store = open(&database).await;
    let mut held = owner.begin().await.unwrap();
    held.execute("select pg_current_xact_id()").await.unwrap();
    let age = async || store.health().await.unwrap().oldest_transaction.expect("one is open").age;
    assert_eq!(age().await, Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(age().await >= Duration::from_millis(50));
    held.rollback().await.unwrap();
    let mut again = database.connect().await;
    again.execute(format!("drop owned by {name}; drop role {name}").as_str()).await.unwrap();
}
