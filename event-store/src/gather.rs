//! Gathered loads: streams that are asked for at the same time are read by one query.
//!
//! Like group append, without a timer: what asks while a query is under way goes with the next one, and an idle store
//! asks at once. Each lane takes a connection of the pool for its query only.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::TryStreamExt;
use sqlx::{PgPool, Row};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::append::StreamKey;

/// Streams a query.
const MAX_KEYS: usize = 128;
const SQL: &str = "select k.n, e.workspace_id, e.sequence, e.event_type, e.event_version, e.payload \
     from unnest($1::text[], $2::uuid[], $3::int8[]) with ordinality as k (t, i, s, n) \
     cross join lateral (select workspace_id, sequence, event_type, event_version, payload::text as payload \
                           from log.events \
                          where aggregate_type = k.t and aggregate_id = k.i and sequence >= k.s \
                          order by sequence) as e \
     order by k.n, e.sequence";

/// One event of a stream, as far as folding needs it.
#[derive(Debug, Clone)]
pub(crate) struct StreamRow {
    pub workspace_id: Uuid,
    pub sequence: i64,
    pub event_type: String,
    pub event_version: String,
    pub payload: String,
}

struct Wanted {
    key: StreamKey,
    from: i64,
    answer: oneshot::Sender<Result<Vec<StreamRow>, Arc<sqlx::Error>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    wanted: VecDeque<Wanted>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self) -> Option<Vec<Wanted>> {
        loop {
            let ready = self.ready.notified();
            {
                let mut state = self.lock();
                let some = state.wanted.len().min(MAX_KEYS);
                if some > 0 {
                    let batch = state.wanted.drain(..some).collect();
                    if !state.wanted.is_empty() {
                        self.ready.notify_one();
                    }
                    return Some(batch);
                }
                if state.closed {
                    return None;
                }
            }
            ready.await;
        }
    }
}

pub(crate) struct Gather {
    queue: Arc<Queue>,
}

impl Gather {
    pub(crate) fn start(pool: PgPool, lanes: usize) -> Self {
        let queue = Arc::new(Queue::default());
        for _ in 0..lanes.max(1) {
            let (queue, pool) = (queue.clone(), pool.clone());
            tokio::spawn(async move {
                while let Some(batch) = queue.take().await {
                    // Who went away meanwhile asks for nothing.
                    serve(&pool, batch.into_iter().filter(|w| !w.answer.is_closed()).collect()).await;
                }
            });
        }
        Self { queue }
    }

    /// The stream's events from `from` on, as committed at some time after this was called.
    pub(crate) async fn stream(&self, key: StreamKey, from: i64) -> Result<Vec<StreamRow>, Arc<sqlx::Error>> {
        let (answer, rows) = oneshot::channel();
        self.queue.lock().wanted.push_back(Wanted { key, from, answer });
        self.queue.ready.notify_one();
        rows.await.unwrap_or_else(|_| Err(Arc::new(sqlx::Error::PoolClosed)))
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.ready.notify_waiters();
        self.queue.ready.notify_one();
    }
}

async fn serve(pool: &PgPool, batch: Vec<Wanted>) {
    if batch.is_empty() {
        return;
    }
    match read(pool, &batch).await {
        Ok(streams) => {
            for (wanted, rows) in batch.into_iter().zip(streams) {
                let _ = wanted.answer.send(Ok(rows));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for wanted in batch {
                let _ = wanted.answer.send(Err(error.clone()));
            }
        }
    }
}

async fn read(pool: &PgPool, batch: &[Wanted]) -> Result<Vec<Vec<StreamRow>>, sqlx::Error> {
    let types: Vec<&str> = batch.iter().map(|w| w.key.0).collect();
    let ids: Vec<Uuid> = batch.iter().map(|w| w.key.1).collect();
    let from: Vec<i64> = batch.iter().map(|w| w.from).collect();
    let mut streams: Vec<Vec<StreamRow>> = batch.iter().map(|_| Vec::new()).collect();
    let mut rows = sqlx::query(SQL).bind(types).bind(ids).bind(from).fetch(pool);
    while let Some(row) = rows.try_next().await? {
        let n: i64 = row.try_get("n")?;
        // `with ordinality` counts from 1.
        let slot = usize::try_from(n - 1).ok().and_then(|n| streams.get_mut(n));
        let slot = slot.ok_or_else(|| sqlx::Error::Protocol("a row of no stream that was asked for".into()))?;
        slot.push(StreamRow {
            workspace_id: row.try_get("workspace_id")?,
            sequence: row.try_get("sequence")?,
            event_type: row.try_get("event_type")?,
            event_version: row.try_get("event_version")?,
            payload: row.try_get("payload")?,
        });
    }
    Ok(streams)
}
