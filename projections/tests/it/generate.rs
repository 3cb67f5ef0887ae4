//! A log as a busy service writes it: workspaces, connections, workflows, and executions by the thousand, interleaved.

#![allow(dead_code, reason = "tests and benchmark use a part each")]

use std::{sync::Arc, time::Instant};

use domain::{
    actor::{ActorKind, Metadata, Role},
    connection::{AuthScheme, ConnectionEvent, SpecSource},
    credential::CredentialEvent,
    event::{EventSet, LogPosition},
    execution::ExecutionEvent,
    ids::{ConnectionId, CredentialId, EventId, OrganizationId, UserId, WorkflowId, WorkspaceId},
    organization::OrganizationEvent,
    sealed::{Sealed, Stored},
    user::UserEvent,
    workflow::WorkflowEvent,
    workspace::WorkspaceEvent,
};
use event_store::{Append, EventStore, NewEvent, StreamAppend};
use projections::ReadModels;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::log::{Log, SOON, sealed, time, unique};

/// Events of one generated execution.
pub const EVENTS: usize = 11;
const STEPS: usize = 3;
const WORKFLOWS: usize = 8;

/// What an execution needs to name.
#[derive(Clone, Copy)]
pub struct Tenant {
    pub workspace: WorkspaceId,
    pub connection: ConnectionId,
    pub credential: CredentialId,
    pub workflows: [WorkflowId; WORKFLOWS],
}

fn metadata(kind: ActorKind) -> String {
    let metadata = Metadata {
        actor_kind: kind,
        actor_id: "executor-0190b0c4aa7070008000000000000001".into(),
        on_behalf_of: None,
        request_id: Some(Uuid::from_u128(79).into()),
        session_id: None,
        correlation_id: Uuid::from_u128(77),
        causation_id: Some(EventId(Uuid::from_u128(78))),
        traceparent: None,
        idempotency_key: None,
        ip: Some(sealed("cGxhY2UgaW4gdGhlIG5ldA==")),
        user_agent: None,
        occurred_at: time(0),
    };
    serde_json::to_string(&metadata).unwrap()
}

/// About what a sealed request or answer of 200 bytes takes.
fn value() -> Stored {
    Stored::Inline(big())
}

fn big<T>() -> Sealed<T> {
    Sealed::from_parts(
        "workspace:0190b0c4-aa70-7000-8000-000000000003".into(),
        1,
        "AAECAwQFBgcICQoL".into(),
        "x".repeat(280),
    )
}

fn stream<E: EventSet>(aggregate_type: &'static str, id: Uuid, expected: i64, events: &[E]) -> StreamAppend {
    let events = events.iter().map(|e| NewEvent::of(unique(), e).unwrap()).collect();
    StreamAppend { aggregate_type, aggregate_id: id, expected, predecessor: None, events }
}

async fn append(store: &EventStore, workspace: WorkspaceId, streams: Vec<StreamAppend>) -> LogPosition {
    let append = Append { workspace_id: workspace.0, streams, metadata: metadata(ActorKind::System), claim: None };
    store.append(append).await.unwrap().at
}

pub async fn tenant(store: &EventStore) -> Tenant {
    let tenant = Tenant {
        workspace: WorkspaceId(unique()),
        connection: ConnectionId(unique()),
        credential: CredentialId(unique()),
        workflows: std::array::from_fn(|_| WorkflowId(unique())),
    };
    let (organization, user) = (OrganizationId(unique()), UserId(unique()));
    let registered = UserEvent::Registered {
        email: sealed("mail"),
        name: None,
        password: sealed("hash"),
        organization_id: organization,
        workspace_id: tenant.workspace,
        role: Role::Owner,
    };
    let connection = ConnectionEvent::Created {
        name: "CRM".into(),
        description: None,
        source: SpecSource::None,
        base_url: Some("https://crm.example".into()),
        auth: AuthScheme::Bearer,
        credential_id: Some(tenant.credential),
        risks: vec![],
    };
    let credential = CredentialEvent::Created {
        name: "token".into(),
        kind: "bearer".into(),
        connection_id: Some(tenant.connection),
        version: 1,
        key_version: 1,
        value_hash: "v".into(),
    };
    let made = WorkspaceEvent::Created { organization_id: organization, name: "Acme".into() };
    let mut streams = vec![
        stream("organization", organization.0, 0, &[OrganizationEvent::Created { name: "Acme".into() }]),
        stream("workspace", tenant.workspace.0, 0, &[made]),
        stream("user", user.0, 0, &[registered]),
        stream("connection", tenant.connection.0, 0, &[connection]),
        stream("credential", tenant.credential.0, 0, &[credential]),
    ];
    for workflow in tenant.workflows {
        let created = WorkflowEvent::Created {
            name: "Welcome".into(),
            description: None,
            version: 1,
            definition_hash: "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".into(),
            step_count: STEPS as u32,
        };
        streams.push(stream("workflow", workflow.0, 0, &[created]));
    }
    append(store, tenant.workspace, streams).await;
    tenant
}

/// One execution of three calls, in four appends, as the executor makes them.
pub async fn execution(store: &EventStore, tenant: &Tenant, number: usize) {
    let (id, mut sequence) = (unique(), 0);
    for events in appends(tenant, number) {
        append(store, tenant.workspace, vec![stream("execution", id, sequence, &events)]).await;
        sequence += events.len() as i64;
    }
}

/// The same, each append when the one before is shown; gives how long that took each time, in milliseconds.
pub async fn execution_shown(store: &EventStore, tenant: &Tenant, number: usize, reads: &ReadModels) -> Vec<f64> {
    let (id, mut sequence, mut waits) = (unique(), 0, vec![]);
    for events in appends(tenant, number) {
        let at = append(store, tenant.workspace, vec![stream("execution", id, sequence, &events)]).await;
        let asked = Instant::now();
        assert!(reads.wait_for(at, SOON).await);
        waits.push(asked.elapsed().as_secs_f64() * 1_000.0);
        sequence += events.len() as i64;
    }
    waits
}

fn appends(tenant: &Tenant, number: usize) -> Vec<Vec<ExecutionEvent>> {
    let (mut all, mut events) = (vec![], vec![started(tenant, number)]);
    for step in 0..STEPS {
        events.extend(call(tenant, step));
        all.push(events);
        events = vec![ExecutionEvent::StepCompleted {
            key: format!("step{step}"),
            step_id: format!("step{step}"),
            attempt: 1,
            output: value(),
            http_status: Some(200),
            duration_ms: 30,
            call: None,
            completed_at: time(6),
        }];
    }
    events.push(ExecutionEvent::Completed { output: value(), completed_at: time(9) });
    all.push(events);
    all
}

/// One append of `size` events over as many executions as it takes: they become visible together.
pub async fn burst(store: &EventStore, tenant: &Tenant, number: usize, size: usize) -> LogPosition {
    let (mut streams, mut left) = (vec![], size);
    while left > 0 {
        let mut events = vec![started(tenant, number)];
        for step in 0..STEPS {
            events.extend(call(tenant, step));
        }
        events.truncate(left);
        left -= events.len();
        streams.push(stream("execution", unique(), 0, &events));
    }
    append(store, tenant.workspace, streams).await
}

/// The place of the log's last event.
pub async fn last(log: &Log) -> LogPosition {
    let mut db = log.database.connect().await;
    let (generation, transaction, position): (i32, String, i64) = sqlx::query_as(
        "select generation, transaction_id::text, position from log.events e
          order by e.generation desc, e.transaction_id desc, e.position desc limit 1",
    )
    .fetch_one(&mut db)
    .await
    .unwrap();
    LogPosition { generation, transaction_id: transaction.parse().unwrap(), position }
}

fn started(tenant: &Tenant, number: usize) -> ExecutionEvent {
    ExecutionEvent::Started {
        workflow_id: tenant.workflows[number % WORKFLOWS],
        workflow_version: 1,
        definition_hash: "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".into(),
        input: value(),
        trigger: "manual".into(),
        correlation_id: Uuid::from_u128(77),
        traceparent: None,
        started_at: time(1),
    }
}

fn call(tenant: &Tenant, step: usize) -> [ExecutionEvent; 2] {
    let key = format!("step{step}");
    [
        ExecutionEvent::StepStarted {
            key: key.clone(),
            step_id: key.clone(),
            attempt: 1,
            input: value(),
            idempotency_key: Some(format!("key-{step}")),
            repeatable: true,
            executor: "executor-0190b0c4aa7070008000000000000001".into(),
            lease_until: time(30),
            started_at: time(2),
        },
        ExecutionEvent::CredentialRead {
            credential_id: tenant.credential,
            version: 1,
            connection_id: Some(tenant.connection),
            connector_id: None,
            purpose: "api_call".into(),
            key,
            attempt: 1,
            host: None,
        },
    ]
}

/// Appends at least `events` events, `callers` executions at a time.
pub async fn fill(store: &EventStore, events: usize, callers: usize) {
    let tenants: Vec<Tenant> = {
        let mut made = Vec::new();
        for _ in 0..10 {
            made.push(tenant(store).await);
        }
        made
    };
    let (tenants, executions) = (Arc::new(tenants), events.div_ceil(EVENTS));
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (store, tenants) = (store.clone(), tenants.clone());
        tasks.spawn(async move {
            for number in (caller..executions).step_by(callers) {
                execution(&store, &tenants[number % tenants.len()], number).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
