//! Folding the log again gives the same rows, however it is cut into batches.

use domain::{
    connection::{ConnectionEvent, SpecChanges, SpecSource},
    execution::ExecutionEvent,
};
use event_store::NewEvent;
use projections::{OnlineOptions, live_state, rebuild, rebuild_online, schema_differences};
use sqlx::Executor;

use crate::{
    generate, history,
    log::{Log, time, unique},
};

#[tokio::test]
async fn every_batch_size_gives_the_live_checksums() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    history::write(&mut log).await;
    // The live tables are folded in two runs, the second beginning in the middle of the log.
    log.project_until(h.end).await;
    generate::fill(&log.store, 500, 8).await;
    // Events that views cannot take, in streams that go on.
    let (workspace, connection, execution) = (h.workspace.0, unique(), unique());
    let raw = |event_type: &str, payload: &str| NewEvent {
        event_id: unique(),
        event_type: event_type.into(),
        event_version: "1".into(),
        payload: payload.into(),
    };
    let mut lost = history::document(&log, h.workspace, vec![]).await;
    lost.operations_hash = "0".repeat(64);
    let refreshed = |facts| ConnectionEvent::SpecRefreshed { facts, changes: SpecChanges::default(), via: None };
    let good = history::document(&log, h.workspace, vec![history::operation("GET", "/a", "A", "a")]).await;
    let source = SpecSource::None;
    // A missing document, and at once a good one: whether the first counts must not depend on the batches.
    let events = vec![history::connection_created("lost", source), refreshed(lost), refreshed(good)];
    log.append(workspace, "connection", connection, events).await;
    log.append_raw(workspace, "connection", unique(), vec![raw("connection.created", r#"{"name":7}"#)]).await;
    log.append_raw(workspace, "execution", h.running.0, vec![raw("execution.dreamt", "{}")]).await;
    log.append(workspace, "execution", h.running.0, vec![ExecutionEvent::Cancelled { cancelled_at: time(9) }]).await;
    // One that only the database refuses: the number is beyond a bigint.
    let entered = r#"{"key":"a","stepId":"a","count":18446744073709551615,"startedAt":"2027-01-01T00:00:00Z"}"#;
    log.append(workspace, "execution", execution, vec![history::started(h.workflow, 1)]).await;
    log.append_raw(workspace, "execution", execution, vec![raw("execution.step_entered", entered)]).await;
    let end = history::write(&mut log).await.end;
    log.project_until(end).await;
    let mut db = log.database.connect().await;
    let live = live_state(&mut db).await.unwrap();
    assert_eq!(live.at, end);
    let aside: Vec<(String, String)> =
        sqlx::query_as("select projection, reason from log.quarantine order by transaction_id, position, projection")
            .fetch_all(&mut db)
            .await
            .unwrap();
    let views: Vec<&str> = aside.iter().map(|(view, _)| view.as_str()).collect();
    let expected = ["operations", "operations", "read_models", "read_models", "read_models", "executions"];
    assert_eq!(views, expected, "{aside:#?}");
    for batch in [1, 7, 250, 5_000] {
        let mut heard = 0;
        let report = rebuild(&mut db, log.store.generation(), live.at, batch, |events| heard = events).await.unwrap();
        assert_eq!(report.checksums, live.checksums, "batches of {batch}");
        assert_eq!((report.quarantined, report.events), (6, heard));
    }
    for batch in [7, 5_000] {
        let report = rebuild_online(&log.database.url, OnlineOptions { batch }, |_| {}).await.unwrap();
        assert_eq!((report.at, report.quarantined.len()), (end, 6));
        assert_eq!(live_state(&mut db).await.unwrap().checksums, live.checksums, "online, batches of {batch}");
        let again: Vec<(String, String)> = sqlx::query_as(
            "select projection, reason from log.quarantine order by transaction_id, position, projection",
        )
        .fetch_all(&mut db)
        .await
        .unwrap();
        assert_eq!(again, aside);
    }
    let left: i64 = sqlx::query_scalar("select count(*) from pg_class where relpersistence = 't'")
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert_eq!(left, 0, "the scratch tables are gone");
}

#[tokio::test]
async fn a_batch_that_is_refused_late_is_not_counted_twice() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    let (workspace, execution) = (h.workspace.0, unique());
    let raw = |event_type: &str, payload: String| NewEvent {
        event_id: unique(),
        event_type: event_type.into(),
        event_version: "1".into(),
        payload,
    };
    let entered = |key: &str, count: u64| {
        let payload = format!(r#"{{"key":"{key}","stepId":"a","count":{count},"startedAt":"2027-01-01T00:00:00Z"}}"#);
        raw("execution.step_entered", payload)
    };
    log.append(workspace, "execution", execution, vec![history::started(h.workflow, 1)]).await;
    // More rows than one statement takes, and the one that the database refuses is the last in the order of keys.
    let steps = (0..1_100).map(|n| entered(&format!("a{n:04}"), 1)).collect();
    log.append_raw(workspace, "execution", execution, steps).await;
    let other = vec![history::started(h.workflow, 2)];
    log.append(workspace, "execution", unique(), other).await;
    let end = log.append_raw(workspace, "execution", execution, vec![entered("z", u64::MAX)]).await;
    log.project_until(end).await;
    let mut db = log.database.connect().await;
    let live = live_state(&mut db).await.unwrap();
    for batch in [100, 5_000] {
        let report = rebuild(&mut db, log.store.generation(), live.at, batch, |_| {}).await.unwrap();
        assert_eq!((report.quarantined, &report.checksums), (1, &live.checksums), "batches of {batch}");
        let report = rebuild_online(&log.database.url, OnlineOptions { batch }, |_| {}).await.unwrap();
        assert_eq!((report.at, report.quarantined.len()), (end, 1));
        assert_eq!(live_state(&mut db).await.unwrap().checksums, live.checksums, "online, batches of {batch}");
    }
}

#[tokio::test]
async fn a_changed_row_shows_in_the_checksum() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    log.project_until(h.end).await;
    let mut db = log.database.connect().await;
    let before = live_state(&mut db).await.unwrap().checksums;
    db.execute("update read_models.execution_steps set http_status = 201 where http_status = 200").await.unwrap();
    let after = live_state(&mut db).await.unwrap().checksums;
    let differing: Vec<_> = before.iter().filter(|(table, sum)| after[*table] != **sum).map(|(t, _)| *t).collect();
    assert_eq!(differing, ["execution_steps"]);
}

#[tokio::test]
async fn the_tables_are_what_this_build_writes() {
    let log = Log::fresh().await;
    let mut db = log.database.connect().await;
    assert_eq!(schema_differences(&mut db).await.unwrap(), Vec::<String>::new());
    db.execute("alter table read_models.plans drop column writes").await.unwrap();
    assert_eq!(schema_differences(&mut db).await.unwrap().len(), 1);
}
