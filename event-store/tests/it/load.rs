//! Loading: the cache under the sequence check, snapshots that are used and those that are not, events of other builds.

use std::time::{Duration, Instant};

use domain::{
    actor::Role,
    ids::{OrganizationId, SessionId, WorkspaceId},
    organization::{Organization, OrganizationEvent},
    sealed::Sealed,
    user::{User, UserEvent},
};
use event_store::{AppendError, DatabaseRole, EventStore, Loaded, NewEvent, Options, StreamAppend, connect_pool};
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use crate::{
    append, id, open,
    postgres::Database,
    probe::{Counted, Probe, ProbeEvent},
    stream,
};

async fn open_with(database: &Database, options: Options) -> EventStore {
    let pool = connect_pool(&database.url, DatabaseRole::Writer, 10).await.unwrap();
    EventStore::open(pool, options).await.unwrap()
}

/// A probe's stream, in commands of 100 events.
async fn noted(store: &EventStore, target: Uuid, from: i64, to: i64) {
    let mut expected = from;
    while expected < to {
        let until = to.min(expected + 100);
        let event = |n: i64| NewEvent::of(id(), &ProbeEvent::Noted { text: format!("note {n}") }).unwrap();
        let events = (expected + 1..=until).map(event).collect();
        let stream =
            StreamAppend { aggregate_type: "probe", aggregate_id: target, expected, predecessor: None, events };
        store.append(append(vec![stream])).await.unwrap();
        expected = until;
    }
}

fn raw(target: Uuid, expected: i64, (event_type, version, payload): (&str, &str, &str)) -> StreamAppend {
    let event = NewEvent {
        event_id: id(),
        event_type: event_type.into(),
        event_version: version.into(),
        payload: payload.into(),
    };
    StreamAppend { aggregate_type: "probe", aggregate_id: target, expected, predecessor: None, events: vec![event] }
}

/// Sequences of the snapshots of a stream.
async fn snapshots(owner: &mut PgConnection, target: Uuid) -> Vec<i64> {
    let sql = "select sequence from log.snapshots where aggregate_id = $1 order by sequence";
    sqlx::query_scalar(sql).bind(target).fetch_all(owner).await.unwrap()
}

async fn until_snapshots(owner: &mut PgConnection, target: Uuid, wanted: &[i64]) {
    let begun = Instant::now();
    loop {
        let found = snapshots(owner, target).await;
        if found == wanted {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{found:?} in place of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A stream of 300 events with a snapshot at its end.
async fn with_snapshot(database: &Database) -> (Uuid, PgConnection) {
    let (store, target) = (open(database).await, id());
    noted(&store, target, 0, 300).await;
    assert_eq!(store.load::<Probe>(target).await.unwrap().folded, 300);
    let mut owner = database.connect().await;
    until_snapshots(&mut owner, target, &[300]).await;
    (target, owner)
}

/// As a node does that was just started.
async fn cold(database: &Database, target: Uuid) -> Loaded<Probe> {
    open(database).await.load::<Probe>(target).await.unwrap()
}

fn assert_noted(loaded: &Loaded<Probe>, count: usize) {
    assert_eq!(loaded.sequence, count as i64);
    assert_eq!(loaded.workspace, Some(Uuid::from_u128(7)));
    let texts: Vec<_> = (1..=count).map(|n| format!("note {n}")).collect();
    assert_eq!(loaded.state.texts, texts);
}

#[tokio::test]
async fn a_cached_state_is_never_trusted_over_the_log() {
    let database = Database::fresh().await;
    let (here, elsewhere) = (open(&database).await, open(&database).await);
    let target = id();
    here.append(append(vec![stream(target, 0, &["one"])])).await.unwrap();
    assert!(!here.recall::<Organization>(target).await.unwrap().recalled, "nothing is cached yet");
    elsewhere.append(append(vec![stream(target, 1, &["two"])])).await.unwrap();

    let behind = here.recall::<Organization>(target).await.unwrap();
    assert_eq!((behind.recalled, behind.sequence, behind.state.name.as_str()), (true, 1, "one"));
    let lost = here.append(append(vec![stream(target, behind.sequence, &["lost"])])).await;
    assert!(matches!(lost, Err(AppendError::Conflict)), "{lost:?}");

    let present = here.load::<Organization>(target).await.unwrap();
    assert_eq!((present.recalled, present.sequence, present.state.name.as_str()), (false, 2, "two"));
    assert_eq!(present.folded, 1, "the first event was folded before");
    let recalled = here.recall::<Organization>(target).await.unwrap();
    assert_eq!((recalled.recalled, recalled.sequence), (true, 2));
}

#[tokio::test]
async fn a_kept_state_is_recalled_and_an_older_one_does_not_replace_it() {
    let database = Database::fresh().await;
    let (store, target) = (open(&database).await, id());
    store.append(append(vec![stream(target, 0, &["one"])])).await.unwrap();
    let first = store.load::<Organization>(target).await.unwrap();

    let mut second = first.clone();
    let event = OrganizationEvent::Created { name: "two".into() };
    let stored = NewEvent::of(id(), &event).unwrap();
    second.advance(event, &stored, Uuid::from_u128(7));
    let events = vec![stored];
    let two = StreamAppend {
        aggregate_type: "organization",
        aggregate_id: target,
        expected: first.sequence,
        predecessor: None,
        events,
    };
    store.append(append(vec![two])).await.unwrap();
    store.keep(second);
    store.keep(first);
    let recalled = store.recall::<Organization>(target).await.unwrap();
    assert_eq!((recalled.recalled, recalled.sequence, recalled.state.name.as_str()), (true, 2, "two"));
    let loaded = store.load::<Organization>(target).await.unwrap();
    assert_eq!((loaded.sequence, loaded.folded), (2, 0), "it is the log's own event that it ends with");
    store.keep(Loaded::<Organization>::fresh(id()));
    assert_eq!(store.cache_stats().entries, 1, "what does not exist is not kept");
}

#[tokio::test]
async fn a_cached_state_of_another_history_is_dropped() {
    let database = Database::fresh().await;
    let (store, target) = (open(&database).await, id());
    noted(&store, target, 0, 3).await;
    store.load::<Probe>(target).await.unwrap();
    // As after a promoted standby that had not received the last event, and went on.
    let mut owner = database.connect().await;
    let delete = "delete from log.events where aggregate_id = $1 and sequence = 3";
    sqlx::query(delete).bind(target).execute(&mut owner).await.unwrap();
    let shorter = store.load::<Probe>(target).await.unwrap();
    assert_eq!((shorter.sequence, shorter.folded), (2, 2));

    noted(&store, target, 2, 3).await;
    store.load::<Probe>(target).await.unwrap();
    sqlx::query(delete).bind(target).execute(&mut owner).await.unwrap();
    let other = open(&database).await;
    other.append(append(vec![raw(target, 2, ("probe.noted", "2", r#"{"text":"other"}"#))])).await.unwrap();
    // Decided on the event that is gone: there is one at its place, but not that one.
    let (mut stale, more) = (raw(target, 3, ("probe.noted", "2", r#"{"text":"more"}"#)), open(&database).await);
    stale.predecessor = Some(id());
    let refused = more.append(append(vec![stale])).await;
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
    assert_eq!(store.load::<Probe>(target).await.unwrap().state.texts, ["note 1", "note 2", "other"]);
    assert_eq!(store.recall::<Probe>(target).await.unwrap().state.texts[2], "other");
}

#[tokio::test]
async fn the_cache_is_bounded_by_bytes_and_weighs_states_not_histories() {
    let database = Database::fresh().await;
    const BOUND: u64 = 64 * 1024;
    let store = open_with(&database, Options { cache_bytes: BOUND, ..Options::default() }).await;
    assert_eq!(store.cache_stats().bytes, 0, "an idle node holds nothing");
    let name = "x".repeat(1_000);
    let ids: Vec<Uuid> = (0..300).map(|_| id()).collect();
    store.append(append(ids.iter().map(|id| stream(*id, 0, &[&name])).collect())).await.unwrap();
    for id in &ids {
        store.load::<Organization>(*id).await.unwrap();
    }
    let full = store.cache_stats();
    assert!(full.bytes <= BOUND && full.bytes > BOUND / 2, "{full:?}");
    assert!(full.entries > 20 && full.entries <= BOUND / 1_000, "{full:?}");
    assert_eq!((full.hits, full.misses), (0, 300));

    // Its events replace the name: the state stays small, whatever its history weighs.
    let store = open_with(&database, Options { cache_bytes: BOUND, ..Options::default() }).await;
    let renamed = id();
    store.append(append(vec![stream(renamed, 0, &[name.as_str(); 200])])).await.unwrap();
    store.load::<Organization>(renamed).await.unwrap();
    let one = store.cache_stats();
    assert!(one.entries == 1 && one.bytes > 1_000 && one.bytes < 3_000, "{one:?}");
    for n in 200..300 {
        store.append(append(vec![stream(renamed, n, &[&name])])).await.unwrap();
        store.load::<Organization>(renamed).await.unwrap();
    }
    let same = store.cache_stats();
    assert!(same.bytes < 4_000, "{same:?}");
    assert_eq!((same.hits, same.misses), (100, 1));
}

#[tokio::test]
async fn nothing_is_cached_without_room() {
    let database = Database::fresh().await;
    let store = open_with(&database, Options { cache_bytes: 0, ..Options::default() }).await;
    let target = id();
    noted(&store, target, 0, 3).await;
    for _ in 0..2 {
        assert_eq!(store.recall::<Probe>(target).await.unwrap().folded, 3);
    }
    assert_eq!(store.cache_stats().entries, 0);
}

#[tokio::test]
async fn a_load_that_began_before_forgetting_leaves_nothing() {
    let database = Database::fresh().await;
    let (store, target) = (open(&database).await, id());
    noted(&store, target, 0, 3).await;
    let mut owner = database.connect().await;
    let mut blocker = PgConnection::connect(&database.url).await.unwrap();
    let mut transaction = blocker.begin().await.unwrap();
    transaction.execute("lock table log.events in access exclusive mode").await.unwrap();
    let load = tokio::spawn({
        let store = store.clone();
        async move { store.load::<Probe>(target).await.unwrap() }
    });
    let begun = Instant::now();
    let waiting = "select count(*) from pg_locks where not granted and relation = 'log.events'::regclass
                      and database = (select oid from pg_database where datname = current_database())";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut owner).await.unwrap() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the load does not wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.forget_cached();
    transaction.rollback().await.unwrap();
    let loaded = load.await.unwrap();
    assert_eq!((loaded.sequence, store.cache_stats().entries), (3, 0));
    store.keep(loaded);
    assert_eq!(store.cache_stats().entries, 0, "it was loaded before");

    store.load::<Probe>(target).await.unwrap();
    assert_eq!(store.cache_stats().entries, 1);
    store.forget_cached();
    assert!(!store.recall::<Probe>(target).await.unwrap().recalled);
}

#[tokio::test]
async fn a_long_stream_is_loaded_from_its_snapshot() {
    let database = Database::fresh().await;
    let (target, mut owner) = with_snapshot(&database).await;
    let loaded = cold(&database, target).await;
    assert_eq!(loaded.folded, 0);
    assert_noted(&loaded, 300);

    let store = open(&database).await;
    noted(&store, target, 300, 305).await;
    let loaded = store.load::<Probe>(target).await.unwrap();
    assert_eq!(loaded.folded, 5);
    assert_noted(&loaded, 305);
    assert_eq!(store.load::<Probe>(target).await.unwrap().folded, 0, "cached");
    assert_eq!(snapshots(&mut owner, target).await, [300], "5 events are no reason for another one");

    noted(&store, target, 305, 600).await;
    assert_eq!(store.load::<Probe>(target).await.unwrap().folded, 295);
    until_snapshots(&mut owner, target, &[600]).await;
    assert_noted(&cold(&database, target).await, 600);

    // A node that is late with its own does not put it back.
    let text = "update log.snapshots set sequence = 601 where aggregate_id = $1";
    sqlx::query(text).bind(target).execute(&mut owner).await.unwrap();
    let late = open_with(&database, Options { snapshot_every: 0, ..Options::default() }).await;
    assert_noted(&late.load::<Probe>(target).await.unwrap(), 600);
    until_snapshots(&mut owner, target, &[]).await;
    late.load::<Probe>(target).await.unwrap();
    assert_eq!(snapshots(&mut owner, target).await, [0; 0], "0 writes none");
}

#[tokio::test]
async fn a_snapshot_of_another_shape_is_not_used_and_goes_after_a_week() {
    let database = Database::fresh().await;
    let (target, mut owner) = with_snapshot(&database).await;
    let reshape = "update log.snapshots set shape = 'another' where aggregate_id = $1";
    sqlx::query(reshape).bind(target).execute(&mut owner).await.unwrap();
    let store = open(&database).await;
    let loaded = store.load::<Probe>(target).await.unwrap();
    assert_eq!(loaded.folded, 300);
    assert_noted(&loaded, 300);
    until_snapshots(&mut owner, target, &[300, 300]).await;

    assert_eq!(store.sweep_snapshots().await.unwrap(), 0, "the other build may still run");
    owner.execute("update log.snapshots set created_at = created_at - interval '8 days'").await.unwrap();
    assert_eq!(store.sweep_snapshots().await.unwrap(), 1);
    let left: Vec<String> = sqlx::query_scalar("select shape from log.snapshots").fetch_all(&mut owner).await.unwrap();
    assert_eq!(left, [domain::FOLD_FINGERPRINT]);
}

#[tokio::test]
async fn a_damaged_snapshot_is_not_used_and_replaced() {
    let database = Database::fresh().await;
    let (target, mut owner) = with_snapshot(&database).await;
    for damage in ["state = '{\"texts\":[\"forged\"]}'", "state = 'null'", "workspace_id = gen_random_uuid()"] {
        owner.execute(format!("update log.snapshots set {damage}").as_str()).await.unwrap();
        let loaded = cold(&database, target).await;
        assert_eq!(loaded.folded, 300, "{damage}");
        assert_noted(&loaded, 300);
        let begun = Instant::now();
        while cold(&database, target).await.folded > 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "no good one is written");
        }
    }
    // Whole, but nothing this state can be read from.
    let other = open(&database).await.load::<Counted>(target).await.unwrap();
    assert_eq!((other.state.count, other.folded), (300, 300));
}

#[tokio::test]
async fn a_snapshot_beyond_the_end_of_its_stream_is_not_used() {
    let database = Database::fresh().await;
    let (target, mut owner) = with_snapshot(&database).await;
    // As after a restore to an earlier point that left this table as it was.
    let cut = "delete from log.events where aggregate_id = $1 and sequence > 250";
    sqlx::query(cut).bind(target).execute(&mut owner).await.unwrap();
    let loaded = cold(&database, target).await;
    assert_eq!(loaded.folded, 250);
    assert_noted(&loaded, 250);
    until_snapshots(&mut owner, target, &[250]).await;

    // The stream goes on in another way and passes the snapshot's place.
    sqlx::query("delete from log.events where aggregate_id = $1 and sequence = 250")
        .bind(target)
        .execute(&mut owner)
        .await
        .unwrap();
    let store = open_with(&database, Options { cache_bytes: 0, ..Options::default() }).await;
    noted(&store, target, 249, 260).await;
    let loaded = store.load::<Probe>(target).await.unwrap();
    assert_eq!(loaded.folded, 260);
    assert_noted(&loaded, 260);

    owner.execute("delete from log.events").await.unwrap();
    let gone = cold(&database, target).await;
    assert_eq!((gone.sequence, gone.workspace, gone.folded), (0, None, 0));
}

#[tokio::test]
async fn events_of_an_older_build_are_lifted_wherever_a_load_begins() {
    let database = Database::fresh().await;
    let store = open_with(&database, Options { snapshot_every: 1, ..Options::default() }).await;
    let target = id();
    let old = |n| raw(target, n, ("probe.noted", "1", r#"{"note":"old"}"#));
    let new = |n| raw(target, n, ("probe.noted", "2", r#"{"text":"new"}"#));
    store.append(append(vec![old(0)])).await.unwrap();
    store.append(append(vec![new(1)])).await.unwrap();
    let mut texts = vec!["old (version 1)", "new"];
    assert_eq!(store.load::<Probe>(target).await.unwrap().state.texts, texts);
    until_snapshots(&mut database.connect().await, target, &[2]).await;
    // A node of the older build writes on.
    store.append(append(vec![old(2)])).await.unwrap();
    assert_eq!(store.recall::<Probe>(target).await.unwrap().state.texts, texts);
    texts.push("old (version 1)");
    assert_eq!(store.load::<Probe>(target).await.unwrap().state.texts, texts);
    assert_eq!(store.recall::<Probe>(target).await.unwrap().state.texts, texts);
    let from_snapshot = cold(&database, target).await;
    assert_eq!((from_snapshot.state.texts, from_snapshot.folded), (texts.iter().map(|t| (*t).into()).collect(), 1));
}

#[tokio::test]
async fn events_of_a_newer_build_are_refused_in_words() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    // The second would parse.
    let future = [("probe.forgotten", "3", "{}"), ("probe.noted", "3", r#"{"text":"by luck"}"#)];
    for (event_type, version, payload) in future {
        let target = id();
        noted(&store, target, 0, 1).await;
        store.append(append(vec![raw(target, 1, (event_type, version, payload))])).await.unwrap();
        let sentence =
            format!("event {event_type} version {version} is not known to this build; it was written by a newer one");
        for _ in 0..2 {
            let refused = store.load::<Probe>(target).await.unwrap_err().to_string();
            assert_eq!(refused, sentence);
        }
    }
    assert_eq!(store.cache_stats().entries, 0);
}

#[tokio::test]
async fn a_snapshot_holds_sealed_values_as_they_are() {
    let database = Database::fresh().await;
    let store = open_with(&database, Options { snapshot_every: 1, ..Options::default() }).await;
    let target = id();
    fn sealed(text: &str) -> Sealed<String> {
        Sealed::from_parts(format!("user:{text}"), 3, "bm9uY2U=".into(), format!("cipher of {text}"))
    }
    let registered = UserEvent::Registered {
        email: sealed("email"),
        name: None,
        password: sealed("password"),
        organization_id: OrganizationId(id()),
        workspace_id: WorkspaceId(id()),
        role: Role::Owner,
    };
    let logged_in = UserEvent::LoggedIn { session_id: SessionId(id()) };
    let events = [registered, logged_in].iter().map(|e| NewEvent::of(id(), e).unwrap()).collect();
    let user = StreamAppend { aggregate_type: "user", aggregate_id: target, expected: 0, predecessor: None, events };
    store.append(append(vec![user])).await.unwrap();
    let loaded = store.load::<User>(target).await.unwrap();
    let mut owner = database.connect().await;
    until_snapshots(&mut owner, target, &[2]).await;
    let state: serde_json::Value =
        sqlx::query_scalar("select state from log.snapshots").fetch_one(&mut owner).await.unwrap();
    let expected = serde_json::json!({"s": "user:email", "k": 3, "n": "bm9uY2U=", "c": "cipher of email"});
    assert_eq!(state["email"], expected);
    let again = open(&database).await.load::<User>(target).await.unwrap();
    assert_eq!((again.folded, &again.state.email), (0, &Some(sealed("email"))));
    assert_eq!(format!("{:?}", again.state), format!("{:?}", loaded.state));
}
