//! A test's own log: appends events through the real store, runs projectors over it, asks the read models.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::{
    actor::{ActorKind, Metadata},
    event::{EventSet, LogPosition},
    sealed::{Sealed, Stored},
};
use event_store::{Append, DatabaseRole, EventStore, NewEvent, Options, StreamAppend, connect_pool};
use projections::{Projector, ReadModels, SystemReads};
use tokio::{sync::oneshot, task::JoinHandle};
use uuid::Uuid;

use crate::postgres::Database;

pub const SOON: Duration = Duration::from_secs(10);
static NEXT: AtomicU32 = AtomicU32::new(1);

/// An id that no other call gave.
pub fn unique() -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Nanoseconds on purpose: Postgres keeps microseconds, and a rebuild must not show the difference.
pub fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 123_456_789).unwrap()
}

pub fn sealed<T>(text: &str) -> Sealed<T> {
    Sealed::from_parts("workspace:x".into(), 1, "bm9uY2U=".into(), text.into())
}

pub fn stored(text: &str) -> Stored {
    Stored::Inline(sealed(text))
}

pub struct Log {
    pub database: Database,
    pub store: EventStore,
    sequences: HashMap<(&'static str, Uuid), i64>,
}

/// A projector at work.
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    pub reads: ReadModels,
}

impl Running {
    pub async fn stop(mut self) {
        self.stop.take().map(|s| s.send(()));
        self.task.await.unwrap();
    }
}

impl Log {
    pub async fn fresh() -> Log {
        let database = Database::fresh().await;
        let pool = connect_pool(&database.url, DatabaseRole::Writer, 4).await.unwrap();
        let store = EventStore::open(pool, Options::default()).await.unwrap();
        Log { database, store, sequences: HashMap::new() }
    }

    /// Appends typed events to the end of one stream.
    pub async fn append<E: EventSet>(
        &mut self,
        workspace: Uuid,
        aggregate: &'static str,
        id: Uuid,
        events: Vec<E>,
    ) -> LogPosition {
        let events = events.iter().map(|e| NewEvent::of(unique(), e).unwrap()).collect();
        self.append_raw(workspace, aggregate, id, events).await
    }

    pub async fn append_raw(
        &mut self,
        workspace: Uuid,
        aggregate: &'static str,
        id: Uuid,
        events: Vec<NewEvent>,
    ) -> LogPosition {
        let last = self.sequences.entry((aggregate, id)).or_default();
        let expected = *last;
        *last += events.len() as i64;
        let metadata = Metadata {
            actor_kind: ActorKind::User,
            actor_id: "user_of_tests".into(),
            on_behalf_of: None,
            request_id: None,
            session_id: None,
            correlation_id: Uuid::from_u128(77),
            causation_id: None,
            traceparent: None,
            idempotency_key: None,
            ip: Some(sealed("ip")),
            user_agent: None,
            occurred_at: time(0),
        };
        let append = Append {
            workspace_id: workspace,
            streams: vec![StreamAppend {
                aggregate_type: aggregate,
                aggregate_id: id,
                expected,
                predecessor: None,
                events,
            }],
            metadata: serde_json::to_string(&metadata).unwrap(),
            claim: None,
        };
        self.store.append(append).await.unwrap().at
    }

    pub async fn projector(&self) -> Projector {
        let pool = connect_pool(&self.database.url, DatabaseRole::Projector, 3).await.unwrap();
        Projector::new(pool, self.store.generation(), self.store.tail())
    }

    /// Starts a projector, with queries that hear of its progress.
    pub async fn project(&self) -> Running {
        let projector = self.projector().await;
        let reads = ReadModels::new(self.api_pool().await, projector.progress());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(projector.run(async {
            stopped.await.ok();
        }));
        Running { stop: Some(stop), task, reads }
    }

    pub async fn api_pool(&self) -> sqlx::PgPool {
        connect_pool(&self.database.url, DatabaseRole::Api, 4).await.unwrap()
    }

    pub async fn system(&self) -> SystemReads {
        SystemReads::new(connect_pool(&self.database.url, DatabaseRole::Projector, 2).await.unwrap())
    }

    /// Runs a projector until it has shown `at`, then stops it.
    pub async fn project_until(&self, at: LogPosition) -> ReadModels {
        let running = self.project().await;
        assert!(running.reads.wait_for(at, SOON).await, "the projector does not come to {at}");
        let reads = running.reads.clone();
        running.stop().await;
        reads
    }
}
