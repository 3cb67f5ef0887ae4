//! The log lives through what operators do to Postgres: dump and restore, `pg_upgrade`, promotion, read replicas, index
//! builds, a killed server, a schema of another version.

use std::{sync::Arc, time::Duration};

use domain::{
    event::{LogPosition, RecordedEvent},
    organization::Organization,
};
use event_store::{
    AppendError, ClusterIdentity, DatabaseRole, EventStore, FollowError, Follower, OpenError, advance, checkpoint,
    cluster_of, connect_pool, migrate,
};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio::{sync::watch, time::Instant};

use crate::{
    append,
    cluster::{Address, Cluster},
    id,
    order::{check, collect, last_word, table},
    stream,
    writers::{Crowd, Size, insert},
};

const PATIENCE: Duration = Duration::from_secs(120);

async fn migrated() -> Cluster {
    let cluster = Cluster::start().await;
    PgConnection::connect(&cluster.url("postgres")).await.unwrap().execute("create database apiq").await.unwrap();
    migrate(&cluster.url("apiq"), false).await.unwrap();
    cluster
}

async fn pool(url: &str) -> PgPool {
    connect_pool(url, DatabaseRole::Writer, 10).await.unwrap()
}

async fn open(url: &str) -> EventStore {
    EventStore::open(pool(url).await, event_store::Options::default()).await.unwrap()
}

async fn add(store: &EventStore, name: &str) {
    store.append(append(vec![stream(id(), 0, &[name])])).await.unwrap();
}

async fn identity(url: &str) -> ClusterIdentity {
    cluster_of(&mut PgConnection::connect(url).await.unwrap()).await.unwrap()
}

/// The next events, over broken connections.
async fn next(follower: &mut Follower, max: usize) -> Vec<Arc<RecordedEvent>> {
    let begun = Instant::now();
    loop {
        match tokio::time::timeout(PATIENCE, follower.next(max)).await.expect("an event comes") {
            Ok(batch) => return batch,
            Err(FollowError::Database(_)) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

async fn names(follower: &mut Follower, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < count {
        names.extend(next(follower, count - names.len()).await.iter().map(|e| e.payload.clone()));
    }
    names
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect()
}

/// Spends transaction ids.
async fn age(cluster: &Cluster, by: usize) {
    let mut owner = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    for _ in 0..by {
        owner.execute("select pg_current_xact_id()").await.unwrap();
    }
}

/// Refused as it is, taken after the adoption; old events come before new ones, and the checkpoint means what it meant.
async fn adopts(cluster: &Cluster, at: LogPosition) {
    let url = cluster.url("apiq");
    let refused =
        EventStore::open(pool(&url).await, event_store::Options::default()).await.err().expect("another cluster's log");
    assert!(matches!(refused, OpenError::OtherCluster) && refused.to_string().contains("--adopt"), "{refused}");
    migrate(&url, true).await.unwrap();
    let store = open(&url).await;
    assert_eq!(store.generation(), 2);
    for name in ["new 1", "new 2"] {
        add(&store, name).await;
    }
    let mut follower = store.follow(LogPosition::START);
    assert_eq!(names(&mut follower, 5).await, named(&["old 1", "old 2", "old 3", "new 1", "new 2"]));
    assert_eq!(follower.at().generation, 2);
    // A consumer had seen the first two.
    assert_eq!(checkpoint(store.pool(), "consumer").await.unwrap(), at);
    let mut consumer = store.follow(at);
    assert_eq!(names(&mut consumer, 3).await, named(&["old 3", "new 1", "new 2"]));
    assert!(advance(store.pool(), "consumer", at, consumer.at()).await.unwrap());
}

/// A log of three events, of which a consumer has seen two; its checkpoint.
async fn with_history(cluster: &Cluster) -> LogPosition {
    let store = open(&cluster.url("apiq")).await;
    for name in ["old 1", "old 2", "old 3"] {
        add(&store, name).await;
    }
    let mut follower = store.follow(LogPosition::START);
    names(&mut follower, 2).await;
    assert!(advance(store.pool(), "consumer", LogPosition::START, follower.at()).await.unwrap());
    follower.at()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_restored_elsewhere_goes_on_after_adoption() {
    let old = migrated().await;
    age(&old, 2_000).await;
    let at = with_history(&old).await;
    let dump = old.dump("apiq").await;
    let new = Cluster::start().await;
    let mut owner = PgConnection::connect(&new.url("postgres")).await.unwrap();
    // Roles belong to the cluster, not to the dump.
    owner
        .execute("create role apiq_api; create role apiq_writer; create role apiq_projector; create role apiq_auditor")
        .await
        .unwrap();
    owner.execute("create database apiq").await.unwrap();
    new.restore("apiq", &dump).await;
    let (xid,): (i64,) = sqlx::query_as("select pg_current_xact_id()::text::int8").fetch_one(&mut owner).await.unwrap();
    assert!((xid as u64) < at.transaction_id, "the new cluster's ids are smaller: {xid}");
    adopts(&new, at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_moved_by_pg_upgrade_goes_on_after_adoption() {
    let old = migrated().await;
    let at = with_history(&old).await;
    let before = identity(&old.url("apiq")).await;
    let new = match old.upgraded().await {
        Ok(new) => new,
        Err(why) => {
            println!("SKIPPED: pg_upgrade does not run here: {why}");
            return;
        }
    };
    assert_ne!(identity(&new.url("apiq")).await.system_identifier, before.system_identifier);
    adopts(&new, at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_is_noticed_at_once_and_followers_go_on() {
    let mut primary = migrated().await;
    let address = Address::of(&primary);
    let store = open(&address.url("apiq")).await;
    let mut follower = store.follow(LogPosition::START);
    add(&store, "one").await;
    assert_eq!(names(&mut follower, 1).await, named(&["one"]));
    let standby = primary.standby().await;
    let before = identity(&primary.url("apiq")).await;
    assert_eq!(identity(&standby.url("apiq")).await, before);
    // From now on a commit waits for the standby.
    let mut owner = PgConnection::connect(&primary.url("postgres")).await.unwrap();
    owner.execute("alter system set synchronous_standby_names = '*'").await.unwrap();
    owner.execute("select pg_reload_conf()").await.unwrap();
    let begun = Instant::now();
    loop {
        let sync: bool =
            sqlx::query_scalar("select exists (select from pg_stat_replication where sync_state = 'sync')")
                .fetch_one(&mut owner)
                .await
                .unwrap();
        if sync {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the standby becomes synchronous");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    add(&store, "two").await;
    assert_eq!(names(&mut follower, 1).await, named(&["two"]));
    let at = follower.at();
    assert!(advance(store.pool(), "consumer", LogPosition::START, at).await.unwrap());
    primary.kill();
    standby.promote().await;
    // `pg_control_checkpoint` may still tell the old timeline here.
    let after = identity(&standby.url("apiq")).await;
    assert_eq!(after, ClusterIdentity { timeline: before.timeline + 1, ..before });
    let mut owner = PgConnection::connect(&standby.url("postgres")).await.unwrap();
    owner.execute("alter system reset synchronous_standby_names").await.unwrap();
    owner.execute("select pg_reload_conf()").await.unwrap();
    address.point_to(&standby);
    let begun = Instant::now();
    while store.append(append(vec![stream(id(), 0, &["three"])])).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the store finds the new primary");
    }
    assert_eq!(names(&mut follower, 1).await, named(&["three"]));
    assert_eq!(
        checkpoint(store.pool(), "consumer").await.unwrap(),
        at,
        "what a checkpoint covers is there, and it too"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_that_had_not_got_everything_is_told() {
    let mut primary = migrated().await;
    let address = Address::of(&primary);
    let store = open(&address.url("apiq")).await;
    let mut follower = store.follow(LogPosition::START);
    let mut careful = store.follow(LogPosition::START);
    // A stream that is changed before and after, so that lanes and cache know its end.
    let changed = id();
    store.append(append(vec![stream(changed, 0, &["changed"])])).await.unwrap();
    add(&store, "kept").await;
    assert_eq!(names(&mut careful, 2).await, named(&["changed", "kept"]));
    assert!(advance(store.pool(), "consumer", LogPosition::START, careful.at()).await.unwrap());
    let mut standby = primary.standby().await;
    standby.stop().await;
    add(&store, "lost").await;
    store.append(append(vec![stream(changed, 1, &["lost too"])])).await.unwrap();
    store.load::<Organization>(changed).await.unwrap();
    assert_eq!(names(&mut follower, 4).await, named(&["changed", "kept", "lost", "lost too"]));
    let lost = follower.at();
    assert!(advance(store.pool(), "consumer", careful.at(), lost).await.unwrap());
    primary.kill();
    standby.run().await;
    standby.promote().await;
    address.point_to(&standby);
    let begun = Instant::now();
    while store.append(append(vec![stream(id(), 0, &["instead"])])).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the store finds the new primary");
    }
    // Nobody builds on the event that is gone, whoever remembers it; and its place is free.
    let gap = store.append(append(vec![stream(changed, 2, &["on nothing"])])).await;
    assert!(matches!(gap, Err(AppendError::Conflict)), "{gap:?}");
    assert_eq!(store.recall::<Organization>(changed).await.unwrap().sequence, 1);
    store.append(append(vec![stream(changed, 1, &["again"])])).await.unwrap();
    let told = loop {
        match tokio::time::timeout(PATIENCE, follower.next(9)).await.expect("it ends") {
            Err(FollowError::Database(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => break other,
        }
    };
    assert!(matches!(told, Err(FollowError::Lost { at }) if at == lost), "{told:?}");
    // The checkpoint went back with the log: from there nothing is missed.
    let at = checkpoint(store.pool(), "consumer").await.unwrap();
    assert_eq!(at, careful.at());
    assert_eq!(names(&mut store.follow(at), 2).await, named(&["instead", "again"]));
    // One whose place is in both logs goes on.
    assert_eq!(names(&mut careful, 2).await, named(&["instead", "again"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_replica_gives_all_in_order_while_many_write() {
    let primary = migrated().await;
    let store = open(&primary.url("apiq")).await;
    let replica = primary.standby().await;
    let (end, known) = watch::channel(None);
    // The writers keep near the reader of the replica.
    let read = Arc::default();
    let size = Size { writers: 28, events: 40_000, batch: 60 };
    let crowd = Crowd::start(&primary.url("apiq"), &primary.url("postgres"), &store, &read, size).await;
    let from_replica = store.follow_on(pool(&replica.url("apiq")).await, LogPosition::START);
    let from_replica = tokio::spawn(collect(from_replica, 300, known.clone(), read));
    let from_primary = tokio::spawn(collect(store.follow(LogPosition::START), 1_000, known, Arc::default()));
    tokio::time::timeout(PATIENCE, crowd.finish()).await.expect("writers end");
    end.send_replace(Some(last_word(&store).await));
    let table = table(&store).await;
    for (name, task) in [("replica", from_replica), ("primary", from_primary)] {
        check(name, &tokio::time::timeout(PATIENCE, task).await.expect("all come").unwrap(), &table);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_build_does_not_stall_readers() {
    let primary = migrated().await;
    let store = open(&primary.url("apiq")).await;
    let mut owner = PgConnection::connect(&primary.url("apiq")).await.unwrap();
    let rows = if std::env::var("APIQ_SOAK").is_ok() { 1_000_000 } else { 200_000 };
    insert(&mut owner, rows).await;
    let end = store.health().await.unwrap().end;
    let mut follower = store.follow(end);
    // An event every few milliseconds, whose way from the commit to the follower is timed.
    let (done, stopped) = watch::channel(false);
    let probes = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            let mut count = 0;
            while !*stopped.borrow() {
                add(&store, "probe").await;
                let committed = Instant::now();
                next(&mut follower, 10).await;
                longest = longest.max(committed.elapsed());
                count += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (longest, count)
        })
    };
    let begun = Instant::now();
    owner.execute("create index concurrently probe_by_type on log.events (event_type, recorded_at)").await.unwrap();
    let built = begun.elapsed();
    done.send_replace(true);
    let (longest, count) = probes.await.unwrap();
    println!("index built in {built:.2?}; the longest of {count} waits for an event was {longest:.2?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_a_follower_nothing() {
    let mut primary = migrated().await;
    let store = open(&primary.url("apiq")).await;
    let (total, mut known) = watch::channel(None::<usize>);
    let (noticed, mut errors) = watch::channel(0);
    let mut follower = store.follow(LogPosition::START);
    let following = tokio::spawn(async move {
        let mut seen = Vec::new();
        while !known.borrow().is_some_and(|total| seen.len() >= total) {
            tokio::select! {
                batch = follower.next(50) => match batch {
                    Ok(batch) => seen.extend(batch.iter().map(|e| e.at)),
                    Err(FollowError::Database(_)) => noticed.send_modify(|errors| *errors += 1),
                    Err(other) => panic!("{other}"),
                },
                changed = known.changed() => changed.unwrap(),
            }
        }
        seen
    });
    let (stop, stopped) = watch::channel(false);
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            while !*stopped.borrow() {
                // Some fail, and of those some are written: the table tells.
                let _ = store.append(append(vec![stream(id(), 0, &["a", "b"])])).await;
            }
        })
    };
    for told in [false, true] {
        // In the middle of writing and following.
        tokio::time::sleep(Duration::from_millis(300)).await;
        primary.kill();
        if told {
            // Down for so long that the follower says so.
            let before = *errors.borrow_and_update();
            errors.wait_for(|errors| *errors > before).await.unwrap();
        }
        primary.run().await;
    }
    let begun = Instant::now();
    while store.append(append(vec![stream(id(), 0, &["after"])])).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the store goes on");
    }
    stop.send_replace(true);
    writing.await.unwrap();
    let table = table(&store).await;
    total.send_replace(Some(table.len()));
    let seen = tokio::time::timeout(PATIENCE, following).await.expect("all come").unwrap();
    check("follower", &seen, &table);
}

#[tokio::test]
async fn a_schema_of_another_version_is_refused() {
    let cluster = Cluster::start().await;
    let url = cluster.url("postgres");
    let why = async || {
        EventStore::open(pool(&url).await, event_store::Options::default()).await.err().expect("refused").to_string()
    };
    let bare = PgPool::connect(&url).await.unwrap();
    let error = EventStore::open(bare, event_store::Options::default()).await.err().expect("refused");
    assert!(matches!(error, OpenError::Schema(_)), "{error}");
    migrate(&url, false).await.unwrap();
    open(&url).await;
    let mut owner = PgConnection::connect(&url).await.unwrap();
    let future = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                  values (9001, 'of a later build', true, '', 0)";
    owner.execute(future).await.unwrap();
    let newer = why().await;
    assert!(newer.contains("newer than this build") && newer.contains("9001"), "{newer}");
    owner.execute("delete from _sqlx_migrations where version in (9001, 3)").await.unwrap();
    let older = why().await;
    assert!(older.contains("migration 3 is missing") && older.contains("apiq migrate"), "{older}");
    // A role that a later migration lets look at the versions.
    owner.execute("revoke select on _sqlx_migrations from apiq_writer").await.unwrap();
    let older = why().await;
    assert!(older.contains("apiq migrate"), "{older}");
}
