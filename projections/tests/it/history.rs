//! A history in which every event type of the catalogue happens at least once.

use domain::{
    access::AccessEvent,
    actor::Role,
    api_key::ApiKeyEvent,
    connection::{AuthScheme, ConnectionEvent, DocumentVia, Health, SpecChanges, SpecFacts, SpecSource},
    credential::CredentialEvent,
    delivery::DeliveryEvent,
    document_cache::DocumentCacheEvent,
    event::LogPosition,
    execution::{ExecutionEvent, StepError},
    ids::*,
    operation::{Operation, SpecProblem, SpecSummary},
    organization::OrganizationEvent,
    plan::PlanEvent,
    reservation::ReservationEvent,
    session::SessionEvent,
    user::UserEvent,
    webhook::WebhookEvent,
    workflow::{Status, WorkflowEvent},
    workspace::WorkspaceEvent,
};

use crate::log::{Log, sealed, stored, time, unique};

/// Versions of a workflow: one that calls nothing, one that calls an operation; and the hashes of their blobs.
const V1: &str = r#"{"definition":{"steps":[]},"bindings":{}}"#;
pub const V2: &str = r#"{"definition":{"steps":[{"id":"a","connectionId":"conn_01h455vb4pex5vsknk084sn02q"}]},"bindings":{"a":{"method":"GET","path":"/a"}}}"#;
pub const D1: &str = "2cb363515e47fe6cd1affcad3fd188a0ee26a2a35270ebde9ec0f83355e39b89";
pub const D2: &str = "b9698e1ed90776742e0a182b577dd0f10b36842affa2033c2af69bb9f3476248";

/// Names of what the history made.
pub struct History {
    pub workspace: WorkspaceId,
    pub user: UserId,
    pub key: ApiKeyId,
    /// Has two operations; its first document had three.
    pub connection: ConnectionId,
    pub deleted_connection: ConnectionId,
    pub credential: CredentialId,
    pub workflow: WorkflowId,
    /// Completed, after one retry.
    pub execution: ExecutionId,
    /// Runs; a step's lease ends at `time(300)`.
    pub running: ExecutionId,
    /// Waits for a person's word.
    pub unknown: ExecutionId,
    pub failed: ExecutionId,
    pub plan: PlanId,
    pub webhook: WebhookId,
    pub delivery: DeliveryId,
    /// Its next attempt is due at `time(60)`.
    pub pending_delivery: DeliveryId,
    pub end: LogPosition,
}

pub fn operation(method: &str, path: &str, summary: &str, tag: &str) -> Operation {
    let text = format!(
        r#"{{"method":"{method}","path":"{path}","summary":"{summary}","tags":["{tag}"],
             "operationId":"{}{}","parameters":[]}}"#,
        method.to_lowercase(),
        path.replace(['/', '{', '}'], "_")
    );
    serde_json::from_str(&text).unwrap()
}

pub async fn document(log: &Log, workspace: WorkspaceId, operations: Vec<Operation>) -> SpecFacts {
    let endpoint_count = operations.len() as u32;
    let summary = SpecSummary { spec_version: "3.1.0".into(), title: "CRM".into(), operations, ..Default::default() };
    let bytes = serde_json::to_vec(&summary).unwrap();
    let operations_hash = log.store.put_blob(workspace.0, &bytes).await.unwrap();
    SpecFacts {
        spec_hash: operations_hash.clone(),
        operations_hash,
        spec_version: "3.1.0".into(),
        title: "CRM".into(),
        api_version: "1".into(),
        format: "json".into(),
        size: 10,
        files: 1,
        endpoint_count,
        webhook_count: 1,
        servers: vec!["/v1".into()],
        warnings: vec![],
        warning_count: 0,
        security: Default::default(),
    }
}

pub async fn write(log: &mut Log) -> History {
    let workspace = WorkspaceId(unique());
    let user = accounts(log, workspace).await;
    let key = ApiKeyId(unique());
    let created = ApiKeyEvent::Created {
        workspace_id: workspace,
        organization_id: OrganizationId(unique()),
        name: "ci".into(),
        role: Role::Auditor,
        hash: "h".into(),
        prefix: "sk_ab".into(),
        expires_at: Some(time(900)),
    };
    log.append(workspace.0, "api_key", key.0, vec![created, ApiKeyEvent::Revoked {}]).await;
    crate::vault_history::write(log, workspace).await;
    crate::oauth_history::write(log, workspace).await;
    let (connection, deleted_connection, credential) = connections(log, workspace).await;
    let workflow = workflow(log, workspace).await;
    let (execution, running, unknown, failed) = executions(log, workspace, workflow, credential, connection).await;
    let plan = plan(log, workspace, workflow, execution).await;
    let (webhook, delivery, pending_delivery, end) = webhooks(log, workspace).await;
    History {
        workspace,
        user,
        key,
        connection,
        deleted_connection,
        credential,
        workflow,
        execution,
        running,
        unknown,
        failed,
        plan,
        webhook,
        delivery,
        pending_delivery,
        end,
    }
}

async fn accounts(log: &mut Log, workspace: WorkspaceId) -> UserId {
    let (ws, user, organization) = (workspace.0, UserId(unique()), OrganizationId(unique()));
    let (reservation, session, denial) = (unique(), SessionId(unique()), unique());
    let member = OrganizationEvent::MemberAdded { user_id: user, role: Role::Owner };
    let settings = OrganizationEvent::SettingsChanged { settings: Default::default() };
    log.append(
        ws,
        "organization",
        organization.0,
        vec![OrganizationEvent::Created { name: "Acme".into() }, member, settings],
    )
    .await;
    let approved = WorkspaceEvent::HostsApproved { hosts: vec!["https://crm.example".into()] };
    let rejected = WorkspaceEvent::HostsRejected { hosts: vec!["https://crm.example".into()] };
    let made = WorkspaceEvent::Created { organization_id: organization, name: "Acme main".into() };
    log.append(ws, "workspace", ws, vec![made, approved, rejected]).await;
    let registered = UserEvent::Registered {
        email: sealed("mail"),
        name: Some(sealed("name")),
        password: sealed("hash"),
        organization_id: organization,
        workspace_id: workspace,
        role: Role::Owner,
    };
    let failed = UserEvent::LoginFailed { reason: "wrong password".into() };
    log.append(ws, "user", user.0, vec![registered, failed, UserEvent::LoggedIn { session_id: session }]).await;
    let admin = OrganizationEvent::MemberAdded { user_id: user, role: Role::Admin };
    log.append(ws, "organization", organization.0, vec![admin]).await;
    let claimed = ReservationEvent::Claimed { kind: "email".into(), owner: user.0 };
    let released = ReservationEvent::Released { owner: user.0 };
    log.append(ws, "reservation", reservation, vec![claimed, released]).await;
    let started =
        SessionEvent::Started { user_id: user, workspace_id: workspace, token_hash: "t".into(), expires_at: time(1) };
    let refreshed = SessionEvent::Refreshed { token_hash: "u".into(), expires_at: time(2) };
    let revoked = SessionEvent::Revoked { reason: "logout".into() };
    log.append(ws, "session", session.0, vec![started, refreshed, revoked]).await;
    let (permission, role) = ("connection:write".into(), "viewer".into());
    let denied = AccessEvent::Denied { permission, role, method: "POST".into(), path: "/connections".into() };
    log.append(ws, "access", denial, vec![denied]).await;
    let looked = DocumentCacheEvent::Listed { url: None, entries: 1 };
    let purged = DocumentCacheEvent::Purged { url: None, entries: 1, bytes: 100 };
    log.append(ws, "document_cache", unique(), vec![looked]).await;
    log.append(ws, "document_cache", unique(), vec![purged]).await;
    user
}

pub fn connection_created(name: &str, source: SpecSource) -> ConnectionEvent {
    ConnectionEvent::Created {
        name: name.into(),
        description: Some("customers & more: 100%_sure".into()),
        source,
        base_url: None,
        auth: AuthScheme::Bearer,
        credential_id: None,
        risks: vec!["plain HTTP".into()],
    }
}

async fn connections(log: &mut Log, workspace: WorkspaceId) -> (ConnectionId, ConnectionId, CredentialId) {
    let ws = workspace.0;
    let (connection, deleted, credential) = (ConnectionId(unique()), ConnectionId(unique()), CredentialId(unique()));
    let created = CredentialEvent::Created {
        name: "token".into(),
        kind: "bearer".into(),
        connection_id: Some(connection),
        version: 1,
        key_version: 1,
        value_hash: "v".into(),
    };
    let rotated = CredentialEvent::Rotated { version: 2, key_version: 1, value_hash: "w".into() };
    log.append(ws, "credential", credential.0, vec![created.clone(), rotated]).await;
    log.append(
        ws,
        "credential",
        unique(),
        vec![created, CredentialEvent::Deleted { destroy_at: None, bound_to: None }],
    )
    .await;

    let source = SpecSource::Url { url: "http://crm.example/openapi.json".into() };
    let list = || operation("GET", "/customers", "List customers", "customers");
    let first = vec![list(), operation("GET", "/old", "Gone", "x"), operation("POST", "/mail", "Send 50%", "mail")];
    let second = vec![list(), operation("POST", "/mail", "Send 50% of a mail", "mail")];
    let first = document(log, workspace, first).await;
    let second = document(log, workspace, second).await;
    let changes = SpecChanges {
        added: 0,
        removed: 1,
        changed: 1,
        breaking: vec!["GET /old is gone".into()],
        ..Default::default()
    };
    let problem = SpecProblem { pointer: "/paths".into(), message: "is no object".into() };
    let events = vec![
        connection_created("CRM", source.clone()),
        ConnectionEvent::IngestionStarted { executor: "a".into(), number: 1 },
        ConnectionEvent::SpecRefreshed { facts: first.clone(), changes: SpecChanges::default(), via: None },
        ConnectionEvent::CredentialAttached { credential_id: CredentialId(unique()) },
        ConnectionEvent::CredentialDetached { credential_id: credential },
        ConnectionEvent::CredentialAttached { credential_id: credential },
        ConnectionEvent::SpecUnchanged { spec_hash: first.spec_hash.clone(), via: DocumentVia::NotModified },
        ConnectionEvent::RefreshRequested { source, scheduled: false },
        ConnectionEvent::DocumentsFetched { calls: vec![], more: 2 },
        ConnectionEvent::IngestionFailed { errors: vec![problem], unreachable: true },
        ConnectionEvent::SpecRefreshed { facts: second, changes, via: Some(DocumentVia::Fetched) },
        ConnectionEvent::CredentialRead { credential_id: credential, version: 2, purpose: "test".into(), host: None },
        ConnectionEvent::Tested {
            ok: true,
            message: "answers".into(),
            status: Some(200),
            elapsed_ms: 12,
            problem: None,
            call: None,
        },
        ConnectionEvent::HealthChanged {
            from: Health::Healthy,
            to: Health::Degraded,
            reason: "it answers 503".into(),
            changed_at: time(7),
        },
        ConnectionEvent::Updated {
            name: Some("CRM two".into()),
            description: None,
            base_url: None,
            auth: None,
            active: Some(false),
            refresh_interval: Some(24),
        },
    ];
    log.append(ws, "connection", connection.0, events).await;
    let gone = vec![
        connection_created("Gone", SpecSource::None),
        ConnectionEvent::SpecRefreshed { facts: first, changes: SpecChanges::default(), via: None },
        ConnectionEvent::Deleted {},
    ];
    log.append(ws, "connection", deleted.0, gone).await;
    (connection, deleted, credential)
}

async fn workflow(log: &mut Log, workspace: WorkspaceId) -> WorkflowId {
    let (kept, gone) = (WorkflowId(unique()), unique());
    for (bytes, hash) in [(V1, D1), (V2, D2)] {
        assert_eq!(log.store.put_blob(workspace.0, bytes.as_bytes()).await.unwrap(), hash);
    }
    let created = || WorkflowEvent::Created {
        name: "Welcome".into(),
        description: None,
        version: 1,
        definition_hash: D1.into(),
        step_count: 2,
    };
    let updated = WorkflowEvent::Updated {
        name: None,
        description: Some("greets".into()),
        version: Some(2),
        definition_hash: Some(D2.into()),
        step_count: Some(3),
    };
    let paused = WorkflowEvent::StatusChanged { status: Status::Paused };
    log.append(workspace.0, "workflow", kept.0, vec![created(), updated, paused]).await;
    log.append(workspace.0, "workflow", gone, vec![created(), WorkflowEvent::Deleted {}]).await;
    kept
}

pub fn started(workflow: WorkflowId, seconds: i64) -> ExecutionEvent {
    ExecutionEvent::Started {
        workflow_id: workflow,
        workflow_version: 2,
        definition_hash: D2.into(),
        input: stored("input"),
        trigger: "manual".into(),
        correlation_id: uuid::Uuid::nil(),
        traceparent: None,
        started_at: time(seconds),
    }
}

fn step_started(key: &str, attempt: u32, lease: i64) -> ExecutionEvent {
    ExecutionEvent::StepStarted {
        key: key.into(),
        step_id: "fetch".into(),
        attempt,
        input: stored("request"),
        idempotency_key: Some(format!("k{attempt}")),
        repeatable: true,
        executor: "a".into(),
        lease_until: time(lease),
        started_at: time(i64::from(attempt)),
    }
}

fn step_failed(key: &str, retry: bool) -> ExecutionEvent {
    ExecutionEvent::StepFailed {
        key: key.into(),
        step_id: "fetch".into(),
        attempt: 1,
        error: StepError { code: "HTTP_503".into(), message: "not now".into() },
        output: None,
        http_status: Some(503),
        duration_ms: 20,
        call: None,
        retry_at: retry.then(|| time(5)),
        failed_at: time(2),
    }
}

fn step_completed(key: &str, attempt: u32) -> ExecutionEvent {
    ExecutionEvent::StepCompleted {
        key: key.into(),
        step_id: "fetch".into(),
        attempt,
        output: stored("answer"),
        http_status: Some(200),
        duration_ms: 30,
        call: None,
        completed_at: time(6),
    }
}

async fn executions(
    log: &mut Log,
    workspace: WorkspaceId,
    workflow: WorkflowId,
    credential: CredentialId,
    connection: ConnectionId,
) -> (ExecutionId, ExecutionId, ExecutionId, ExecutionId) {
    let ws = workspace.0;
    let read = ExecutionEvent::CredentialRead {
        credential_id: credential,
        version: 2,
        connection_id: Some(connection),
        connector_id: None,
        purpose: "api_call".into(),
        key: "fetch".into(),
        attempt: 1,
        host: Some("crm.example".into()),
    };
    let (each, loop_id) = ("each".to_owned(), "each".to_owned());
    let entered =
        ExecutionEvent::StepEntered { key: each, step_id: loop_id, branch: None, count: Some(1), started_at: time(7) };
    let skipped = ExecutionEvent::StepSkipped { key: "each[0].mail".into(), step_id: "mail".into() };
    let done = ExecutionId(unique());
    let events = vec![
        started(workflow, 1),
        step_started("fetch", 1, 30),
        read,
        step_failed("fetch", true),
        step_started("fetch", 2, 60),
        step_completed("fetch", 2),
        entered,
        skipped,
        step_completed("each", 1),
        ExecutionEvent::Completed { output: stored("output"), completed_at: time(9) },
    ];
    // One append an event: each may land in a batch of its own.
    for event in events {
        log.append(ws, "execution", done.0, vec![event]).await;
    }
    let running = ExecutionId(unique());
    log.append(ws, "execution", running.0, vec![started(workflow, 2), step_started("fetch", 1, 300)]).await;

    let unknown = ExecutionId(unique());
    let lost = |key: &str| ExecutionEvent::StepOutcomeUnknown {
        key: key.into(),
        step_id: "fetch".into(),
        attempt: 1,
        reason: "the connection broke".into(),
        call: None,
    };
    let events = vec![
        started(workflow, 3),
        step_started("a", 1, 300),
        step_started("b", 1, 300),
        lost("a"),
        lost("b"),
        step_completed("a", 1),
    ];
    log.append(ws, "execution", unknown.0, events).await;

    let failed = ExecutionId(unique());
    let error = StepError { code: "HTTP_503".into(), message: "not now".into() };
    let end = ExecutionEvent::Failed { key: Some("fetch".into()), error, failed_at: time(8) };
    let events = vec![started(workflow, 4), step_started("fetch", 1, 30), step_failed("fetch", false), end];
    log.append(ws, "execution", failed.0, events).await;
    let cancelled = ExecutionEvent::Cancelled { cancelled_at: time(8) };
    log.append(ws, "execution", unique(), vec![started(workflow, 5), cancelled]).await;
    (done, running, unknown, failed)
}

async fn plan(log: &mut Log, workspace: WorkspaceId, workflow: WorkflowId, execution: ExecutionId) -> PlanId {
    let plan = PlanId(unique());
    let drafted = PlanEvent::Drafted {
        message: sealed("say"),
        planner: "offline".into(),
        workflow: sealed("flow"),
        plan_hash: "p".into(),
        confidence: 0.7,
        writes: true,
        candidates: vec!["GET /customers".into()],
    };
    let executed = PlanEvent::Executed { plan_hash: "p".into(), workflow_id: workflow, execution_id: execution };
    log.append(workspace.0, "plan", plan.0, vec![drafted, executed]).await;
    plan
}

async fn webhooks(log: &mut Log, workspace: WorkspaceId) -> (WebhookId, DeliveryId, DeliveryId, LogPosition) {
    let ws = workspace.0;
    let (hook, gone) = (WebhookId(unique()), WebhookId(unique()));
    let created = |name: &str| WebhookEvent::Created {
        name: name.into(),
        url: "https://hooks.example/in".into(),
        events: vec!["workflow.*".into()],
        secret: sealed("whsec"),
    };
    let disabled = WebhookEvent::Disabled { reason: "410".into() };
    let updated = WebhookEvent::Updated { name: Some("mine".into()), url: None, events: None, active: Some(true) };
    log.append(ws, "webhook", hook.0, vec![created("hook"), disabled, updated]).await;
    log.append(ws, "webhook", gone.0, vec![created("gone"), WebhookEvent::Deleted {}]).await;

    let scheduled = |webhook_id| DeliveryEvent::Scheduled {
        webhook_id,
        source_event_id: EventId(unique()),
        event_type: "workflow.completed".into(),
        body: sealed("body"),
    };
    let attempt =
        |n, lease| DeliveryEvent::AttemptStarted { attempt: n, executor: "a".into(), lease_until: time(lease) };
    let missed = |retry_at: Option<i64>| DeliveryEvent::AttemptFailed {
        attempt: 1,
        status: Some(500),
        error: "HTTP 500".into(),
        elapsed_ms: 3,
        retry_at: retry_at.map(time),
    };
    let (delivery, pending) = (DeliveryId(unique()), DeliveryId(unique()));
    let succeeded = DeliveryEvent::Succeeded { attempt: 2, status: 204, elapsed_ms: 4 };
    log.append(ws, "delivery", delivery.0, vec![scheduled(hook), attempt(1, 30), missed(Some(5))]).await;
    log.append(ws, "delivery", delivery.0, vec![attempt(2, 40), succeeded]).await;
    log.append(ws, "delivery", pending.0, vec![scheduled(hook), attempt(1, 30), missed(Some(60))]).await;
    let exhausted = DeliveryEvent::Exhausted { reason: "no attempt is left".into() };
    let resent = DeliveryEvent::Resent { resent_at: time(300) };
    let events = vec![scheduled(gone), attempt(1, 30), missed(None), exhausted, resent];
    let end = log.append(ws, "delivery", unique(), events).await;
    (hook, delivery, pending, end)
}
