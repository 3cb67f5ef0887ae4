//! A lane: one connection that commits one batch after another, and survives whatever happens to the database.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use sqlx::{Connection, Executor, PgConnection};
use tokio::time::Instant;

use super::{
    Outcome, Shared,
    copy::{Positions, copy},
    heads::{Entered, Head},
    queue::{Queue, Waiting},
    settle, statement,
};
use crate::{Append, AppendError, StreamAppend, append::StreamKey, pool};

/// From this many events on, COPY is cheaper than a statement.
const COPY_FROM: usize = 12;
/// After a COPY failed: so many batches go by statement, because what made it fail may well come again.
const AFTER_FALLBACK: u32 = 16;
/// A database that is away longer than this is told to the callers.
const PATIENCE: Duration = Duration::from_secs(8);
/// No answer to a batch for this long, waiting for locks included: the connection counts as lost.
const SILENT: Duration = Duration::from_secs(20);
const RECONNECT: Duration = Duration::from_millis(50);

/// A lane's connection and what it is known by.
pub(super) struct Line {
    pub db: PgConnection,
    pub backend: settle::Backend,
    timeline: i64,
}

pub(super) struct Lane {
    shared: Arc<Shared>,
    line: Option<Line>,
    positions: Positions,
    by_statement: u32,
}

/// The streams of a batch; free again however it ends.
struct Taken {
    queue: Arc<Queue>,
    keys: Vec<StreamKey>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.queue.done(&self.keys);
    }
}

/// How a try at a batch ended, when it did not end well.
enum Trouble {
    /// Postgres refused something in the batch; nothing of it is written.
    Refused(sqlx::Error),
    /// The connection is gone; what was sent may be written or not.
    Lost(sqlx::Error),
    /// It cannot be done now, and trying again at once would not help. Nothing is written.
    Stopped(AppendError),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(e) = &error else { return Trouble::Lost(error) };
        let code = e.code().unwrap_or_default();
        match code.get(..2).unwrap_or_default() {
            // Somebody holds a lock, or the statement was cancelled: nothing is written, and no command is to blame.
            _ if matches!(&*code, "55P03" | "57014") => Trouble::Stopped(AppendError::Unavailable(error.to_string())),
            // What a value can cause, a lost race, a deadlock's victim. The same as in the projector: nothing else may
            // be said of an event.
            "22" | "23" | "54" | "40" if code != "40003" => Trouble::Refused(error),
            // The connection, the server's resources, its shutdown, its disks; a server that takes no writes (25006);
            // statements that a change of the schema has spoilt. A new connection may do.
            "08" | "53" | "57" | "58" | "25" | "40" | "0A" | "26" => Trouble::Lost(error),
            // Rights, tables: an operator is at work.
            _ => Trouble::Stopped(AppendError::Unavailable(error.to_string())),
        }
    }
}

impl Lane {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, line: None, positions: Positions::default(), by_statement: 0 }
    }

    pub async fn run(mut self) {
        while let Some(batch) = self.shared.queue.take().await {
            let keys = batch.iter().flat_map(|w| w.append.streams.iter().map(|s| s.key())).collect();
            let _taken = Taken { queue: self.shared.queue.clone(), keys };
            self.commit(batch).await;
        }
        if let Some(line) = self.line {
            // A polite goodbye; the server notices either way.
            let _ = line.db.close().await;
        }
    }

    async fn commit(&mut self, batch: Vec<Waiting>) {
        let mut left: Vec<Waiting> = Vec::with_capacity(batch.len());
        for waiting in batch {
            match self.lost_race(&waiting.append) {
                true => self.answer(waiting, Err(AppendError::Conflict)),
                false => left.push(waiting),
            }
        }
        let deadline = Instant::now() + PATIENCE;
        while !left.is_empty() {
            let appends: Vec<&Append> = left.iter().map(|w| &w.append).collect();
            let trouble = match self.timely(&appends, deadline).await {
                Ok(outcomes) => {
                    self.learn(&appends, &outcomes);
                    return self.answer_all(left, outcomes);
                }
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Stopped(error) => {
                    let outcomes = left.iter().map(|_| Err(error.clone())).collect();
                    return self.answer_all(left, outcomes);
                }
                Trouble::Refused(error) => {
                    let outcomes = match left.len() {
                        1 => vec![Err(refusal(&error))],
                        _ => {
                            self.shared.queue.counters.fallbacks.fetch_add(1, Relaxed);
                            self.one_by_one(&appends, deadline).await
                        }
                    };
                    return self.answer_all(left, outcomes);
                }
                Trouble::Lost(error) => {
                    self.shared.queue.counters.interruptions.fetch_add(1, Relaxed);
                    tracing::warn!(%error, commands = left.len(), "the database went away during an append");
                    let outcomes = self.settled(&appends, deadline, &error).await;
                    self.learn(
                        &appends,
                        &outcomes.iter().map(|o| o.clone().unwrap_or(Err(AppendError::Conflict))).collect::<Vec<_>>(),
                    );
                    if outcomes.iter().flatten().any(Result::is_ok) {
                        self.shared.tail.appended();
                    }
                    let mut again = Vec::new();
                    for (waiting, outcome) in left.into_iter().zip(outcomes) {
                        match outcome {
                            Some(outcome) => self.answer(waiting, outcome),
                            None => again.push(waiting),
                        }
                    }
                    left = again;
                }
            }
        }
    }

    /// A newer event than the command knows is known to be committed.
    fn lost_race(&self, append: &Append) -> bool {
        let Some(line) = &self.line else { return false };
        let head = |key| self.shared.heads.get(line.timeline, &key).map_or(0, |h| h.sequence);
        append.streams.iter().any(|s| head(s.key()) > s.expected)
    }

    /// A network that swallows everything must not hold the lane: TCP would wait for a quarter of an hour.
    async fn timely(&mut self, appends: &[&Append], deadline: Instant) -> Result<Vec<Outcome>, Trouble> {
        let silent = || Err(Trouble::Lost(sqlx::Error::Protocol("the database is silent".into())));
        tokio::time::timeout(SILENT, self.attempt(appends, deadline)).await.unwrap_or_else(|_| silent())
    }

    async fn attempt(&mut self, appends: &[&Append], deadline: Instant) -> Result<Vec<Outcome>, Trouble> {
        self.connected(deadline).await?;
        let events: usize = appends.iter().map(|a| a.events()).sum();
        let by_copy = events >= COPY_FROM && self.by_statement == 0;
        self.by_statement = self.by_statement.saturating_sub(1);
        let unknown = self.unknown(appends);
        let Some(line) = &mut self.line else { return Err(Trouble::Lost(sqlx::Error::PoolClosed)) };
        self.shared.queue.counters.batches.fetch_add(1, Relaxed);
        let generation = self.shared.generation;
        if !by_copy {
            return Ok(by_statement(&mut line.db, generation, appends, unknown.is_empty()).await?);
        }
        self.shared.queue.counters.copies.fetch_add(1, Relaxed);
        match copy(&mut line.db, generation, appends, &unknown, &mut self.positions).await.map_err(Trouble::from) {
            Err(Trouble::Refused(error)) => {
                tracing::debug!(%error, "a COPY failed; its batch goes by statement");
                self.shared.queue.counters.fallbacks.fetch_add(1, Relaxed);
                self.hang_up().await;
                self.by_statement = AFTER_FALLBACK;
                Box::pin(self.attempt(appends, deadline)).await
            }
            Err(trouble @ Trouble::Stopped(_)) => {
                self.hang_up().await;
                Err(trouble)
            }
            other => other,
        }
    }

    /// The fault is in one of several commands: each gets a statement of its own.
    async fn one_by_one(&mut self, appends: &[&Append], deadline: Instant) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(appends.len());
        for append in appends {
            if Instant::now() >= deadline {
                outcomes.push(Err(AppendError::Unavailable("the database takes too long".into())));
                continue;
            }
            let outcome = loop {
                match self.timely(&[append], deadline).await {
                    Ok(mut one) => break one.pop().unwrap_or(Err(AppendError::Conflict)),
                    Err(Trouble::Refused(error)) => break Err(refusal(&error)),
                    Err(Trouble::Stopped(error)) => break Err(error),
                    Err(Trouble::Lost(error)) => {
                        if let Some(Some(outcome)) = self.settled(&[append], deadline, &error).await.pop() {
                            break outcome;
                        }
                    }
                }
            };
            // On the connection that wrote it.
            self.learn(&[append], std::slice::from_ref(&outcome));
            outcomes.push(outcome);
        }
        outcomes
    }

    /// After a lost connection: what is written is told as written; `None`: certainly not written, try again.
    async fn settled(&mut self, appends: &[&Append], deadline: Instant, error: &sqlx::Error) -> Vec<Option<Outcome>> {
        let lost = self.line.take().map(|line| line.backend);
        self.shared.heads.forget();
        (self.shared.moved)();
        let unavailable =
            |why: String| appends.iter().map(|_| Some(Err(AppendError::Unavailable(why.clone())))).collect();
        if Instant::now() >= deadline {
            return unavailable(error.to_string());
        }
        // Nothing was sent: the connection could not even be made.
        let Some(lost) = lost else {
            tokio::time::sleep(RECONNECT).await;
            return appends.iter().map(|_| None).collect();
        };
        loop {
            match self.connected(deadline).await {
                Ok(()) => {}
                // Whatever keeps it from connecting: it must not be said that nothing was written.
                Err(_) if Instant::now() < deadline => {
                    tokio::time::sleep(RECONNECT).await;
                    continue;
                }
                Err(_) => return unavailable(format!("{error}; whether it was written is unknown")),
            }
            let Some(line) = &mut self.line else { continue };
            let asked = settle::settle(line, &self.shared.pool, lost, self.shared.generation, appends, deadline);
            let asked = tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
            match asked {
                Ok(outcomes) => return outcomes,
                Err(again) if Instant::now() < deadline => {
                    tracing::debug!(error = %again, "what became of an append cannot be told yet");
                    self.line = None;
                    tokio::time::sleep(RECONNECT).await;
                }
                Err(_) => return unavailable(format!("{error}; whether it was written is unknown")),
            }
        }
    }

    /// Makes sure of a connection to the cluster this log belongs to, on its newest timeline.
    async fn connected(&mut self, deadline: Instant) -> Result<(), Trouble> {
        if self.line.is_some() {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let connection = tokio::time::timeout(left, self.shared.pool.acquire());
        let mut db = connection.await.map_err(|_| Trouble::Lost(sqlx::Error::PoolTimedOut))??.detach();
        // A lock that somebody holds on the log must not hold callers for ever.
        let backend = settle::Backend::new();
        db.execute(pool::VANISHED).await?;
        db.execute(
            format!("set lock_timeout = '8s'; set application_name = '{backend}'; {}", pool::PLAN_ONCE).as_str(),
        )
        .await?;
        if sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(&mut db).await? {
            // It may not have replayed what was written, and a session outlives its promotion.
            return Err(Trouble::Lost(sqlx::Error::Protocol("this server is a standby".into())));
        }
        let generation = match pool::check_cluster(&mut db).await {
            Ok(generation) => generation,
            Err(crate::OpenError::Database(error)) => return Err(error.into()),
            Err(other) => return Err(Trouble::Stopped(AppendError::Unavailable(other.to_string()))),
        };
        if generation != self.shared.generation {
            let why = "the log was adopted by another cluster meanwhile: start this server again";
            return Err(Trouble::Stopped(AppendError::Unavailable(why.into())));
        }
        let timeline = pool::cluster_of(&mut db).await?.timeline;
        match self.shared.heads.enter(timeline) {
            Entered::Same | Entered::New { first: true } => {}
            Entered::New { first: false } => {
                tracing::warn!(
                    timeline,
                    "the database goes on on another timeline: everything known of it is forgotten"
                );
                (self.shared.moved)();
            }
            Entered::Behind => {
                return Err(Trouble::Lost(sqlx::Error::Protocol("this server was left behind by a promotion".into())));
            }
        }
        self.positions = Positions::default();
        self.line = Some(Line { db, backend, timeline });
        Ok(())
    }

    async fn hang_up(&mut self) {
        if let Some(line) = self.line.take() {
            let _ = line.db.close_hard().await;
        }
    }

    /// Streams of which the needed predecessor is not known to be committed.
    fn unknown(&self, appends: &[&Append]) -> HashSet<StreamKey> {
        let timeline = self.line.as_ref().map_or(0, |l| l.timeline);
        let known = |stream: &&StreamAppend| {
            let same = |h: Head| h.sequence == stream.expected && stream.predecessor.is_none_or(|p| p == h.event_id);
            stream.expected == 0 || self.shared.heads.get(timeline, &stream.key()).is_some_and(same)
        };
        let streams = appends.iter().flat_map(|a| &a.streams);
        streams.filter(|s| !known(s)).map(StreamAppend::key).collect()
    }

    fn learn(&self, appends: &[&Append], outcomes: &[Outcome]) {
        let Some(line) = &self.line else { return };
        let written = appends.iter().zip(outcomes).filter(|(_, o)| o.is_ok());
        let head = |s: &StreamAppend| {
            let event_id = s.events.last()?.event_id;
            Some((s.key(), Head { sequence: s.end(), event_id }))
        };
        let heads = written.flat_map(|(a, _)| a.streams.iter().filter_map(head));
        self.shared.heads.learn(line.timeline, heads);
    }

    fn answer_all(&self, batch: Vec<Waiting>, outcomes: Vec<Outcome>) {
        if outcomes.iter().any(Result::is_ok) {
            self.shared.tail.appended();
        }
        for (waiting, outcome) in batch.into_iter().zip(outcomes) {
            self.answer(waiting, outcome);
        }
    }

    fn answer(&self, waiting: Waiting, outcome: Outcome) {
        let counters = &self.shared.queue.counters;
        match &outcome {
            Ok(_) => {
                counters.commands.fetch_add(1, Relaxed);
                counters.events.fetch_add(waiting.append.events() as u64, Relaxed);
            }
            Err(AppendError::Conflict) => {
                counters.conflicts.fetch_add(1, Relaxed);
            }
            Err(_) => {}
        }
        // A caller that went away needs no answer.
        let _ = waiting.answer.send(outcome);
    }
}

/// The cheapest statement that does it. `known`: every predecessor is committed, or there is none.
async fn by_statement(
    db: &mut PgConnection,
    generation: i32,
    appends: &[&Append],
    known: bool,
) -> Result<Vec<Outcome>, sqlx::Error> {
    if let [append] = appends
        && let Some(outcome) = statement::alone(db, generation, append, known).await?
    {
        return Ok(vec![outcome]);
    }
    // A command of several streams cannot be sorted among the others as a whole.
    if known && appends.iter().all(|a| a.claim.is_none() && a.streams.len() == 1) {
        match statement::together(db, generation, appends).await {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
            other => return other,
        }
    }
    statement::batch(db, generation, appends).await
}

/// What one command alone was refused for.
fn refusal(error: &sqlx::Error) -> AppendError {
    let code = match error {
        sqlx::Error::Database(e) => e.code().unwrap_or_default().into_owned(),
        _ => String::new(),
    };
    match code.as_str() {
        // The place is taken; a part-inserted command of `batch.sql`; a deadlock's or serialisation's victim.
        "23505" | "22012" | "40P01" | "40001" => AppendError::Conflict,
        _ => AppendError::Refused(error.to_string()),
    }
}
