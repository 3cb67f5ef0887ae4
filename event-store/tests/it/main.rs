//! The log against a real Postgres: group append, order, idempotency, blobs, roles.

mod ahead;
mod documents;
mod follow;
mod group;
mod network;
mod operations;
mod order;
mod writers;

#[path = "../../../tests/support/cluster.rs"]
mod cluster;
#[path = "../../../tests/support/postgres.rs"]
mod postgres;

mod append;
mod load;
mod probe;

use std::collections::{BTreeMap, HashSet};

use domain::{
    event::LogPosition,
    ids::{OrganizationId, UserId},
    organization::{Organization, OrganizationEvent},
};
use event_store::{
    Append, AppendError, Claim, DatabaseRole, EventStore, NewEvent, Options, StreamAppend, advance, checkpoint,
    connect_pool, read_after, read_event,
};
use postgres::Database;
use sqlx::{Connection, Executor};
use uuid::Uuid;

#[expect(clippy::disallowed_methods, reason = "tests make their own ids")]
fn id() -> Uuid {
    Uuid::now_v7()
}

fn created(name: &str) -> NewEvent {
    NewEvent::of(id(), &OrganizationEvent::Created { name: name.to_owned() }).unwrap()
}

fn stream(aggregate_id: Uuid, expected: i64, names: &[&str]) -> StreamAppend {
    let events = names.iter().map(|n| created(n)).collect();
    StreamAppend { aggregate_type: "organization", aggregate_id, expected, predecessor: None, events }
}

fn append(streams: Vec<StreamAppend>) -> Append {
    Append { workspace_id: Uuid::from_u128(7), streams, metadata: "{}".into(), claim: None }
}

async fn open(database: &Database) -> EventStore {
    let pool = connect_pool(&database.url, DatabaseRole::Writer, 10).await.unwrap();
    EventStore::open(pool, Options::default()).await.unwrap()
}

async fn sequence(store: &EventStore, id: Uuid) -> i64 {
    store.load::<Organization>(id).await.unwrap().sequence
}

/// Everything the order lets a reader see now.
async fn all(store: &EventStore) -> Vec<domain::event::RecordedEvent> {
    read_after(store.pool(), store.generation(), LogPosition::START, 100_000).await.unwrap()
}

#[tokio::test]
async fn a_conflict_fails_its_own_caller_only() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let one = id();
    store.append(append(vec![stream(one, 0, &["a"])])).await.unwrap();
    let tries: Vec<_> = (0..40)
        .map(|n| {
            let store = store.clone();
            // Every fourth wants a place that is taken; the others are streams of their own.
            let target = if n % 4 == 0 { one } else { id() };
            tokio::spawn(async move { (n, store.append(append(vec![stream(target, 0, &["x", "y"])])).await) })
        })
        .collect();
    for task in tries {
        let (n, result) = task.await.unwrap();
        match result {
            Err(AppendError::Conflict) => assert_eq!(n % 4, 0),
            Ok(_) => assert_ne!(n % 4, 0),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sequence(&store, one).await, 1);
    assert_eq!(all(&store).await.len(), 1 + 30 * 2);
}

#[tokio::test]
async fn a_gap_and_a_missing_predecessor_are_refused() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let gap = store.append(append(vec![stream(id(), 5, &["a"])])).await;
    assert!(matches!(gap, Err(AppendError::Conflict)), "{gap:?}");
    assert_eq!(all(&store).await.len(), 0);
}

#[tokio::test]
async fn several_streams_stand_or_fall_together() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let (a, b) = (id(), id());
    store.append(append(vec![stream(a, 0, &["a"]), stream(b, 0, &["b"])])).await.unwrap();
    let half = store.append(append(vec![stream(a, 1, &["a2"]), stream(b, 0, &["b again"])])).await;
    assert!(matches!(half, Err(AppendError::Conflict)), "{half:?}");
    assert_eq!((sequence(&store, a).await, sequence(&store, b).await), (1, 1));
}

#[tokio::test]
async fn a_poisoned_row_fails_alone() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let mut poisoned = stream(id(), 0, &["bad"]);
    poisoned.events[0].payload = "{not json".into();
    let nul = {
        let mut s = stream(id(), 0, &["nul"]);
        s.events[0].payload = r#"{"name":"a\u0000b"}"#.into();
        s
    };
    let tasks: Vec<_> = [poisoned, nul]
        .into_iter()
        .chain((0..20).map(|_| stream(id(), 0, &["good"])))
        .map(|s| {
            let store = store.clone();
            tokio::spawn(async move { store.append(append(vec![s])).await })
        })
        .collect();
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => {}
            Err(AppendError::Refused(_)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 2);
    assert_eq!(all(&store).await.len(), 20);
}

#[tokio::test]
async fn racing_nodes_leave_no_part_of_a_command() {
    let database = Database::fresh().await;
    let (first, second) = (open(&database).await, open(&database).await);
    for _ in 0..30 {
        let target = id();
        let write = |store: &EventStore| {
            let store = store.clone();
            tokio::spawn(async move { store.append(append(vec![stream(target, 0, &["1", "2", "3"])])).await })
        };
        let (a, b) = (write(&first), write(&second));
        let won = [a.await.unwrap(), b.await.unwrap()].iter().filter(|r| r.is_ok()).count();
        assert_eq!(won, 1);
        assert_eq!(sequence(&first, target).await, 3);
    }
}

#[tokio::test]
async fn readers_wait_for_held_transactions_and_miss_nothing() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let mut held = database.connect().await;
    let mut transaction = held.begin().await.unwrap();
    let early = "insert into log.events (generation, workspace_id, aggregate_type, aggregate_id, sequence, event_type,
        event_version, payload, metadata, event_id)
        values (1, gen_random_uuid(), 'organization', gen_random_uuid(), 1, 'organization.created', '1',
                '{\"name\":\"held\"}', '{}', gen_random_uuid())";
    transaction.execute(early).await.unwrap();
    let target = id();
    store.append(append(vec![stream(target, 0, &["later"])])).await.unwrap();
    // The later one is committed, but an earlier one may still come before it.
    assert_eq!(all(&store).await.len(), 0);
    transaction.commit().await.unwrap();
    let seen: Vec<_> = all(&store).await.into_iter().map(|e| e.payload).collect();
    assert_eq!(seen, [r#"{"name":"held"}"#, r#"{"name":"later"}"#]);
}

#[tokio::test]
async fn a_reader_under_write_load_sees_the_table() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let reader = {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut at, mut seen) = (LogPosition::START, Vec::new());
            let mut watcher = store.tail().watch();
            while seen.len() < 2_000 {
                let batch = read_after(store.pool(), store.generation(), at, 64).await.unwrap();
                match batch.last() {
                    Some(last) => at = last.at,
                    None => watcher.wait().await,
                }
                seen.extend(batch.into_iter().map(|e| (e.at, e.event_id)));
            }
            seen
        })
    };
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..125 {
                    store.append(append(vec![stream(id(), 0, &["1", "2"])])).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let seen = reader.await.unwrap();
    assert!(seen.windows(2).all(|w| w[0].0 < w[1].0), "the order must be strict");
    let unique: HashSet<_> = seen.iter().map(|(_, id)| *id).collect();
    assert_eq!(unique.len(), 2_000);
    let middle = seen[1_000];
    assert_eq!(read_event(store.pool(), middle.0).await.unwrap().unwrap().event_id, middle.1);
}

#[tokio::test]
async fn an_idempotency_key_is_taken_with_the_append() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let workspace = Uuid::from_u128(7);
    let claim = Claim { key: "k".into(), request_hash: "h".into() };
    let with_key = |target| Append { claim: Some(claim.clone()), ..append(vec![stream(target, 0, &["a"])]) };
    let (a, b) = (id(), id());
    let conflict = Append { claim: Some(claim.clone()), ..append(vec![stream(id(), 3, &["a"])]) };
    assert!(matches!(store.append(conflict).await, Err(AppendError::Conflict)));
    assert_eq!(store.remembered(workspace, "k").await.unwrap(), None, "a failed append takes no key");
    store.append(with_key(a)).await.unwrap();
    assert!(matches!(store.append(with_key(b)).await, Err(AppendError::KeyTaken)));
    assert_eq!(sequence(&store, b).await, 0);
    assert_eq!(store.remembered(workspace, "k").await.unwrap().unwrap().answer, None);
    store.remember(workspace, &claim, 201, "{}").await.unwrap();
    store.remember(workspace, &claim, 500, "later answers do not replace it").await.unwrap();
    assert_eq!(store.remembered(workspace, "k").await.unwrap().unwrap().answer, Some((201, "{}".into())));
}

#[tokio::test]
async fn checkpoints_move_by_compare_and_set() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let at = |position| LogPosition { generation: 1, transaction_id: 10, position };
    assert!(advance(store.pool(), "x", LogPosition::START, at(1)).await.unwrap());
    assert!(!advance(store.pool(), "x", LogPosition::START, at(2)).await.unwrap());
    assert!(advance(store.pool(), "x", at(1), at(2)).await.unwrap());
    assert_eq!(checkpoint(store.pool(), "x").await.unwrap(), at(2));
}

#[tokio::test]
async fn blobs_are_checked_and_shared() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let bytes = b"the same bytes ".repeat(1_000);
    let hash = store.put_blob(id(), &bytes).await.unwrap();
    assert_eq!(store.put_blob(id(), &bytes).await.unwrap(), hash);
    assert_eq!(store.blob(&hash).await.unwrap(), bytes);
    assert!(store.blob("00").await.is_err());
    let mut owner = database.connect().await;
    let damage =
        sqlx::query("update log.blobs set content = (select content from log.blobs) || '\\x00' where hash = $1");
    damage.bind(&hash).execute(&mut owner).await.unwrap();
    assert!(store.blob(&hash).await.is_err());
}

#[tokio::test]
async fn no_role_of_the_service_may_change_the_log() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    store.append(append(vec![stream(id(), 0, &["a"])])).await.unwrap();
    let mut refused = BTreeMap::new();
    for role in [DatabaseRole::Api, DatabaseRole::Writer, DatabaseRole::Projector, DatabaseRole::Auditor] {
        let pool = connect_pool(&database.url, role, 1).await.unwrap();
        for sql in ["update log.events set sequence = 2", "delete from log.events", "truncate log.events"] {
            refused.insert(format!("{role:?}: {sql}"), pool.execute(sql).await.is_err());
        }
    }
    assert!(refused.values().all(|r| *r), "{refused:?}");
    let api = connect_pool(&database.url, DatabaseRole::Api, 1).await.unwrap();
    assert!(api.execute("select 1 from log.events").await.is_err(), "the API reads the tenant's view only");
    let seen: i64 = sqlx::query_scalar("select count(*) from log.tenant_events").fetch_one(&api).await.unwrap();
    assert_eq!(seen, 0, "no tenant, no rows");
}

#[tokio::test]
async fn another_cluster_is_refused_until_it_is_adopted() {
    let database = Database::fresh().await;
    let mut owner = database.connect().await;
    owner.execute("update log.cluster set system_identifier = 'elsewhere'").await.unwrap();
    let pool = connect_pool(&database.url, DatabaseRole::Writer, 4).await.unwrap();
    let error = EventStore::open(pool.clone(), Options::default()).await.err().expect("refused");
    assert!(error.to_string().contains("--adopt"), "{error}");
    event_store::migrate(&database.url, true).await.unwrap();
    assert_eq!(EventStore::open(pool, Options::default()).await.unwrap().generation(), 2);
}

#[tokio::test]
async fn events_come_back_as_they_were() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let target = id();
    let events = [
        OrganizationEvent::Created { name: "Ünïcode \"quoted\"\nline".into() },
        OrganizationEvent::MemberAdded { user_id: UserId(id()), role: domain::actor::Role::Owner },
    ];
    let new = events.iter().map(|e| NewEvent::of(id(), e).unwrap()).collect();
    let stream = StreamAppend {
        aggregate_type: "organization",
        aggregate_id: target,
        expected: 0,
        predecessor: None,
        events: new,
    };
    store.append(append(vec![stream])).await.unwrap();
    let read: Vec<OrganizationEvent> = all(&store).await.iter().map(|e| e.decode().unwrap()).collect();
    assert_eq!(read, events);
    assert_eq!(OrganizationId(target).0, target);
}
