//! Writers of a rebuild's fast pass: two connections that store one batch while the next one is folded.
//!
//! The audit log is half of all rows and goes one way, all other tables go the other: rows of one table keep their order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sqlx::{Executor, PgConnection};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
};

use crate::{
    fault::Fault,
    fold::{Fold, Reader},
    projector::SESSION,
    statement::Statement,
};

/// Statements that wait for a writer: enough to keep it at work, few in memory.
const QUEUE: usize = 2;
/// Rows of a table in the first statement.
const FIRST: usize = 200;
/// How long a statement's transaction should take, with room for a busy machine: no reader of the log sees past it.
const GOAL: Duration = Duration::from_millis(8);

/// How many rows of a table the next statement should write, after one of `size` took so long.
fn next_size(size: usize, took: Duration) -> usize {
    let wanted = size as f64 * GOAL.as_secs_f64() / took.as_secs_f64().max(1e-4);
    // Fewer at once, more by and by.
    (wanted.min(size as f64 * 1.25) as usize).clamp(20, 4_000)
}

enum Job {
    Write(Statement),
    /// Answers when all before it is written.
    Flush(oneshot::Sender<()>),
    End,
}

struct Writer {
    jobs: mpsc::Sender<Job>,
    /// One task. Its end: the longest write; or what went wrong, after which it takes nothing more.
    task: JoinSet<Result<Duration, Fault>>,
    /// Rows of a table in a statement.
    size: Arc<AtomicUsize>,
}

impl Writer {
    fn start(mut db: PgConnection, stopped: Arc<AtomicBool>) -> Self {
        let (jobs, mut queue) = mpsc::channel(QUEUE);
        let size = Arc::new(AtomicUsize::new(FIRST));
        let told = size.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut longest = Duration::ZERO;
            while let Some(job) = queue.recv().await {
                match job {
                    Job::Write(_) if stopped.load(Ordering::Relaxed) => break,
                    Job::Write(statement) => {
                        let begun = Instant::now();
                        statement.write(&mut db, None).await?;
                        let took = begun.elapsed();
                        longest = longest.max(took);
                        let size = told.load(Ordering::Relaxed);
                        told.store(next_size(size, took), Ordering::Relaxed);
                    }
                    Job::Flush(done) => drop(done.send(())),
                    Job::End => break,
                }
            }
            Ok(longest)
        });
        Self { jobs, task, size }
    }

    fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }
}

/// Two writers, and a reader that sees what they wrote.
pub(crate) struct Loading {
    reader: PgConnection,
    writers: [Writer; 2],
    /// What still waits to be written must not be.
    stopped: Arc<AtomicBool>,
}

impl Loading {
    pub fn start(reader: PgConnection, writers: [PgConnection; 2]) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        Self { reader, writers: writers.map(|db| Writer::start(db, stopped.clone())), stopped }
    }

    /// Makes the reader one like the writers.
    pub async fn prepare(&mut self) -> Result<(), Fault> {
        self.reader.execute(format!("set role apiq_projector; {SESSION}").as_str()).await?;
        Ok(())
    }

    pub fn reader(&mut self) -> &mut PgConnection {
        &mut self.reader
    }

    /// Hands over all that has changed.
    pub async fn store(&mut self, fold: &mut Fold) -> Result<(), Fault> {
        let mut open = [true, true];
        while open != [false, false] {
            for (n, open) in open.iter_mut().enumerate() {
                let size = self.writers[n].size();
                match fold.store_of(size, |view| usize::from(view == "audit") == n)? {
                    Some(statement) => self.send(n, Job::Write(statement)).await?,
                    None => *open = false,
                }
            }
        }
        Ok(())
    }

    /// Waits for what is under way; gives the longest write.
    pub async fn finish(&mut self) -> Result<Duration, Fault> {
        let mut longest = Duration::ZERO;
        for n in 0..self.writers.len() {
            self.send(n, Job::End).await?;
            longest = longest.max(ended(self.writers[n].task.join_next().await)?);
        }
        Ok(longest)
    }

    /// Forgets what waits to be written, and waits for what is being written. That is not broken off: the server would go
    /// on with it for a while, and nobody would know for how long.
    pub async fn stop(mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for writer in &mut self.writers {
            // Whoever takes no more has ended already.
            let _ = writer.jobs.send(Job::End).await;
            while writer.task.join_next().await.is_some() {}
        }
    }

    async fn send(&mut self, n: usize, job: Job) -> Result<(), Fault> {
        if self.writers[n].jobs.send(job).await.is_ok() {
            return Ok(());
        }
        // It takes no more: its task says why.
        match ended(self.writers[n].task.join_next().await) {
            Err(fault) => Err(fault),
            Ok(_) => Err(Fault::Database(sqlx::Error::WorkerCrashed)),
        }
    }
}

fn ended(end: Option<Result<Result<Duration, Fault>, JoinError>>) -> Result<Duration, Fault> {
    match end {
        Some(Ok(end)) => end,
        _ => Err(Fault::Database(sqlx::Error::WorkerCrashed)),
    }
}

#[async_trait]
impl Reader for Loading {
    /// What is asked for may be on its way to the database.
    async fn connection(&mut self) -> Result<&mut PgConnection, Fault> {
        for n in 0..self.writers.len() {
            let (done, written) = oneshot::channel();
            self.send(n, Job::Flush(done)).await?;
            if written.await.is_err() {
                let (done, _) = oneshot::channel();
                self.send(n, Job::Flush(done)).await?;
            }
        }
        Ok(&mut self.reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_writes_are_cut_at_once_and_fast_ones_grow() {
        assert_eq!(next_size(1_000, GOAL * 10), 100);
        assert_eq!(next_size(1_000, Duration::from_millis(1)), 1_250);
        assert_eq!(next_size(30, Duration::from_secs(9)), 20);
        assert_eq!(next_size(4_000, Duration::from_millis(1)), 4_000);
    }
}
