//! What executors ask: due work of all tenants, active webhooks, the lag.

use chrono::TimeDelta;
use domain::{
    connection::{AuthScheme, ConnectionEvent, SpecSource},
    event::LogPosition,
    ids::ConnectionId,
};

use crate::{
    history,
    log::{Log, time, unique},
};

#[tokio::test]
async fn due_work_is_found_when_it_is_due() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    log.project_until(h.end).await;
    let system = log.system().await;
    let due = async |at| system.executions_due(at, 10).await.unwrap().iter().map(|d| d.id).collect::<Vec<_>>();
    assert_eq!(due(time(299)).await, []);
    assert_eq!(due(time(301)).await, [h.running]);
    let deliveries = async |at| system.deliveries_due(at, 5, 10).await.unwrap();
    assert_eq!(deliveries(time(59)).await, []);
    let [one] = deliveries(time(61)).await[..] else { panic!("one delivery is due") };
    assert_eq!((one.id, one.webhook, one.workspace), (h.pending_delivery, h.webhook, h.workspace));
}

#[tokio::test]
async fn pending_and_stuck_ingestions_are_found() {
    let mut log = Log::fresh().await;
    let (workspace, waiting, begun) = (unique(), ConnectionId(unique()), ConnectionId(unique()));
    let created = ConnectionEvent::Created {
        name: "crm".into(),
        description: None,
        source: SpecSource::Url { url: "https://crm.example/openapi.json".into() },
        base_url: None,
        auth: AuthScheme::None,
        credential_id: None,
        risks: vec![],
    };
    let started = ConnectionEvent::IngestionStarted { executor: "gone".into() };
    log.append(workspace, "connection", waiting.0, vec![created.clone()]).await;
    let end = log.append(workspace, "connection", begun.0, vec![created, started]).await;
    let reads = log.project_until(end).await;
    let updated = reads.connection(workspace.into(), begun).await.unwrap().unwrap().updated_at;
    let system = log.system().await;
    let found =
        async |stale| system.connections_to_ingest(stale, 10).await.unwrap().iter().map(|d| d.id).collect::<Vec<_>>();
    assert_eq!(found(updated).await, [waiting]);
    assert_eq!(found(updated + TimeDelta::seconds(1)).await, [waiting, begun]);
}

#[tokio::test]
async fn the_lag_counts_what_is_not_shown_yet() {
    let mut log = Log::fresh().await;
    let end = history::write(&mut log).await.end;
    let system = log.system().await;
    let lag = system.lag().await.unwrap();
    assert_eq!(lag.checkpoint, LogPosition::START);
    assert!(lag.events > 50 && lag.age_ms >= 0);
    log.project_until(end).await;
    let lag = system.lag().await.unwrap();
    assert_eq!((lag.checkpoint, lag.events, lag.age_ms), (end, 0, 0));
}
