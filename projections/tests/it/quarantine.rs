//! An event that cannot be applied is set aside with its reason; its neighbours go on.

use domain::{
    connection::{AuthScheme, ConnectionEvent, SpecChanges, SpecSource},
    ids::{ConnectionId, EventId, WorkspaceId},
};
use event_store::NewEvent;
use projections::{ListFilter, OnlineOptions, Page, live_state, quarantine as listed, rebuild, rebuild_online};
use uuid::Uuid;

use crate::{
    history,
    log::{Log, unique},
};

fn created(name: &str) -> ConnectionEvent {
    ConnectionEvent::Created {
        name: name.into(),
        description: None,
        source: SpecSource::None,
        base_url: None,
        auth: AuthScheme::None,
        credential_id: None,
        risks: vec![],
    }
}

async fn quarantine(log: &Log) -> Vec<(String, Uuid, String)> {
    let mut db = log.database.connect().await;
    sqlx::query_as("select projection, event_id, reason from log.quarantine order by projection")
        .fetch_all(&mut db)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_undecodable_event_is_audited_and_nothing_else() {
    let mut log = Log::fresh().await;
    let workspace = WorkspaceId(unique());
    log.append(workspace.0, "connection", unique(), vec![created("before")]).await;
    let event_id = unique();
    let bad = NewEvent {
        event_id,
        event_type: "connection.created".into(),
        event_version: "1".into(),
        payload: r#"{"name":7}"#.into(),
    };
    log.append_raw(workspace.0, "connection", unique(), vec![bad]).await;
    let end = log.append(workspace.0, "connection", unique(), vec![created("after")]).await;
    let reads = log.project_until(end).await;
    let listed = reads.connections(workspace, &ListFilter::default(), &Page::default()).await.unwrap();
    assert_eq!(listed.items.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["after", "before"]);
    let aside = quarantine(&log).await;
    let [(view, id, reason)] = aside.as_slice() else { panic!("{aside:?}") };
    assert_eq!((view.as_str(), *id), ("read_models", event_id));
    assert!(reason.contains("connection.created"), "{reason}");
    assert!(reads.audit_entry(workspace, EventId(event_id)).await.unwrap().is_some());
    assert_eq!(log.system().await.quarantined().await.unwrap(), 1);
}

#[tokio::test]
async fn a_fault_costs_its_own_view_only_and_a_rebuild_agrees() {
    let mut log = Log::fresh().await;
    let workspace = WorkspaceId(unique());
    let connection = ConnectionId(unique());
    let mut facts = history::document(&log, workspace, vec![]).await;
    facts.operations_hash = "0".repeat(64);
    let refreshed = ConnectionEvent::SpecRefreshed { facts, changes: SpecChanges::default(), via: None };
    log.append(workspace.0, "connection", connection.0, vec![created("crm"), refreshed]).await;
    let end = history::write(&mut log).await.end;
    let reads = log.project_until(end).await;
    let aside = quarantine(&log).await;
    assert_eq!(aside.iter().map(|(view, ..)| view.as_str()).collect::<Vec<_>>(), ["operations"]);
    assert!(aside[0].2.contains("there is no blob"), "{}", aside[0].2);
    assert!(reads.connection(workspace, connection).await.unwrap().unwrap().facts.is_some());

    let mut db = log.database.connect().await;
    let live = live_state(&mut db).await.unwrap();
    let report = rebuild(&mut db, log.store.generation(), live.at, 50, |_| {}).await.unwrap();
    assert_eq!((report.quarantined, report.checksums), (1, live.checksums));
}

#[tokio::test]
async fn what_a_newer_build_wrote_waits_for_it_and_a_rebuild_heals() {
    let mut log = Log::fresh().await;
    let workspace = WorkspaceId(unique());
    let (connection, other) = (ConnectionId(unique()), ConnectionId(unique()));
    log.append(workspace.0, "connection", connection.0, vec![created("before")]).await;
    let renamed = |name: &str| {
        let event = NewEvent::of(
            unique(),
            &ConnectionEvent::Updated {
                name: Some(name.into()),
                description: None,
                base_url: None,
                auth: None,
                active: None,
                refresh_interval: None,
            },
        );
        event.unwrap()
    };
    let invented = NewEvent { event_type: "connection.invented".into(), ..renamed("new") };
    let newer = NewEvent { event_version: "9".into(), ..renamed("newer") };
    log.append_raw(workspace.0, "connection", connection.0, vec![invented]).await;
    log.append_raw(workspace.0, "connection", connection.0, vec![renamed("after")]).await;
    log.append(workspace.0, "connection", other.0, vec![created("other")]).await;
    let end = log.append_raw(workspace.0, "connection", other.0, vec![newer]).await;
    let reads = log.project_until(end).await;
    let names = async || {
        let row = |id| reads.connection(workspace, id);
        [row(connection).await.unwrap().unwrap().name, row(other).await.unwrap().unwrap().name]
    };
    assert_eq!(names().await, ["before", "other"], "nothing is folded out of order");
    let mut db = log.database.connect().await;
    let entries = listed(&mut db, 10).await.unwrap();
    let shown: Vec<_> = entries.iter().map(|e| (e.event_type.as_str(), e.view.as_str(), e.readable)).collect();
    let expected = [
        ("connection.invented", "read_models", false),
        ("connection.updated", "read_models", true),
        ("connection.updated", "read_models", false),
    ];
    assert_eq!(shown, expected);
    for n in [0, 2] {
        assert!(entries[n].reason.contains("a newer one wrote it"), "{}", entries[n].reason);
    }
    assert!(entries[1].reason.contains("follows quarantined event"), "{}", entries[1].reason);

    // The newer build: for it the events are of the catalogue.
    sqlx::raw_sql(
        "update log.events set event_type = 'connection.updated', event_version = '1'
          where event_type = 'connection.invented' or event_version = '9'",
    )
    .execute(&mut db)
    .await
    .unwrap();
    assert!(listed(&mut db, 10).await.unwrap().iter().all(|e| e.readable));
    // Only in their order: restarted, the projector folds nothing later in place.
    let end = log.append_raw(workspace.0, "connection", connection.0, vec![renamed("last")]).await;
    log.project_until(end).await;
    assert_eq!(names().await, ["before", "other"]);
    let report = rebuild_online(&log.database.url, OnlineOptions::default(), |_| {}).await.unwrap();
    assert_eq!(report.quarantined, []);
    assert_eq!(names().await, ["last", "newer"]);
    assert_eq!(listed(&mut db, 10).await.unwrap(), []);
    // The streams are free again.
    let end = log.append_raw(workspace.0, "connection", connection.0, vec![renamed("free")]).await;
    log.project_until(end).await;
    assert_eq!(names().await, ["free", "newer"]);
}
