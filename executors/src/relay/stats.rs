//! What the relay tells of itself: how much it published, how far it is behind.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::event::LogPosition;
use event_store::EventStore;
use tokio_util::sync::CancellationToken;

/// Between two looks at the lag.
const LOOK: Duration = Duration::from_secs(1);
/// Events are counted up to this many.
const COUNTED: i64 = 10_000;

/// Counters of this process; the lag is that of the whole installation.
#[derive(Debug, Default)]
pub struct RelayStats {
    published: AtomicU64,
    republished: AtomicU64,
    lag_events: AtomicU64,
    lag_ms: AtomicU64,
    /// Where the relay is; `None` while it stands by.
    place: Mutex<Option<LogPosition>>,
}

impl RelayStats {
    /// Events that JetStream acknowledged, those published again included.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Events published again, because JetStream had lost them.
    pub fn republished(&self) -> u64 {
        self.republished.load(Ordering::Relaxed)
    }

    /// Events not published yet, counted up to 10,000; as of the last look.
    pub fn lag_events(&self) -> u64 {
        self.lag_events.load(Ordering::Relaxed)
    }

    /// Age of the oldest of them; zero when there is none.
    pub fn lag(&self) -> Duration {
        Duration::from_millis(self.lag_ms.load(Ordering::Relaxed))
    }

    /// Is the relay of this process the active one?
    pub fn is_active(&self) -> bool {
        self.place().is_some()
    }

    pub(super) fn count(&self, events: u64, again: u64) {
        self.published.fetch_add(events, Ordering::Relaxed);
        self.republished.fetch_add(again, Ordering::Relaxed);
        metrics::counter!("apiq_relay_published_total").increment(events);
        if again > 0 {
            metrics::counter!("apiq_relay_republished_total").increment(again);
        }
    }

    pub(super) fn stand(&self, at: Option<LogPosition>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn place(&self) -> Option<LogPosition> {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lags(&self, events: i64, age_ms: i64) {
        let (events, age_ms) = (u64::try_from(events).unwrap_or(0), u64::try_from(age_ms).unwrap_or(0));
        self.lag_events.store(events, Ordering::Relaxed);
        self.lag_ms.store(age_ms, Ordering::Relaxed);
        metrics::gauge!("apiq_relay_lag_events").set(events as f64);
        metrics::gauge!("apiq_relay_lag_seconds").set(age_ms as f64 / 1_000.0);
    }
}

/// Looks at the lag now and then, whether or not the relay gets on.
pub(super) async fn observe(store: &EventStore, stats: &RelayStats, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        match lag(store, stats.place()).await {
            Ok((events, age_ms)) => stats.lags(events, age_ms),
            Err(error) => tracing::debug!(%error, "the relay's lag is not known"),
        }
    }
}

/// Behind the active relay's place; what stands by, or waits for NATS, goes by the checkpoint.
async fn lag(store: &EventStore, place: Option<LogPosition>) -> Result<(i64, i64), sqlx::Error> {
    let at = match place {
        Some(at) => at,
        None => event_store::checkpoint(store.pool(), super::CHECKPOINT).await?,
    };
    sqlx::query_as(
        "select count(*), coalesce((extract(epoch from clock_timestamp() - min(recorded_at)) * 1000)::bigint, 0)
           from (select e.recorded_at from log.events e
                  where (e.generation, e.transaction_id, e.position) > ($1, $2::text::xid8, $3)
                  order by e.generation, e.transaction_id, e.position limit $4) as waiting",
    )
    .bind(at.generation)
    .bind(at.transaction_id.to_string())
    .bind(at.position)
    .bind(COUNTED)
    .fetch_one(store.pool())
    .await
}
