//! A log with its relay, and a consumer that tells known events by their id.

use std::{
    collections::HashSet,
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, consumer, stream::Stream};
use event_store::{Append, EventStore, NewEvent, StreamAppend};
use executors::RelayStats;
use futures::StreamExt;
use sqlx::PgConnection;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{nats::Nats, postgres::Database};

/// The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "tests make their own ids")]
pub fn id() -> Uuid {
    Uuid::now_v7()
}

pub struct House {
    pub database: Database,
    pub nats: Nats,
    pub store: EventStore,
    /// Event ids as a consumer sees them for the first time.
    seen: Arc<Mutex<Vec<Uuid>>>,
    reader: JoinHandle<()>,
}

impl House {
    pub async fn new() -> House {
        let database = Database::fresh().await;
        let store =
            EventStore::open(database.pool("apiq_writer").await, event_store::Options::default()).await.unwrap();
        let nats = Nats::start().await;
        let seen = Arc::<Mutex<Vec<Uuid>>>::default();
        let reader = tokio::spawn(read(nats.client().await, seen.clone()));
        House { database, nats, store, seen, reader }
    }

    /// A relay with connections of its own.
    pub async fn relay(&self) -> Relay {
        let (stats, shutdown) = (Arc::<RelayStats>::default(), CancellationToken::new());
        let (client, url) = (self.nats.client().await, self.database.url.clone());
        let running = executors::relay::run(self.store.clone(), client, url, stats.clone(), shutdown.clone());
        Relay { task: tokio::spawn(running), stats, shutdown }
    }

    /// Appends so many events, some at once.
    pub async fn append(&self, events: usize) {
        let appends = (0..events).map(|n| self.append_one(format!("{{\"n\":{n}}}")));
        futures::stream::iter(appends).buffer_unordered(32).collect::<Vec<_>>().await;
    }

    pub async fn append_one(&self, payload: String) {
        let event =
            NewEvent { event_id: id(), event_type: "workflow.created".into(), event_version: "1".into(), payload };
        let stream = StreamAppend {
            aggregate_type: "workflow",
            aggregate_id: id(),
            expected: 0,
            predecessor: None,
            events: vec![event],
        };
        let append =
            Append { workspace_id: Uuid::from_u128(7), streams: vec![stream], metadata: "{}".into(), claim: None };
        self.store.append(append).await.unwrap();
    }

    /// Event ids in the log's order.
    pub async fn table(&self) -> Vec<Uuid> {
        let mut db: PgConnection = self.database.connect().await;
        sqlx::query_scalar("select event_id from log.events order by generation, transaction_id, position")
            .fetch_all(&mut db)
            .await
            .unwrap()
    }

    /// The consumer has seen exactly what the log has, in its order.
    pub async fn assert_seen(&self) {
        let table = self.table().await;
        until("everything is seen", async || {
            let seen = self.seen.lock().unwrap().len();
            (seen >= table.len()).then_some(())
        })
        .await;
        assert_same(&self.seen.lock().unwrap(), &table);
    }

    /// The relay has written how far it came.
    pub async fn checkpointed(&self) {
        let mut db = self.database.connect().await;
        let last = self.table().await.pop();
        loop {
            let at = event_store::checkpoint(&mut db, "relay").await.unwrap();
            let event = event_store::read_event(&mut db, at).await.unwrap();
            if event.map(|event| event.event_id) == last {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// The stream has exactly these events, each once, in this order.
    pub async fn assert_stream(&self, wanted: &[Uuid]) {
        let held = until("the stream has them", async || {
            let held = self.held().await?;
            (held.len() >= wanted.len() && held.last() == wanted.last()).then_some(held)
        })
        .await;
        assert_same(&held, wanted);
    }

    /// What the stream has; `None`: it is not there.
    pub async fn held(&self) -> Option<Vec<Uuid>> {
        let stream = self.stream().await?;
        let waiting = stream.get_info().await.ok()?.state.messages;
        let mut messages = ordered(&stream).await?;
        let mut held = Vec::new();
        while (held.len() as u64) < waiting {
            held.push(event_id(&messages.next().await?.ok()?));
        }
        Some(held)
    }

    pub async fn stream(&self) -> Option<Stream> {
        jetstream::new(self.nats.client().await).get_stream(executors::nats::STREAM).await.ok()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

pub struct Relay {
    pub stats: Arc<RelayStats>,
    task: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Relay {
    pub async fn stop(self) -> Arc<RelayStats> {
        self.shutdown.cancel();
        self.task.await.unwrap();
        self.stats
    }
}

/// Reads the stream from its start, again after each loss, and remembers what it did not know.
async fn read(client: async_nats::Client, seen: Arc<Mutex<Vec<Uuid>>>) {
    let mut known = HashSet::new();
    loop {
        let stream = jetstream::new(client.clone()).get_stream(executors::nats::STREAM).await;
        if let Ok(stream) = stream
            && let Some(mut messages) = ordered(&stream).await
        {
            let mut last = 0;
            loop {
                match tokio::time::timeout(Duration::from_millis(500), messages.next()).await {
                    Ok(Some(Ok(message))) => {
                        last = message.info().unwrap().stream_sequence;
                        let id = event_id(&message);
                        if known.insert(id) {
                            seen.lock().unwrap().push(id);
                        }
                    }
                    Ok(_) => break,
                    // A stream that is another by now, or went back, is read from its start.
                    Err(_) => match stream.get_info().await {
                        Ok(info) if info.state.last_sequence == last => {}
                        _ => break,
                    },
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ordered(stream: &Stream) -> Option<consumer::pull::Ordered> {
    let config = consumer::pull::OrderedConfig::default();
    stream.create_consumer(config).await.ok()?.messages().await.ok()
}

fn event_id(message: &jetstream::Message) -> Uuid {
    let event: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    event["id"].as_str().unwrap().parse().unwrap()
}

pub fn assert_same(found: &[Uuid], wanted: &[Uuid]) {
    let differs = found.iter().zip(wanted).position(|(a, b)| a != b);
    assert!(
        found.len() == wanted.len() && differs.is_none(),
        "{} in place of {}; the first that differs: {differs:?}",
        found.len(),
        wanted.len()
    );
}

pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
