//! The log as the API server uses it: opened with the server's pool and writers, asked for whole commands. The one
//! place of the suite that knows how a command loads, decides and appends.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use domain::{
    actor::{ActorKind, Metadata},
    aggregate::Decider,
    event::EventSet,
    ids::{RequestId, UserId},
    workflow::{Workflow, WorkflowCommand, WorkflowEvent, WorkflowPatch},
};
use event_store::{
    Append, AppendError, DatabaseRole, EventStore, Loaded, NewEvent, Options, StreamAppend, connect_pool,
};
use sqlx::PgPool;
use uuid::Uuid;

use super::fault;

/// Name and description are as long as makes payloads of about 420 bytes.
const NAME: usize = 40;
const CREATED: usize = 244;
const UPDATED: usize = 352;
/// How often a lost race is run again, as the use cases do.
const ATTEMPTS: usize = 8;
const WORKSPACES: u64 = 8;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// An open log and the pool that goes with it.
pub struct Log {
    pub store: EventStore,
    pub pool: PgPool,
}

/// What one command did.
#[derive(Default)]
pub struct Outcome {
    pub conflicts: u64,
}

impl Log {
    /// As `serve` does it.
    pub async fn open(url: &str) -> Result<Log, String> {
        let pool = connect_pool(url, DatabaseRole::Writer, 12).await.map_err(fault)?;
        let store = EventStore::open(pool.clone(), Options::default()).await.map_err(fault)?;
        Ok(Log { store, pool })
    }

    /// Frees the connections: the next peer needs the places.
    pub async fn close(self) {
        drop(self.store);
        self.pool.close().await;
    }
}

/// A new stream's first command; the append itself sees to it that the stream is new.
pub async fn create(store: &EventStore, load_first: bool) -> Result<Outcome, String> {
    let id = new_id();
    let loaded = match load_first {
        true => load(store, id).await?,
        false => Loaded::fresh(id),
    };
    append(store, loaded, creation()).await.map_err(|error| format!("a new stream: {error}"))?;
    Ok(Outcome::default())
}

/// A change of an existing stream as `commands::unit::change` makes it: in its turn, decided on the recalled state, which
/// a lost race shows to be behind; then it is loaded and decided again.
pub async fn rename(store: &EventStore, id: Uuid) -> Result<Outcome, String> {
    let _turn = store.turn::<Workflow>(id).await;
    let (mut conflicts, mut failed) = (0, -1);
    loop {
        let recalled = store.recall::<Workflow>(id).await.map_err(fault)?;
        let loaded = if recalled.sequence > failed { recalled } else { load(store, id).await? };
        failed = loaded.sequence;
        match append(store, loaded, renaming()).await {
            Ok(_) => return Ok(Outcome { conflicts }),
            Err(AppendError::Conflict) if conflicts < ATTEMPTS as u64 => conflicts += 1,
            Err(error) => return Err(format!("a change, after {conflicts} lost races: {error}")),
        }
    }
}

async fn load(store: &EventStore, id: Uuid) -> Result<Loaded<Workflow>, String> {
    store.load::<Workflow>(id).await.map_err(fault)
}

/// Decides and appends; gives the event's id.
pub async fn append(
    store: &EventStore,
    mut loaded: Loaded<Workflow>,
    command: WorkflowCommand,
) -> Result<(Uuid, event_store::Appended), AppendError> {
    let refused = |e: String| AppendError::Refused(e);
    let events = loaded.state.decide(command).map_err(|e| refused(e.to_string()))?;
    let new: Result<Vec<NewEvent>, _> = events.iter().map(|event| NewEvent::of(new_id(), event)).collect();
    let new = new.map_err(|e| refused(e.to_string()))?;
    let event_id = new.first().map(|event| event.event_id).unwrap_or_default();
    let (expected, predecessor) = (loaded.sequence, loaded.last_event());
    for (event, stored) in events.into_iter().zip(&new) {
        loaded.advance(event, stored, workspace());
    }
    let appended = store.append(one_stream(loaded.id, expected, predecessor, new)).await?;
    store.keep(loaded);
    Ok((event_id, appended))
}

/// A command of `events` events on a new stream, ready to be appended.
pub fn large(events: usize) -> Result<Append, String> {
    let mut state = Workflow::default();
    let mut new = Vec::with_capacity(events);
    for number in 0..events {
        let command = if number == 0 { creation() } else { renaming() };
        for event in state.decide(command).map_err(fault)? {
            new.push(NewEvent::of(new_id(), &event).map_err(fault)?);
            cqrs_es::Aggregate::apply(&mut state, event);
        }
    }
    Ok(one_stream(new_id(), 0, None, new))
}

fn one_stream(aggregate_id: Uuid, expected: i64, predecessor: Option<Uuid>, events: Vec<NewEvent>) -> Append {
    let stream = StreamAppend { aggregate_type: "workflow", aggregate_id, expected, predecessor, events };
    Append { workspace_id: workspace(), streams: vec![stream], metadata: metadata(), claim: None }
}

pub fn creation() -> WorkflowCommand {
    let (name, description) = texts(CREATED);
    WorkflowCommand::Create { name, description: Some(description), definition_hash: "0".repeat(64), step_count: 3 }
}

pub fn renaming() -> WorkflowCommand {
    let (name, description) = texts(UPDATED);
    WorkflowCommand::Update(WorkflowPatch {
        name: Some(name),
        description: Some(description),
        ..WorkflowPatch::default()
    })
}

/// Never the same twice: a change to what is there already would be no event.
fn texts(description: usize) -> (String, String) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    (format!("{number:0NAME$}"), format!("{number:0description$}"))
}

/// One of a few: an installation has fewer tenants than streams.
fn workspace() -> Uuid {
    Uuid::from_u128(u128::from(NEXT.load(Ordering::Relaxed) % WORKSPACES) + 1)
}

/// About 290 bytes, as every event of a request has.
pub fn metadata() -> String {
    let metadata = Metadata {
        actor_kind: ActorKind::User,
        actor_id: UserId(Uuid::from_u128(7)).to_string(),
        on_behalf_of: None,
        request_id: Some(RequestId(new_id())),
        session_id: None,
        correlation_id: new_id(),
        causation_id: None,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        idempotency_key: None,
        ip: None,
        user_agent: None,
        occurred_at: now(),
    };
    serde_json::to_string(&metadata).unwrap_or_default()
}

/// Payloads of the two events, for rows that are made by SQL.
pub fn payloads() -> Result<(String, String), String> {
    let (name, description) = texts(CREATED);
    let created = WorkflowEvent::Created {
        name,
        description: Some(description),
        version: 1,
        definition_hash: "0".repeat(64),
        step_count: 3,
    };
    let (name, description) = texts(UPDATED);
    let updated = WorkflowEvent::Updated {
        name: Some(name),
        description: Some(description),
        version: None,
        definition_hash: None,
        step_count: None,
    };
    Ok((created.encode().map_err(fault)?, updated.encode().map_err(fault)?))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark makes its own ids")]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark has its own clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}
