//! What executors ask: due work of all tenants, active webhooks, the lag.

use chrono::{DateTime, TimeDelta};
use domain::{
    connection::{AuthScheme, ConnectionEvent, SpecSource},
    delivery::DeliveryEvent,
    event::LogPosition,
    ids::{ConnectionId, EventId, ExecutionId, WebhookId, WorkflowId, WorkspaceId},
    workflow::WorkflowEvent,
};

use crate::{
    history,
    log::{Log, sealed, time, unique},
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
async fn a_webhook_with_a_long_line_hides_no_other() {
    let mut log = Log::fresh().await;
    let workspace = unique();
    let (mut busy, quiet) = ([WebhookId(unique()), WebhookId(unique())], WebhookId(unique()));
    busy.sort_unstable();
    let mut end = LogPosition::START;
    // The quiet one's is the last of all.
    for webhook in [vec![busy[0]; 20], vec![busy[1]; 20], vec![quiet]].concat() {
        let scheduled = DeliveryEvent::Scheduled {
            webhook_id: webhook,
            source_event_id: EventId(unique()),
            event_type: "workflow.created".into(),
            body: sealed("body"),
        };
        end = log.append(workspace, "delivery", unique(), vec![scheduled]).await;
    }
    log.project_until(end).await;
    let system = log.system().await;
    let late = DateTime::from_timestamp(4_000_000_000, 0).unwrap();
    let due = async |each, limit| {
        let due = system.deliveries_due(late, each, limit).await.unwrap();
        due.iter().map(|due| due.webhook).collect::<Vec<_>>()
    };
    let all = due(5, 100).await;
    let of = |webhook| all.iter().filter(|found| **found == webhook).count();
    assert_eq!((of(busy[0]), of(busy[1]), of(quiet)), (5, 5, 1));
    assert!(due(5, 3).await.contains(&quiet), "webhooks take turns");
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
    let started = ConnectionEvent::IngestionStarted { executor: "gone".into(), number: 1 };
    log.append(workspace, "connection", waiting.0, vec![created.clone()]).await;
    let end = log.append(workspace, "connection", begun.0, vec![created, started]).await;
    let reads = log.project_until(end).await;
    let updated = reads.connection(workspace.into(), begun).await.unwrap().unwrap().updated_at;
    let system = log.system().await;
    let found = async |quiet, stuck| {
        let due = system.connections_to_ingest(quiet, stuck, 10).await.unwrap();
        due.iter().map(|d| (d.id, d.stuck)).collect::<Vec<_>>()
    };
    let later = updated + TimeDelta::seconds(1);
    assert_eq!(found(updated, updated).await, [(waiting, false)]);
    assert_eq!(found(later, updated).await, [(waiting, false), (begun, false)]);
    // What waits is not stuck, however long: whoever begins it now is at work on it.
    assert_eq!(found(later, later).await, [(waiting, false), (begun, true)]);
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

#[tokio::test]
async fn callers_are_all_counted_and_a_few_named() {
    let mut log = Log::fresh().await;
    let workspace = WorkspaceId(unique());
    // The one that the definition calls `GET /a` of.
    let connection: ConnectionId = "conn_01h455vb4pex5vsknk084sn02q".parse().unwrap();
    log.store.put_blob(workspace.0, history::V2.as_bytes()).await.unwrap();
    let (mut workflows, mut executions) = (Vec::new(), Vec::new());
    let mut end = LogPosition::START;
    for n in 0..5 {
        let (workflow, execution) = (WorkflowId(unique()), ExecutionId(unique()));
        let created = WorkflowEvent::Created {
            name: format!("calls {n}"),
            description: None,
            version: 2,
            definition_hash: history::D2.into(),
            step_count: 1,
        };
        log.append(workspace.0, "workflow", workflow.0, vec![created]).await;
        end = log.append(workspace.0, "execution", execution.0, vec![history::started(workflow, n)]).await;
        workflows.push(workflow.0);
        executions.push(execution);
    }
    log.project_until(end).await;
    let system = log.system().await;
    let callers = async |operation: &str, most| {
        system.callers(workspace, connection, &[operation.to_owned(), "GET /none".to_owned()], most).await.unwrap()
    };
    let two = callers("GET /a", 2).await;
    assert_eq!((two.workflow_count, two.execution_count), (5, 5));
    assert_eq!(two.workflows.iter().map(|calling| calling.id).collect::<Vec<_>>(), workflows[..2]);
    assert_eq!(two.executions, executions[..2], "the oldest first");
    let none = callers("GET /a", 0).await;
    assert_eq!((none.workflow_count, none.workflows.len(), none.executions.len()), (5, 0, 0));
    assert_eq!(callers("GET /b", 9).await, projections::Callers::default());
}
