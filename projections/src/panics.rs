//! A projection that panics, for tests only: a name such as `panic in connections` makes that view panic right after it
//! has folded the event, when its rows are half done.

use std::collections::BTreeMap;

use domain::{
    connection::{AuthScheme, ConnectionEvent, SpecSource},
    ids::{ConnectionId, WorkspaceId},
};
use projections::{ListFilter, Page, live_state, rebuild, rebuild_online};
use uuid::Uuid;

use crate::{
    log::{Log, unique},
    view::Item,
};

pub(crate) fn maybe(view: &str, item: &Item) {
    let marked = item.recorded.payload.contains(&format!("panic in {view}"));
    assert!(!marked, "this view does not like the name");
}

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

fn renamed(name: &str) -> ConnectionEvent {
    ConnectionEvent::Updated {
        name: Some(name.into()),
        description: None,
        base_url: None,
        auth: None,
        active: None,
        refresh_interval: None,
    }
}

async fn quarantine(log: &Log) -> Vec<(String, Uuid, String)> {
    let mut db = log.database.connect().await;
    sqlx::query_as("select projection, event_id, reason from log.quarantine order by position, projection")
        .fetch_all(&mut db)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_panic_sets_its_event_aside_and_what_follows_in_the_stream() {
    let mut log = Log::fresh().await;
    let workspace = WorkspaceId(unique());
    let (good, bad, other) = (ConnectionId(unique()), ConnectionId(unique()), ConnectionId(unique()));
    log.append(workspace.0, "connection", good.0, vec![created("good")]).await;
    log.append(workspace.0, "connection", bad.0, vec![created("before")]).await;
    let events = vec![renamed("panic in connections"), renamed("after")];
    log.append(workspace.0, "connection", bad.0, events).await;
    log.append(workspace.0, "connection", other.0, vec![created("panic in audit")]).await;
    let end = log.append(workspace.0, "connection", good.0, vec![renamed("better")]).await;
    log.project_until(end).await;
    // A projector that starts later knows what it must not go on with.
    let end = log.append(workspace.0, "connection", bad.0, vec![renamed("later")]).await;
    let reads = log.project_until(end).await;

    let listed = reads.connections(workspace, &ListFilter::default(), &Page::default()).await.unwrap();
    let names: BTreeMap<ConnectionId, String> = listed.items.into_iter().map(|c| (c.id, c.name)).collect();
    // The panicking view keeps what it knew before, nothing of it is half done, and nothing comes out of order.
    let expected = [(good, "better"), (bad, "before"), (other, "panic in audit")];
    assert_eq!(names, expected.into_iter().map(|(id, name)| (id, name.to_owned())).collect());
    let aside = quarantine(&log).await;
    let views: Vec<&str> = aside.iter().map(|(view, ..)| view.as_str()).collect();
    assert_eq!(views, ["connections", "connections", "audit", "connections"], "{aside:?}");
    assert!(aside[0].2.contains("panicked: this view does not like the name"), "{}", aside[0].2);
    for n in [1, 3] {
        assert!(aside[n].2.contains(&format!("follows quarantined event {}", aside[0].1)), "{}", aside[n].2);
    }

    let mut db = log.database.connect().await;
    let live = live_state(&mut db).await.unwrap();
    for batch in [1, 2, 3, 5_000] {
        let report = rebuild(&mut db, log.store.generation(), live.at, batch, |_| {}).await.unwrap();
        assert_eq!((report.quarantined, &report.checksums), (4, &live.checksums), "batches of {batch}");
    }
    let report = rebuild_online(&log.database.url, Default::default(), |_| {}).await.unwrap();
    assert_eq!(report.quarantined.len(), 4);
    assert_eq!(live_state(&mut db).await.unwrap().checksums, live.checksums);
    assert_eq!(quarantine(&log).await, aside);
}
