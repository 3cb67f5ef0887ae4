//! Gathered loads: streams that are asked for at the same time are read by one query.
//!
//! Like group append, without a timer: what asks while a query is under way goes with the next one, and an idle store
//! asks at once. Each lane has a connection of its own, because its one statement is planned once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::TryStreamExt;
use sqlx::{Executor, PgConnection, PgPool, Row, postgres::PgRow};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::{append::StreamKey, pool::PLAN_ONCE};

/// No answer for this long: the connection counts as lost.
const SILENT: Duration = Duration::from_secs(15);
/// Streams a query.
const MAX_KEYS: usize = 128;
/// Loads that wait; who comes then is turned away.
const MAX_WAITING: usize = 4_096;
/// From a known state on: its last event (without the payload), to see that the log holds it, and what came after. Of a
/// stream of which nothing is known: the newest snapshot, in the first row, and what came after that; one row at least.
const SQL: &str = "select k.n, s.sequence as snapshot_sequence, s.workspace_id as snapshot_workspace, \
            s.event_id as snapshot_event, s.digest as snapshot_digest, \
            case when e.sequence is null or e.sequence = s.sequence then s.state::text else '' end as snapshot_state, \
            e.workspace_id, e.sequence, e.event_id, e.event_type, e.event_version, \
            case when e.sequence > coalesce(k.known, s.sequence, 0) then e.payload::text end as payload \
       from unnest($1::text[], $2::uuid[], $3::int8[]) with ordinality as k (t, i, known, n) \
       left join lateral ( \
         select * from log.snapshots s \
          where k.known is null and s.aggregate_type = k.t and s.aggregate_id = k.i and s.shape = $4 limit 1 \
       ) s on true \
       left join lateral ( \
         select * from log.events \
          where aggregate_type = k.t and aggregate_id = k.i and sequence >= coalesce(k.known, s.sequence, 1) \
          order by sequence \
       ) e on true";

struct Wanted {
    key: StreamKey,
    known: Option<i64>,
    answer: oneshot::Sender<Result<Vec<PgRow>, Arc<sqlx::Error>>>,
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
                let mut connection = None;
                while let Some(batch) = queue.take().await {
                    // Who went away meanwhile asks for nothing.
                    serve(&pool, &mut connection, batch.into_iter().filter(|w| !w.answer.is_closed()).collect()).await;
                }
            });
        }
        Self { queue }
    }

    /// A stream's rows, in the order of their sequences, as committed at some time after this was called. With `known`,
    /// from that sequence on; else from its newest snapshot on. When too many wait, the error of a pool without a free
    /// connection.
    pub(crate) async fn stream(&self, key: StreamKey, known: Option<i64>) -> Result<Vec<PgRow>, Arc<sqlx::Error>> {
        let (answer, rows) = oneshot::channel();
        {
            let mut state = self.queue.lock();
            if state.wanted.len() >= MAX_WAITING {
                return Err(Arc::new(sqlx::Error::PoolTimedOut));
            }
            state.wanted.push_back(Wanted { key, known, answer });
        }
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

async fn serve(pool: &PgPool, connection: &mut Option<PgConnection>, batch: Vec<Wanted>) {
    if batch.is_empty() {
        return;
    }
    let rested = connection.is_some();
    let mut read = timely(pool, connection, &batch).await;
    if read.is_err() {
        // Whatever it was, the next query begins on a new connection; a connection that was cut while it rested is
        // nobody's fault.
        *connection = None;
        if rested {
            read = timely(pool, connection, &batch).await;
        }
    }
    match read {
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

async fn timely(
    pool: &PgPool,
    connection: &mut Option<PgConnection>,
    batch: &[Wanted],
) -> Result<Vec<Vec<PgRow>>, sqlx::Error> {
    tokio::time::timeout(SILENT, try_read(pool, connection, batch)).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

async fn try_read(
    pool: &PgPool,
    connection: &mut Option<PgConnection>,
    batch: &[Wanted],
) -> Result<Vec<Vec<PgRow>>, sqlx::Error> {
    let db = match connection {
        Some(db) => db,
        None => {
            let mut db = pool.acquire().await?.detach();
            db.execute(PLAN_ONCE).await?;
            connection.insert(db)
        }
    };
    read(db, batch).await
}

async fn read(db: &mut PgConnection, batch: &[Wanted]) -> Result<Vec<Vec<PgRow>>, sqlx::Error> {
    let types: Vec<&str> = batch.iter().map(|w| w.key.0).collect();
    let ids: Vec<Uuid> = batch.iter().map(|w| w.key.1).collect();
    let known: Vec<Option<i64>> = batch.iter().map(|w| w.known).collect();
    let mut streams: Vec<Vec<PgRow>> = batch.iter().map(|_| Vec::new()).collect();
    let query = sqlx::query(SQL).bind(types).bind(ids).bind(known).bind(domain::FOLD_FINGERPRINT);
    let mut rows = query.fetch(db);
    while let Some(row) = rows.try_next().await? {
        let n: i64 = row.try_get("n")?;
        // `with ordinality` counts from 1.
        let slot = usize::try_from(n - 1).ok().and_then(|n| streams.get_mut(n));
        slot.ok_or_else(|| sqlx::Error::Protocol("a row of no stream that was asked for".into()))?.push(row);
    }
    let sequence_of = |row: &PgRow| row.try_get::<Option<i64>, _>("sequence").ok();
    for rows in &mut streams {
        // They come in order, from one outer row; SQL does not promise that.
        if !rows.is_sorted_by_key(sequence_of) {
            rows.sort_by_key(sequence_of);
        }
    }
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn too_many_waiting_loads_are_turned_away() {
        // No lane takes anything.
        let gather = Gather { queue: Arc::default() };
        for n in 0..MAX_WAITING as u128 {
            let wanted = Wanted { key: ("a", Uuid::from_u128(n)), known: None, answer: oneshot::channel().0 };
            gather.queue.lock().wanted.push_back(wanted);
        }
        let Err(refused) = gather.stream(("a", Uuid::nil()), None).await else { panic!("it was taken") };
        assert!(matches!(*refused, sqlx::Error::PoolTimedOut), "{refused}");
        assert_eq!(gather.queue.lock().wanted.len(), MAX_WAITING);
    }
}
