//! A history through the store, the projector and the queries: every view tells what happened.

use domain::{
    actor::Role,
    connection::{ConnectionEvent, Health, IngestionStatus, SpecSource},
    connector::ConnectorEvent,
    delivery::DeliveryStatus,
    execution::{ExecutionStatus, StepStatus},
    ids::{ConnectionId, ConnectorId, CredentialId, EventId, WorkspaceId},
    workflow::Status,
};
use projections::{
    ApiKeyStatus, AttemptStatus, AuditFilter, ConnectionStatus, ListFilter, Page, WebhookStatus, endpoint_id,
};

use crate::{
    history,
    log::{Log, sealed, stored, time, unique},
};

#[tokio::test]
async fn the_history_holds_every_event_type() {
    let mut log = Log::fresh().await;
    history::write(&mut log).await;
    let mut db = log.database.connect().await;
    let seen: Vec<String> =
        sqlx::query_scalar("select distinct event_type from log.events").fetch_all(&mut db).await.unwrap();
    for (_, event_type, _) in domain::catalogue::all() {
        assert!(seen.iter().any(|s| s == event_type), "{event_type} does not happen in the test history");
    }
}

#[tokio::test]
async fn accounts_keys_and_plans() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    let reads = log.project_until(h.end).await;
    let user = reads.user(h.workspace, h.user).await.unwrap().unwrap();
    assert_eq!((user.role, user.email, user.name), (Role::Admin, sealed("mail"), Some(sealed("name"))));
    assert!(user.last_login_at.is_some());
    assert_eq!(reads.users(h.workspace, &ListFilter::default(), &Page::default()).await.unwrap().total, 1);
    let workspace = reads.workspace(h.workspace).await.unwrap().unwrap();
    assert_eq!((workspace.name.as_str(), workspace.organization_id), ("Acme main", user.organization_id));
    let key = reads.api_key(h.workspace, h.key).await.unwrap().unwrap();
    assert_eq!((key.status, key.role, key.version), (ApiKeyStatus::Revoked, Role::Auditor, 2));
    assert_eq!(key.created_by, "user_of_tests");
    let plan = reads.plan(h.workspace, h.plan).await.unwrap().unwrap();
    assert_eq!((plan.confidence, plan.execution_id, plan.writes), (0.7, Some(h.execution), true));
}

#[tokio::test]
async fn what_ends_in_the_middle_counts_in_the_version() {
    let mut log = Log::fresh().await;
    let (workspace, credential_id) = (WorkspaceId(unique()), CredentialId(unique()));
    let created = ConnectorEvent::Created {
        connector_type: "slack".into(),
        name: "chat".into(),
        credential_id: Some(credential_id),
        config: serde_json::json!({}),
    };
    let read = ConnectorEvent::CredentialRead { credential_id, version: 1, purpose: "connector_test".into() };
    let connector = ConnectorId(unique());
    log.append(workspace.0, "connector", connector.0, vec![created, read]).await;
    let connection = ConnectionId(unique());
    let events = vec![
        history::connection_created("CRM", SpecSource::None),
        ConnectionEvent::DocumentsFetched { calls: vec![], more: 0 },
        ConnectionEvent::CredentialRead { credential_id, version: 1, purpose: "test".into(), host: None },
    ];
    let end = log.append(workspace.0, "connection", connection.0, events).await;
    let reads = log.project_until(end).await;
    assert_eq!(reads.connector(workspace, connector).await.unwrap().unwrap().version, 2);
    let row = reads.connection(workspace, connection).await.unwrap().unwrap();
    assert_eq!((row.version, row.updated_at), (3, row.created_at), "nobody changed it");
}

#[tokio::test]
async fn connections_operations_and_credentials() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    let reads = log.project_until(h.end).await;
    let row = reads.connection(h.workspace, h.connection).await.unwrap().unwrap();
    assert_eq!((row.name.as_str(), row.status), ("CRM two", ConnectionStatus::Inactive));
    assert_eq!((row.ingestion_status, row.endpoint_count, row.version), (IngestionStatus::Succeeded, 2, 15));
    assert_eq!(row.effective_base_url.as_deref(), Some("http://crm.example/v1"));
    assert_eq!((row.credential_id, row.errors.len()), (Some(h.credential), 0));
    assert_eq!(row.changes.unwrap().breaking, ["GET /old is gone"]);
    assert_eq!((row.health, row.health_reason.as_deref()), (Health::Degraded, Some("it answers 503")));
    // Postgres keeps microseconds.
    let changed_at = row.health_changed_at.map(|at| at.timestamp());
    assert_eq!((changed_at, &row.rate_limit), (Some(time(7).timestamp()), &None));
    assert_eq!(row.last_test.unwrap().status, Some(200));
    assert_eq!(reads.connection(h.workspace, h.deleted_connection).await.unwrap(), None);

    let all = reads.operations(h.workspace, &ListFilter::default(), &Page::default()).await.unwrap();
    let paths: Vec<_> = all.items.iter().map(|o| o.path.as_str()).collect();
    assert_eq!(paths, ["/customers", "/mail"], "the deleted connection's and the old document's are gone");
    let id = endpoint_id(h.connection, "POST", "/mail");
    let one = reads.operation(h.workspace, id).await.unwrap().unwrap();
    assert_eq!(one.detail.summary.as_deref(), Some("Send 50% of a mail"));

    let credential = reads.credential(h.workspace, h.credential).await.unwrap().unwrap();
    assert_eq!((credential.current_version, credential.read_count, credential.version), (2, 2, 2));
    let used = reads.credential_reads(h.workspace, h.credential).await.unwrap();
    let by: Vec<_> = used.iter().map(|r| (r.reader_type.as_str(), r.step_key.as_deref(), r.attempt)).collect();
    assert_eq!(by, [("execution", Some("fetch"), Some(1)), ("connection", None, None)]);
    assert_eq!(reads.credentials(h.workspace, &ListFilter::default(), &Page::default()).await.unwrap().total, 1);
}

#[tokio::test]
async fn workflows_and_executions() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    let reads = log.project_until(h.end).await;
    let workflow = reads.workflow(h.workspace, h.workflow).await.unwrap().unwrap();
    assert_eq!((workflow.status, workflow.current_version, workflow.step_count), (Status::Paused, 2, 3));
    assert_eq!((workflow.execution_count, workflow.version), (5, 3));
    let versions = reads.workflow_versions(h.workspace, h.workflow).await.unwrap();
    assert_eq!(versions.iter().map(|v| v.version).collect::<Vec<_>>(), [2, 1]);
    let pinned = reads.workflow_version(h.workspace, h.workflow, 1).await.unwrap().unwrap();
    assert_eq!((pinned.definition_hash.as_str(), pinned.step_count), (history::D1, 2));

    let row = reads.execution(h.workspace, h.execution).await.unwrap().unwrap();
    assert_eq!((row.status, row.step_count, row.completed_step_count), (ExecutionStatus::Completed, 3, 2));
    assert_eq!((row.output, row.wake_at, row.version), (Some(stored("output")), None, 10));
    let steps = reads.steps(h.workspace, h.execution).await.unwrap();
    let keys: Vec<_> = steps.iter().map(|s| (s.key.as_str(), s.status, s.ordinal)).collect();
    assert_eq!(
        keys,
        [
            ("fetch", StepStatus::Completed, 2),
            ("each", StepStatus::Completed, 7),
            ("each[0].mail", StepStatus::Skipped, 8)
        ]
    );
    let [first, second] = steps[0].attempts.as_slice() else { panic!("{:?}", steps[0].attempts) };
    assert_eq!((first.status, first.http_status, first.retry_at), (AttemptStatus::Failed, Some(503), Some(time(5))));
    assert_eq!((second.status, second.idempotency_key.as_deref()), (AttemptStatus::Completed, Some("k2")));
    assert_eq!((steps[0].attempt, steps[0].output.clone(), &steps[0].error), (2, Some(stored("answer")), &None));
    assert_eq!(steps[1].item_count, Some(1));

    let unknown = reads.execution(h.workspace, h.unknown).await.unwrap().unwrap();
    assert_eq!((unknown.status, unknown.unknown_step_count), (ExecutionStatus::OutcomeUnknown, 1));
    assert_eq!((unknown.wake_at, unknown.completed_step_count), (None, 1));
    let failed = reads.execution(h.workspace, h.failed).await.unwrap().unwrap();
    assert_eq!((failed.status, failed.failed_step.as_deref()), (ExecutionStatus::Failed, Some("fetch")));
    let steps = reads.steps(h.workspace, h.failed).await.unwrap();
    assert_eq!(steps[0].error.as_ref().unwrap().code, "HTTP_503");
}

#[tokio::test]
async fn webhooks_and_deliveries() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    let reads = log.project_until(h.end).await;
    let hooks = reads.webhooks(h.workspace, &ListFilter::default(), &Page::default()).await.unwrap();
    let [hook] = hooks.items.as_slice() else { panic!("{hooks:?}") };
    assert_eq!((hook.id, hook.name.as_str(), hook.status), (h.webhook, "mine", WebhookStatus::Active));
    assert_eq!((hook.success_count, hook.failure_count, hook.version), (1, 2, 3));
    let delivery = reads.delivery(h.workspace, h.delivery).await.unwrap().unwrap();
    assert_eq!((delivery.status, delivery.attempts.len()), (DeliveryStatus::Succeeded, 2));
    assert_eq!(delivery.attempts[0].http_status, Some(500));
    let pending = ListFilter::default().with("status", Some("pending"));
    let listed = reads.deliveries_of(h.workspace, h.webhook, &pending, &Page::default()).await.unwrap();
    assert_eq!(listed.items.iter().map(|d| d.id).collect::<Vec<_>>(), [h.pending_delivery]);
}

#[tokio::test]
async fn the_audit_log_tells_all_but_reservations() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    let reads = log.project_until(h.end).await;
    let mut db = log.database.connect().await;
    let expected: i64 = sqlx::query_scalar("select count(*) from log.events where aggregate_type <> 'reservation'")
        .fetch_one(&mut db)
        .await
        .unwrap();

    // Through all pages, forwards and back again.
    let mut page = Page { limit: 7, ..Page::default() };
    let mut seen = Vec::new();
    let last = loop {
        let listed = reads.audit(h.workspace, &AuditFilter::default(), &page).await.unwrap();
        assert_eq!(listed.total, expected);
        seen.extend(listed.items.iter().map(|e| e.at));
        match &listed.next_cursor {
            Some(cursor) => page.cursor = Some(cursor.clone()),
            None => break listed,
        }
    };
    assert_eq!(seen.len() as i64, expected);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first, none twice");
    page.cursor = last.prev_cursor;
    let before = reads.audit(h.workspace, &AuditFilter::default(), &page).await.unwrap();
    let at = seen.len() - last.items.len();
    assert_eq!(before.items.iter().map(|e| e.at).collect::<Vec<_>>(), seen[at - 7..at]);

    let resource = Some(format!("connection:{}", h.connection));
    let filter = AuditFilter { resource, action: Some("connection.*".into()), ..AuditFilter::default() };
    let of_connection = reads.audit(h.workspace, &filter, &Page::default()).await.unwrap();
    assert_eq!((of_connection.total, of_connection.items[0].event_type.as_str()), (14, "connection.updated"));
    let stream = reads.audit_stream(h.workspace, h.connection.0).await.unwrap();
    assert_eq!(stream.iter().map(|e| e.sequence).collect::<Vec<_>>(), (1..=15).collect::<Vec<_>>());
    let entry = reads.audit_entry(h.workspace, EventId(stream[0].event_id)).await.unwrap().unwrap();
    assert_eq!(entry, stream[0]);
    assert_eq!(entry.decode_metadata().unwrap().ip, Some(sealed("ip")));
    let nobody = AuditFilter { user_id: Some("user_other".into()), ..AuditFilter::default() };
    assert_eq!(reads.audit(h.workspace, &nobody, &Page::default()).await.unwrap().total, 0);
    let correlated = AuditFilter { correlation_id: Some(uuid::Uuid::from_u128(77)), ..AuditFilter::default() };
    assert_eq!(reads.audit(h.workspace, &correlated, &Page::default()).await.unwrap().total, expected);
}
