//! Group append when it is busy: COPY, its faults, lost connections, full queues.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::event::LogPosition;
use event_store::{Append, AppendError, Appended, Claim, EventStore, MAX_PAYLOAD};
use sqlx::{Connection, Executor, Row};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{all, append, id, open, postgres::Database, sequence, stream};

/// Appends all at once; gives the results in the order of `commands`.
async fn at_once(store: &EventStore, commands: Vec<Append>) -> Vec<Result<Appended, AppendError>> {
    let tasks: Vec<_> = commands
        .into_iter()
        .map(|command| {
            let store = store.clone();
            tokio::spawn(async move { store.append(command).await })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

#[tokio::test]
async fn a_copied_batch_tells_each_command_its_place() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let ids: Vec<Uuid> = (0..300).map(|_| id()).collect();
    let commands = |expected| ids.iter().map(|i| append(vec![stream(*i, expected, &["a", "b"])])).collect::<Vec<_>>();
    for expected in [0, 2] {
        let results = at_once(&store, commands(expected)).await;
        let events = all(&store).await;
        let last: HashMap<Uuid, LogPosition> =
            events.iter().filter(|e| e.sequence == expected + 2).map(|e| (e.aggregate_id, e.at)).collect();
        for (id, result) in ids.iter().zip(results) {
            assert_eq!(result.unwrap().at, last[id]);
        }
    }
    let stats = store.append_stats();
    assert!(stats.copies > 0, "{stats:?}");
    assert_eq!((stats.commands, stats.events, stats.fallbacks), (600, 1_200, 0), "{stats:?}");
}

#[tokio::test]
async fn a_poisoned_row_in_a_copy_costs_its_own_command_only() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let mut commands: Vec<Append> = (0..200).map(|_| append(vec![stream(id(), 0, &["a", "b"])])).collect();
    for index in [50, 120] {
        commands[index].streams[0].events[1].payload = "{not json".into();
    }
    let results = at_once(&store, commands).await;
    for (index, result) in results.iter().enumerate() {
        match index {
            50 | 120 => assert!(matches!(result, Err(AppendError::Refused(_))), "{result:?}"),
            _ => assert!(result.is_ok(), "{result:?}"),
        }
    }
    assert_eq!(all(&store).await.len(), 198 * 2);
    assert!(store.append_stats().fallbacks > 0);
    // The lanes go on with new connections.
    let more = (0..100).map(|_| append(vec![stream(id(), 0, &["a"])])).collect();
    assert!(at_once(&store, more).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_missing_predecessor_is_found_in_a_copy_too() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let gaps: Vec<Uuid> = (0..10).map(|_| id()).collect();
    let mut commands: Vec<Append> = (0..200).map(|_| append(vec![stream(id(), 0, &["a"])])).collect();
    commands.extend(gaps.iter().map(|g| append(vec![stream(*g, 3, &["late"])])));
    let results = at_once(&store, commands).await;
    assert!(results[..200].iter().all(Result::is_ok));
    assert!(results[200..].iter().all(|r| matches!(r, Err(AppendError::Conflict))), "{:?}", &results[200..]);
    assert!(store.append_stats().copies > 0);
    assert_eq!(all(&store).await.len(), 200);
}

#[tokio::test]
async fn another_nodes_event_fails_one_command_of_a_copy() {
    let database = Database::fresh().await;
    let (ours, other) = (open(&database).await, open(&database).await);
    let contested = id();
    ours.append(append(vec![stream(contested, 0, &["1"])])).await.unwrap();
    // Ours knows sequence 1 as the head; the other node writes 2.
    other.append(append(vec![stream(contested, 1, &["2"])])).await.unwrap();
    let mut commands: Vec<Append> = (0..200).map(|_| append(vec![stream(id(), 0, &["a"])])).collect();
    commands.push(append(vec![stream(contested, 1, &["2 again"])]));
    let results = at_once(&ours, commands).await;
    assert!(results[..200].iter().all(Result::is_ok));
    assert!(matches!(results[200], Err(AppendError::Conflict)));
    assert_eq!(sequence(&ours, contested).await, 2);
    ours.append(append(vec![stream(contested, 2, &["3"])])).await.unwrap();
}

#[tokio::test]
async fn a_key_is_given_once_in_a_copy() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let with_key = |key: &str, expected| Append {
        claim: Some(Claim { key: key.into(), request_hash: "h".into() }),
        ..append(vec![stream(id(), expected, &["a"])])
    };
    store.append(with_key("taken", 0)).await.unwrap();
    let mut commands: Vec<Append> = (0..100).map(|_| append(vec![stream(id(), 0, &["a"])])).collect();
    commands.extend([with_key("taken", 0), with_key("one", 0), with_key("one", 0), with_key("conflicting", 4)]);
    commands.extend((0..100).map(|_| append(vec![stream(id(), 0, &["a"])])));
    let results = at_once(&store, commands).await;
    assert!(matches!(results[100], Err(AppendError::KeyTaken)));
    let one = [&results[101], &results[102]].iter().filter(|r| r.is_ok()).count();
    assert_eq!(one, 1, "{:?}", &results[101..103]);
    assert!(matches!(results[103], Err(AppendError::Conflict)));
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 201);
    let claimed = store.remembered(Uuid::from_u128(7), "conflicting").await.unwrap();
    assert_eq!(claimed, None, "a command that failed takes no key");
}

#[tokio::test]
async fn a_key_is_given_once_in_a_small_batch() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let with_key = |expected| Append {
        claim: Some(Claim { key: "once".into(), request_hash: "h".into() }),
        ..append(vec![stream(id(), expected, &["a"])])
    };
    // They are in the queue before a lane runs: one batch, too small for a COPY.
    let results = at_once(&store, vec![with_key(3), with_key(0), with_key(0), with_key(0)]).await;
    assert!(matches!(results[0], Err(AppendError::Conflict)), "{results:?}");
    let given = results[1..].iter().filter(|r| r.is_ok()).count();
    let refused = results[1..].iter().filter(|r| matches!(r, Err(AppendError::KeyTaken))).count();
    assert_eq!((given, refused), (1, 2), "{results:?}");
    let stats = store.append_stats();
    assert_eq!((stats.batches, stats.copies), (1, 0), "{stats:?}");
    assert_eq!(all(&store).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_lose_nothing_and_write_nothing_twice() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..24 {
        let (store, stop) = (store.clone(), stop.clone());
        writers.spawn(async move {
            let (target, mut at) = (id(), 0);
            let mut acknowledged = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // Some alone, some in COPYs; some with a second, new stream.
                let mut streams = vec![stream(target, at, &["a", "b"][..1 + writer % 2])];
                if writer % 3 == 0 {
                    streams.push(stream(id(), 0, &["c"]));
                }
                let ids: Vec<Uuid> = streams.iter().flat_map(|s| &s.events).map(|e| e.event_id).collect();
                let end = streams[0].expected + streams[0].events.len() as i64;
                let done = store.append(append(streams)).await;
                assert!(done.is_ok(), "the server was there all the time: {done:?}");
                acknowledged.extend(ids);
                at = end;
            }
            acknowledged
        });
    }
    let mut killer = database.connect().await;
    let mut killed = 0;
    while killed < 60 {
        let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                     where application_name like 'apiq-append-%' and datname = current_database() and random() < 0.5";
        killed += sqlx::query_scalar::<_, i64>(kill).fetch_one(&mut killer).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged: Vec<Uuid> = writers.join_all().await.into_iter().flatten().collect();
    let mut stored: Vec<Uuid> = all(&store).await.iter().map(|e| e.event_id).collect();
    acknowledged.sort_unstable();
    stored.sort_unstable();
    assert!(store.append_stats().interruptions > 5, "{:?}", store.append_stats());
    assert_eq!(acknowledged.len(), stored.len());
    assert!(acknowledged == stored, "what was acknowledged is not what is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_statement_is_never_taken_for_a_lost_race() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for _ in 0..32 {
        let (store, stop) = (store.clone(), stop.clone());
        writers.spawn(async move {
            let (mut acknowledged, mut told) = (Vec::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                let new = stream(id(), 0, &["a", "b"]);
                let ids: Vec<Uuid> = new.events.iter().map(|e| e.event_id).collect();
                match store.append(append(vec![new])).await {
                    Ok(_) => acknowledged.extend(ids),
                    // Nothing is written, and the caller may try again.
                    Err(AppendError::Unavailable(_)) => told += 1,
                    // Nobody else writes these streams.
                    Err(other) => panic!("{other:?}"),
                }
            }
            (acknowledged, told)
        });
    }
    let mut killer = database.connect().await;
    let mut cancelled = 0;
    while cancelled < 400 {
        let cancel = "select count(pg_cancel_backend(pid)) from pg_stat_activity
                       where application_name like 'apiq-append-%' and datname = current_database()
                         and state = 'active'";
        cancelled += sqlx::query_scalar::<_, i64>(cancel).fetch_one(&mut killer).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut told) = (Vec::new(), 0);
    for (ids, failures) in writers.join_all().await {
        acknowledged.extend(ids);
        told += failures;
    }
    let mut stored: Vec<Uuid> = all(&store).await.iter().map(|e| e.event_id).collect();
    acknowledged.sort_unstable();
    stored.sort_unstable();
    assert!(told > 0, "nothing was cancelled in time: {:?}", store.append_stats());
    assert!(acknowledged == stored, "{} acknowledged, {} stored", acknowledged.len(), stored.len());
}

#[tokio::test]
async fn a_full_queue_says_so_and_drains() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let mut holder = database.connect().await;
    let mut held = holder.begin().await.unwrap();
    held.execute("lock table log.events in exclusive mode").await.unwrap();
    let tasks: Vec<_> = (0..5_000)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.append(append(vec![stream(id(), 0, &["a"])])).await })
        })
        .collect();
    // Until the queue is full the callers are waiting for it.
    while store.append_stats().overloaded == 0 {
        tokio::task::yield_now().await;
    }
    let stats = store.append_stats();
    assert!(stats.waiting <= 4_096 && stats.waiting_bytes > 0, "{stats:?}");
    held.rollback().await.unwrap();
    let (mut done, mut turned_away) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => done += 1,
            Err(AppendError::Overloaded) => turned_away += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(done + turned_away, 5_000);
    assert!(turned_away > 0);
    let stored: i64 =
        sqlx::query("select count(*) as n from log.events").fetch_one(store.pool()).await.unwrap().get("n");
    assert_eq!(stored, done);
    assert_eq!(store.append_stats().waiting, 0);
}

#[tokio::test]
async fn what_the_log_cannot_keep_is_refused_before_it_is_sent() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let with = |payload: String| {
        let mut command = append(vec![stream(id(), 0, &["a"])]);
        command.streams[0].events[0].payload = payload;
        command
    };
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(MAX_PAYLOAD));
    let refused = store.append(with(large)).await;
    assert!(matches!(&refused, Err(AppendError::TooLarge(why)) if why.contains("organization.created")), "{refused:?}");
    for payload in
        [r#"{"name":"\u0000"}"#.to_owned(), r#"{"name":"\ud800"}"#.into(), "[".repeat(200) + &"]".repeat(200)]
    {
        let refused = store.append(with(payload)).await;
        assert!(matches!(refused, Err(AppendError::Refused(_))), "{refused:?}");
    }
    let target = id();
    let twice = store.append(append(vec![stream(target, 0, &["a"]), stream(target, 1, &["b"])])).await;
    assert!(matches!(twice, Err(AppendError::Refused(_))), "{twice:?}");
    assert_eq!(store.append_stats().batches, 0);
    // Many events at once are one command still.
    let names = vec!["n"; 5_000];
    store.append(append(vec![stream(target, 0, &names)])).await.unwrap();
    assert_eq!(sequence(&store, target).await, 5_000);
}

/// Two nodes write the same streams in opposite orders. Each sorts its batch; otherwise they would wait for each other in a
/// circle until Postgres picks a victim, a second later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_write_the_same_streams_never_deadlock() {
    const STREAMS: usize = 1_500;
    let database = Database::fresh().await;
    let nodes = [open(&database).await, open(&database).await];
    for _ in 0..6 {
        let ids: Vec<Uuid> = (0..STREAMS).map(|_| id()).collect();
        let there = append(ids.iter().map(|i| stream(*i, 0, &["a"])).collect());
        let back = append(ids.iter().rev().map(|i| stream(*i, 0, &["a"])).collect());
        let results = tokio::join!(nodes[0].append(there), nodes[1].append(back));
        assert!(
            matches!(results, (Ok(_), Err(AppendError::Conflict)) | (Err(AppendError::Conflict), Ok(_))),
            "{results:?}"
        );
    }
    // A backend tells its figures when it ends.
    for node in nodes {
        let pool = node.pool().clone();
        drop(node);
        pool.close().await;
    }
    let mut owner = database.connect().await;
    let others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
                  and backend_type = 'client backend'";
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut owner).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let deadlocks: i64 =
        sqlx::query_scalar("select deadlocks from pg_stat_database where datname = current_database()")
            .fetch_one(&mut owner)
            .await
            .unwrap();
    assert_eq!(deadlocks, 0);
}
