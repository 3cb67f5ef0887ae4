//! Group append: commands that wait together are committed together.
//!
//! Callers put commands into one bounded queue; a few lanes, each with a connection of its own, take what waits and
//! commit it as one batch. An idle queue costs one statement: no timer, no waiting for company. A conflict fails its own
//! command only, and a row that Postgres refuses too.

mod copy;
mod heads;
mod lane;
mod queue;
mod settle;
mod statement;

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::oneshot;

pub use self::queue::AppendStats;
use self::{
    heads::Heads,
    lane::Lane,
    queue::{Queue, Waiting},
};
use crate::{Append, AppendError, Appended, tail::Tail};

/// How one command's append ended.
type Outcome = Result<Appended, AppendError>;

pub(crate) struct Writer {
    queue: Arc<Queue>,
}

/// What all lanes share.
struct Shared {
    pool: PgPool,
    generation: i32,
    tail: Tail,
    queue: Arc<Queue>,
    heads: Heads,
    /// Called when the log continues on another timeline (a standby was promoted): what was read before may be gone.
    moved: Box<dyn Fn() + Send + Sync>,
}

impl Writer {
    pub(crate) fn start(
        pool: PgPool,
        generation: i32,
        tail: Tail,
        lanes: usize,
        moved: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let queue = Arc::new(Queue::default());
        let shared = Arc::new(Shared {
            pool,
            generation,
            tail,
            queue: queue.clone(),
            heads: Heads::default(),
            moved: Box::new(moved),
        });
        for _ in 0..lanes.max(1) {
            let shared = shared.clone();
            tokio::spawn(async move {
                // A lane that broke is replaced: its batch's callers are told, its streams are free again.
                while let Err(broken) = tokio::spawn(Lane::new(shared.clone()).run()).await {
                    if broken.is_cancelled() {
                        return;
                    }
                    tracing::error!(%broken, "a lane of the log broke; another takes its place");
                }
            });
        }
        Self { queue }
    }

    pub(crate) async fn submit(&self, append: Append) -> Outcome {
        let (answer, result) = oneshot::channel();
        self.queue.push(Waiting::new(append, answer))?;
        result.await.unwrap_or_else(|_| {
            Err(AppendError::Unavailable("the log was stopped; whether it was written is unknown".into()))
        })
    }

    pub(crate) fn stats(&self) -> AppendStats {
        self.queue.stats()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
    }
}
