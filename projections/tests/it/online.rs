//! A rebuild beside the live read models: swapped while projector, writers and readers go on; refused, interrupted, begun
//! again.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use domain::{event::LogPosition, ids::WorkspaceId, workspace::WorkspaceEvent};
use projections::{OnlineError, OnlineOptions, RebuildPhase, live_state, rebuild, rebuild_online};
use sqlx::{Executor, PgConnection};
use tokio::sync::Notify;

use crate::{
    generate, history,
    log::{Log, SOON, unique},
};

const SMALL: OnlineOptions = OnlineOptions { batch: 20 };

async fn workspace(log: &mut Log, name: &str) -> (WorkspaceId, LogPosition) {
    let id = WorkspaceId(unique());
    let created = WorkspaceEvent::Created { organization_id: unique().into(), name: name.into() };
    (id, log.append(id.0, "workspace", id.0, vec![created]).await)
}

async fn schemas(db: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar("select nspname::text from pg_namespace where nspname like 'read_models%' order by 1")
        .fetch_all(db)
        .await
        .unwrap()
}

/// Everything the catalogue says of the read models but the order of its rows.
async fn shape(db: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "select indexdef::text from pg_indexes where schemaname = 'read_models'
         union all select format('%s %s %s %s %s %s', tablename, policyname, cmd, roles, qual, with_check) from pg_policies
          where schemaname = 'read_models'
         union all select format('%s %s %s', table_name, grantee, privilege_type)
          from information_schema.role_table_grants where table_schema = 'read_models'
         union all select format('%s %s', relrowsecurity and relforcerowsecurity, c.oid::regclass) from pg_class c
          where relkind = 'r' and relnamespace = 'read_models'::regnamespace
         union all select format('%s %s', conrelid::regclass, conname) from pg_constraint
          where connamespace = 'read_models'::regnamespace
         union all select format('%s owned by %s', tablename, tableowner) from pg_tables where schemaname = 'read_models'
         union all select nspowner::regrole::text from pg_namespace where nspname = 'read_models'
         union all select nspacl::text from pg_namespace where nspname = 'read_models'
         union all select format('%s %s %s %s', table_name, column_name, data_type, column_default)
          from information_schema.columns where table_schema = 'read_models' order by 1",
    )
    .fetch_all(db)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_tables_take_over_while_everybody_goes_on() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    generate::fill(&log.store, 2_000, 8).await;
    let running = log.project().await;
    let (_, at) = workspace(&mut log, "first").await;
    assert!(running.reads.wait_for(at, SOON).await);
    let mut db = log.database.connect().await;
    // What the log does not say is gone afterwards.
    db.execute("update read_models.workspaces set name = 'tampered'; delete from read_models.plans").await.unwrap();
    // The owner need not be who rebuilds.
    db.execute("alter table read_models.plans owner to apiq_auditor").await.unwrap();
    let before = shape(&mut db).await;
    let (done, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let rebuilt = async {
        let report = rebuild_online(&log.database.url, SMALL, |_| {}).await.unwrap();
        // Some more answers and events afterwards.
        let enough = answered.load(Ordering::Relaxed) + 20;
        while answered.load(Ordering::Relaxed) < enough {
            tokio::task::yield_now().await;
        }
        done.store(true, Ordering::Relaxed);
        report
    };
    let reading = async {
        while !done.load(Ordering::Relaxed) {
            assert!(running.reads.execution(h.workspace, h.execution).await.unwrap().is_some());
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    let writing = async {
        let tenant = generate::tenant(&log.store).await;
        let (mut number, mut seen) = (0, LogPosition::START);
        while !done.load(Ordering::Relaxed) {
            generate::execution(&log.store, &tenant, number).await;
            number += 1;
            // Read-your-writes never goes backwards.
            let mut db = log.database.connect().await;
            let now = event_store::checkpoint(&mut db, projections::CHECKPOINT).await.unwrap();
            assert!(now >= seen, "{now} after {seen}");
            seen = now;
        }
        number
    };
    let (report, (), number) = tokio::join!(rebuilt, reading, writing);
    assert!(number > 0 && report.events > 2_000 && report.quarantined.is_empty() && !report.leftovers);
    let (id, at) = workspace(&mut log, "last").await;
    assert!(running.reads.wait_for(at, SOON).await, "the projector goes on with the new tables");
    assert_eq!(running.reads.workspace(id).await.unwrap().unwrap().name, "last");
    assert_eq!(shape(&mut db).await, before);
    assert_eq!(schemas(&mut db).await, ["read_models"]);
    running.stop().await;
    let live = live_state(&mut db).await.unwrap();
    let folded = rebuild(&mut db, log.store.generation(), live.at, 1_000, |_| {}).await.unwrap();
    assert_eq!(live.checksums, folded.checksums);
    let system = log.system().await;
    assert_eq!(system.quarantined().await.unwrap(), 0);
    assert_eq!(system.rebuild().await.unwrap(), None, "none is running");
}

#[tokio::test]
async fn without_a_projector_the_new_tables_bring_their_checkpoint() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    let mut phases = vec![];
    let report = rebuild_online(&log.database.url, OnlineOptions::default(), |p| phases.push(p.phase)).await.unwrap();
    phases.dedup();
    let all =
        [RebuildPhase::Fold, RebuildPhase::Index, RebuildPhase::CatchUp, RebuildPhase::Swap, RebuildPhase::CleanUp];
    assert_eq!((report.at, phases.as_slice()), (h.end, all.as_slice()));
    let mut db = log.database.connect().await;
    let live = live_state(&mut db).await.unwrap();
    let folded = rebuild(&mut db, log.store.generation(), h.end, 7, |_| {}).await.unwrap();
    assert_eq!((live.at, &live.checksums), (h.end, &folded.checksums));
    // A projector takes it from there.
    let end = history::write(&mut log).await.end;
    log.project_until(end).await;
    let live = live_state(&mut db).await.unwrap();
    let folded = rebuild(&mut db, log.store.generation(), end, 7, |_| {}).await.unwrap();
    assert_eq!(live.checksums, folded.checksums);
}

#[tokio::test]
async fn a_second_one_is_refused_and_an_interrupted_one_is_begun_again() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    log.project_until(h.end).await;
    let mut db = log.database.connect().await;
    let before = live_state(&mut db).await.unwrap();
    let system = log.system().await;
    let phases = [RebuildPhase::Fold, RebuildPhase::Index, RebuildPhase::CatchUp, RebuildPhase::Swap];
    for phase in phases {
        let reached = Notify::new();
        {
            let tell = |p: projections::RebuildProgress| {
                if p.phase == phase {
                    reached.notify_one()
                }
            };
            let mut first = pin!(rebuild_online(&log.database.url, SMALL, tell));
            tokio::select! {
                biased;
                () = reached.notified() => {}
                ended = &mut first => panic!("it ended: {ended:?}"),
            }
            let second = rebuild_online(&log.database.url, SMALL, |_| {}).await;
            assert!(matches!(second, Err(OnlineError::Busy)), "{second:?}");
            let status = system.rebuild().await.unwrap().expect("one is running");
            assert!(status.total > 50, "{status:?}");
            // Its end comes in the middle, as by a signal: its connections are gone.
        }
        let live = live_state(&mut db).await.unwrap();
        assert_eq!((live.at, &live.checksums), (before.at, &before.checksums), "interrupted at {phase:?}");
    }
    // The database may need a moment to see that the last one is gone.
    let report = loop {
        match rebuild_online(&log.database.url, SMALL, |_| {}).await {
            Err(OnlineError::Busy) => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    assert_eq!(report.at, before.at);
    assert_eq!(live_state(&mut db).await.unwrap().checksums, before.checksums);
    assert_eq!(schemas(&mut db).await, ["read_models"]);
    let ends: Vec<String> =
        sqlx::query_scalar("select status from log.rebuilds order by id").fetch_all(&mut db).await.unwrap();
    assert_eq!(ends, ["interrupted", "interrupted", "interrupted", "interrupted", "done"]);
}

#[tokio::test]
async fn old_tables_that_are_still_read_are_told_before_the_fold() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    log.project_until(h.end).await;
    let (mut db, mut reader) = (log.database.connect().await, log.database.connect().await);
    db.execute("create schema read_models_old; create table read_models_old.plans (id uuid)").await.unwrap();
    reader.execute("begin; select from read_models_old.plans").await.unwrap();
    let mut told = vec![];
    let refused = rebuild_online(&log.database.url, SMALL, |p| told.push(p.phase)).await.unwrap_err();
    assert!(matches!(refused, OnlineError::Leftover("read_models_old")) && told.is_empty(), "{refused}, {told:?}");
    reader.execute("commit").await.unwrap();
    rebuild_online(&log.database.url, SMALL, |_| {}).await.unwrap();
    assert_eq!(schemas(&mut db).await, ["read_models"]);
}

#[tokio::test]
async fn what_cannot_be_copied_is_refused_by_name() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    log.project_until(h.end).await;
    let mut db = log.database.connect().await;
    let cases = [
        ("create view public.names as select name from read_models.workspaces", "drop view public.names", "names"),
        ("create view read_models.own as select 1 as one", "drop view read_models.own", "own"),
        (
            "create function read_models.one() returns int language sql as 'select 1'",
            "drop function read_models.one()",
            "one",
        ),
    ];
    for (make, undo, name) in cases {
        db.execute(make).await.unwrap();
        let refused = rebuild_online(&log.database.url, SMALL, |_| {}).await.unwrap_err();
        assert!(matches!(&refused, OnlineError::Strange(what) if what[0].contains(name)), "{refused}");
        db.execute(undo).await.unwrap();
    }
    db.execute("create role some_login login; grant connect on database template1 to some_login").await.ok();
    let stranger = log.database.url.replacen("postgres@", "some_login@", 1);
    let refused = rebuild_online(&stranger, SMALL, |_| {}).await.unwrap_err();
    assert!(matches!(refused, OnlineError::Database(_) | OnlineError::NotOwner), "{refused}");
    rebuild_online(&log.database.url, SMALL, |_| {}).await.unwrap();
}
