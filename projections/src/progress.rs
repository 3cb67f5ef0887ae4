//! How far the read models have come: told in process by the local projector, polled for those of other nodes.

use std::{sync::Arc, time::Duration};

use domain::event::LogPosition;
use sqlx::PgPool;
use tokio::sync::watch;

use crate::projector::CHECKPOINT;

const POLL: Duration = Duration::from_millis(20);

/// A shared place. Cheap to clone.
#[derive(Clone)]
pub struct Progress {
    at: Arc<watch::Sender<LogPosition>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { at: Arc::new(watch::Sender::new(LogPosition::START)) }
    }
}

impl Progress {
    /// The furthest place known here; the checkpoint may be further.
    pub fn at(&self) -> LogPosition {
        *self.at.borrow()
    }

    /// What the database says when a projector begins, which may be less than before.
    pub(crate) fn restart(&self, at: LogPosition) {
        self.at.send_replace(at);
    }

    pub(crate) fn reached(&self, at: LogPosition) {
        self.at.send_if_modified(|known| {
            let moved = at > *known;
            *known = at.max(*known);
            moved
        });
    }

    pub(crate) async fn wait_for(&self, pool: &PgPool, at: LogPosition, timeout: Duration) -> bool {
        let mut local = self.at.subscribe();
        let reached = async {
            loop {
                // The local projector tells at once; after a poll interval of silence the checkpoint is asked.
                let told =
                    tokio::time::timeout(POLL, async { local.wait_for(|known| *known >= at).await.is_ok() }).await;
                if told == Ok(true) {
                    return;
                }
                match event_store::checkpoint(pool, CHECKPOINT).await {
                    Ok(checkpoint) => self.reached(checkpoint),
                    Err(error) => tracing::debug!(%error, "the projection checkpoint cannot be read"),
                }
            }
        };
        tokio::time::timeout(timeout, reached).await.is_ok()
    }
}
