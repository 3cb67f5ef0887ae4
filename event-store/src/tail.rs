//! Wake-ups: who waits for the log's end learns of appends here at once, of those elsewhere within milliseconds.
//!
//! Appends never NOTIFY (that would serialise commits): one notifier a node does, at most every 5 ms; one listener a
//! node hears the others; a 100 ms poll stands behind both.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::{Notify, watch};

const CHANNEL: &str = "apiq_log";
const NOTIFY_GAP: Duration = Duration::from_millis(5);
pub(crate) const POLL: Duration = Duration::from_millis(100);

/// A handle that wakes its holders. Cheap to clone.
#[derive(Clone)]
pub struct Tail {
    bump: Arc<watch::Sender<u64>>,
    notify: Arc<Notify>,
}

impl Tail {
    pub(crate) fn start(pool: PgPool) -> Self {
        let tail = Self { bump: Arc::new(watch::Sender::new(0)), notify: Arc::new(Notify::new()) };
        // Who this node is for its own listener: the process that serves its listening connection.
        let me = Arc::new(AtomicI32::new(0));
        tokio::spawn(notifier(pool.clone(), Arc::downgrade(&tail.notify), me.clone()));
        tokio::spawn(listener(pool, Arc::downgrade(&tail.bump), me));
        tail
    }

    /// Something was appended on this node.
    pub(crate) fn appended(&self) {
        self.bump.send_modify(|n| *n = n.wrapping_add(1));
        self.notify.notify_one();
    }

    /// A watcher that starts awake: its first `wait` returns at once.
    pub fn watch(&self) -> Watcher {
        let mut receiver = self.bump.subscribe();
        receiver.mark_changed();
        Watcher { receiver }
    }
}

/// One reader's view of the tail.
pub struct Watcher {
    receiver: watch::Receiver<u64>,
}

impl Watcher {
    /// Returns when something may have been appended since the last call, at the latest after the poll interval.
    pub async fn wait(&mut self) {
        self.wait_at_most(POLL).await;
    }

    /// `true`: something was appended. `false`: `limit` has passed without a word.
    pub(crate) async fn wait_at_most(&mut self, limit: Duration) -> bool {
        match tokio::time::timeout(limit, self.receiver.changed()).await {
            Ok(Ok(())) => true,
            Ok(Err(_)) => {
                // The store is gone; don't spin.
                tokio::time::sleep(POLL).await;
                false
            }
            Err(_) => false,
        }
    }
}

async fn notifier(pool: PgPool, notify: std::sync::Weak<Notify>, me: Arc<AtomicI32>) {
    // NOTIFY takes a transaction id, and readers wait for it: its commit must not wait for the disk.
    let sql = "select set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";
    while let Some(strong) = notify.upgrade() {
        // Woken at least once a second, so that the task ends with the store.
        let heard = tokio::time::timeout(Duration::from_secs(1), strong.notified()).await;
        drop(strong);
        if heard.is_err() {
            continue;
        }
        let sender = me.load(Ordering::Relaxed).to_string();
        if let Err(error) = sqlx::query(sql).bind(CHANNEL).bind(sender).execute(&pool).await {
            tracing::debug!(%error, "other nodes will see the append at their next poll");
        }
        tokio::time::sleep(NOTIFY_GAP).await;
    }
}

async fn listener(pool: PgPool, bump: std::sync::Weak<watch::Sender<u64>>, me: Arc<AtomicI32>) {
    while bump.strong_count() > 0 {
        if let Err(error) = listen(&pool, &bump, &me).await {
            tracing::debug!(%error, "the log's listener starts again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn listen(pool: &PgPool, bump: &std::sync::Weak<watch::Sender<u64>>, me: &AtomicI32) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    let id: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut listener).await?;
    me.store(id, Ordering::Relaxed);
    listener.listen(CHANNEL).await?;
    loop {
        let heard = tokio::time::timeout(Duration::from_secs(5), listener.try_recv()).await;
        let Some(bump) = bump.upgrade() else { return Ok(()) };
        match heard {
            // What this node says itself it knows already.
            Ok(Ok(Some(said))) if said.payload() == id.to_string() => {}
            Ok(Ok(Some(_))) => bump.send_modify(|n| *n = n.wrapping_add(1)),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
    }
}
