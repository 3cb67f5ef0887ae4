//! Group append: commands that wait together are committed together.
//!
//! A conflict fails its own command only. A batch that fails as a whole (a row Postgres refuses, a command of which
//! only a part could be inserted) is repeated command by command, so that neighbours never pay. An idle queue costs
//! one statement: no timer, no waiting for company.

use std::{collections::HashSet, sync::Arc};

use domain::event::LogPosition;
use sqlx::{PgPool, Row};
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

use crate::{Append, AppendError, Appended, tail::Tail};

const SQL: &str = include_str!("append.sql");
const QUEUE: usize = 4_096;
const MAX_COMMANDS: usize = 256;
const MAX_EVENTS: usize = 1_024;
const MAX_BYTES: usize = 4 * 1024 * 1024;

struct Waiting {
    append: Append,
    answer: oneshot::Sender<Result<Appended, AppendError>>,
}

pub(crate) struct Writer {
    queue: mpsc::Sender<Waiting>,
}

impl Writer {
    pub(crate) fn start(pool: PgPool, generation: i32, tail: Tail, writers: usize) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let receiver = Arc::new(Mutex::new(Incoming { receiver, held_back: Vec::new() }));
        for _ in 0..writers {
            let batcher = Batcher { pool: pool.clone(), generation, tail: tail.clone(), incoming: receiver.clone() };
            tokio::spawn(batcher.run());
        }
        Self { queue }
    }

    pub(crate) async fn submit(&self, append: Append) -> Result<Appended, AppendError> {
        let (answer, result) = oneshot::channel();
        match self.queue.try_send(Waiting { append, answer }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(AppendError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Err(AppendError::Unavailable("the log is shutting down".into()));
            }
        }
        result.await.unwrap_or_else(|_| Err(AppendError::Unavailable("the log is shutting down".into())))
    }
}

struct Incoming {
    receiver: mpsc::Receiver<Waiting>,
    /// Commands on a stream that the last batch touches already.
    held_back: Vec<Waiting>,
}

impl Incoming {
    /// What waits now, at most one command a stream. `None` at shutdown.
    async fn batch(&mut self) -> Option<Vec<Waiting>> {
        let mut candidates = std::mem::take(&mut self.held_back);
        if candidates.is_empty() {
            candidates.push(self.receiver.recv().await?);
        }
        let mut batch = Vec::new();
        let mut streams: HashSet<(&'static str, Uuid)> = HashSet::new();
        let (mut events, mut bytes) = (0, 0);
        let mut candidates = candidates.into_iter();
        while let Some(waiting) = candidates.next().or_else(|| self.receiver.try_recv().ok()) {
            let keys: Vec<_> = waiting.append.streams.iter().map(|s| (s.aggregate_type, s.aggregate_id)).collect();
            if keys.iter().any(|k| streams.contains(k)) {
                self.held_back.push(waiting);
                if self.held_back.len() >= MAX_COMMANDS {
                    break;
                }
                continue;
            }
            streams.extend(keys);
            let all = waiting.append.streams.iter().flat_map(|s| &s.events);
            for event in all {
                events += 1;
                bytes += event.payload.len() + waiting.append.metadata.len();
            }
            batch.push(waiting);
            if batch.len() >= MAX_COMMANDS || events >= MAX_EVENTS || bytes >= MAX_BYTES {
                break;
            }
        }
        self.held_back.extend(candidates);
        Some(batch)
    }
}

struct Batcher {
    pool: PgPool,
    generation: i32,
    tail: Tail,
    incoming: Arc<Mutex<Incoming>>,
}

impl Batcher {
    async fn run(self) {
        loop {
            let batch = self.incoming.lock().await.batch().await;
            let Some(batch) = batch else { return };
            self.commit(batch).await;
        }
    }

    async fn commit(&self, batch: Vec<Waiting>) {
        let appends: Vec<&Append> = batch.iter().map(|w| &w.append).collect();
        let results = match self.insert(&appends).await {
            Ok(results) => results,
            Err(error) if batch.len() > 1 && is_statement_fault(&error) => {
                let mut results = Vec::with_capacity(batch.len());
                for append in &appends {
                    results.push(self.alone(append).await);
                }
                results
            }
            Err(error) => vec![Err(classify(&error)); batch.len()],
        };
        if results.iter().any(Result::is_ok) {
            self.tail.appended();
        }
        for (waiting, result) in batch.into_iter().zip(results) {
            // A caller that went away needs no answer.
            let _ = waiting.answer.send(result);
        }
    }

    async fn alone(&self, append: &Append) -> Result<Appended, AppendError> {
        match self.insert(&[append]).await {
            Ok(mut results) => results.pop().unwrap_or(Err(AppendError::Conflict)),
            Err(error) => Err(classify(&error)),
        }
    }

    async fn insert(&self, appends: &[&Append]) -> Result<Vec<Result<Appended, AppendError>>, sqlx::Error> {
        let mut rows = Rows::default();
        for (index, append) in appends.iter().enumerate() {
            rows.add(index, append);
        }
        let answered = rows.query(self.generation).fetch_all(&self.pool).await?;
        let mut results: Vec<_> = appends.iter().map(|_| Err(AppendError::Conflict)).collect();
        for row in answered {
            let command: i32 = row.try_get("command")?;
            let slot = &mut results[command as usize];
            // A conflicting command claims nothing, so it is asked for first.
            if row.try_get("conflict")? {
                *slot = Err(AppendError::Conflict);
            } else if row.try_get("key_taken")? {
                *slot = Err(AppendError::KeyTaken);
            } else if let (Some(xid), Some(position)) =
                (row.try_get::<Option<String>, _>("xid")?, row.try_get("position")?)
            {
                let transaction_id = xid.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
                *slot = Ok(Appended { at: LogPosition { generation: self.generation, transaction_id, position } });
            }
        }
        Ok(results)
    }
}

/// The batch as columns.
#[derive(Default)]
struct Rows<'a> {
    command: Vec<i32>,
    aggregate_type: Vec<&'a str>,
    aggregate_id: Vec<Uuid>,
    sequence: Vec<i64>,
    event_type: Vec<&'a str>,
    event_version: Vec<&'a str>,
    payload: Vec<&'a str>,
    metadata: Vec<&'a str>,
    event_id: Vec<Uuid>,
    workspace: Vec<Uuid>,
    claim_command: Vec<i32>,
    claim_workspace: Vec<Uuid>,
    claim_key: Vec<&'a str>,
    claim_hash: Vec<&'a str>,
}

impl<'a> Rows<'a> {
    fn add(&mut self, index: usize, append: &'a Append) {
        let command = index as i32;
        for stream in &append.streams {
            for (offset, event) in (1i64..).zip(&stream.events) {
                self.command.push(command);
                self.aggregate_type.push(stream.aggregate_type);
                self.aggregate_id.push(stream.aggregate_id);
                self.sequence.push(stream.expected + offset);
                self.event_type.push(&event.event_type);
                self.event_version.push(&event.event_version);
                self.payload.push(&event.payload);
                self.metadata.push(&append.metadata);
                self.event_id.push(event.event_id);
                self.workspace.push(append.workspace_id);
            }
        }
        if let Some(claim) = &append.claim {
            self.claim_command.push(command);
            self.claim_workspace.push(append.workspace_id);
            self.claim_key.push(&claim.key);
            self.claim_hash.push(&claim.request_hash);
        }
    }

    fn query(&self, generation: i32) -> sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments> {
        sqlx::query(SQL)
            .bind(&self.command)
            .bind(&self.aggregate_type)
            .bind(&self.aggregate_id)
            .bind(&self.sequence)
            .bind(&self.event_type)
            .bind(&self.event_version)
            .bind(&self.payload)
            .bind(&self.metadata)
            .bind(&self.event_id)
            .bind(&self.workspace)
            .bind(generation)
            .bind(&self.claim_command)
            .bind(&self.claim_workspace)
            .bind(&self.claim_key)
            .bind(&self.claim_hash)
    }
}

/// The statement itself failed (and rolled back), as opposed to the connection.
fn is_statement_fault(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_))
}

fn classify(error: &sqlx::Error) -> AppendError {
    match error {
        // 22012: the part-inserted command of `append.sql`; 40P01: a deadlock's victim.
        sqlx::Error::Database(e) if matches!(e.code().as_deref(), Some("22012" | "40P01" | "40001")) => {
            AppendError::Conflict
        }
        // 57xxx, 53xxx, 08xxx: shutting down, out of resources, connection trouble.
        sqlx::Error::Database(e)
            if e.code().is_some_and(|c| c.starts_with("57") || c.starts_with("53") || c.starts_with("08")) =>
        {
            AppendError::Unavailable(e.to_string())
        }
        sqlx::Error::Database(e) => AppendError::Refused(e.to_string()),
        other => AppendError::Unavailable(other.to_string()),
    }
}
