//! Log to JetStream: every event once by its id, in the log's order.
//!
//! **One order.** Each message is accepted only right behind the one before it (`Nats-Expected-Last-Sequence`), though
//! hundreds are under way at once. A message that fails fails all behind it, and of two relays (one has lost its lock and
//! does not know it yet) only one gets on: the stream itself is the compare-and-set. So what the stream holds is always a
//! piece of the log without a gap, and its newest message tells where to go on.
//!
//! **Where it goes on**, at each start, each reconnect, and whenever the stream's end is not where this relay left it:
//!
//! | the stream's newest message | then it goes on |
//! |---|---|
//! | at the checkpoint or after it | behind the newest message (the checkpoint lags, or its last write was lost) |
//! | before the checkpoint (restored from an old copy, a power cut) | behind the newest message: what was lost is published again |
//! | of an event that the log does not have (the database was restored to an earlier time) | behind the checkpoint, which went back with the log |
//! | none: wiped, purged or emptied by age | behind the checkpoint, or earlier, at the first event young enough for the stream to keep it |
//!
//! Messages that left the stream at its other end (`max_age`, `max_bytes`, a purge that keeps some) change nothing, for
//! the newest is still there. While this relay runs, a stream whose last sequence is unchanged has lost nothing, even if
//! it is empty by now. An event is published again at most for these reasons, so consumers tell known ones by their id.
//!
//! **The checkpoint** moves behind JetStream's acknowledgements, now and then, by compare-and-set, on the connection that
//! holds the relay's lock. A lost one costs nothing, because the newest message tells more.
//!
//! **NATS down**: the relay holds one batch and reads no further; appends do not notice.

mod envelope;
mod publish;
mod resume;
mod stats;

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::connection::State;
use domain::event::LogPosition;
use event_store::EventStore;
pub use stats::RelayStats;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{publish::Publisher, resume::Because};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    nats::{self, NatsError},
    supervise::supervise,
};

/// Events read at once.
const BATCH: usize = 512;
/// Between two reads under load: company makes batches, and batches are cheap.
const PACE: Duration = Duration::from_millis(2);
const SAVE: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(200);
/// Between two looks at the stream's end while nothing seems to have happened.
const LOOK: Duration = Duration::from_secs(5);
/// A relay without a connection to NATS gives up its role after this long: another node may have one.
const PATIENCE: Duration = Duration::from_secs(5);
const ROLE: &str = "relay";
pub(crate) const CHECKPOINT: &str = "relay";

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Database(#[from] event_store::DatabaseError),
    #[error(transparent)]
    Follow(#[from] event_store::FollowError),
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("the stream's end is not where this relay left it")]
    Moved,
}

/// Publishes until `shutdown`. Of all relays of an installation one is active; the others stand by.
pub async fn run(
    store: EventStore,
    client: async_nats::Client,
    database_url: String,
    stats: Arc<RelayStats>,
    shutdown: CancellationToken,
) {
    let relay = Relay { store, client, database_url, stats };
    let publishing = supervise("relay", shutdown.clone(), || async {
        let result = relay.relay().await;
        relay.stats.stand(None);
        result
    });
    tokio::join!(publishing, stats::observe(&relay.store, &relay.stats, shutdown));
}

struct Relay {
    store: EventStore,
    client: async_nats::Client,
    database_url: String,
    stats: Arc<RelayStats>,
}

impl Relay {
    async fn relay(&self) -> Result<(), RelayError> {
        let mut checkpoint = Checkpoint::acquire(&self.database_url, ROLE, CHECKPOINT, SAVE).await?;
        let Err(error) = self.publish(&mut checkpoint).await;
        if matches!(error, RelayError::Nats(_) | RelayError::Moved) {
            checkpoint.save().await?;
        }
        Err(error)
    }

    /// Until something is wrong.
    async fn publish(&self, checkpoint: &mut Checkpoint) -> Result<Infallible, RelayError> {
        self.connected().await?;
        let connects = self.connects();
        let stream = nats::ensure_stream(&self.client).await?;
        let place = resume::place(&self.store, &stream, checkpoint.at()).await?;
        tell(place.because, place.at, checkpoint.at());

        // What lies before this was published already.
        let known = checkpoint.at();
        checkpoint.reach(place.at);
        self.stats.stand(Some(place.at));
        let mut publisher = Publisher::new(&self.client, place.sequence);
        let mut follower = self.store.follow(place.at).at_most_every(PACE);
        let mut tick = tokio::time::interval(TICK);
        let mut looked = Instant::now();
        loop {
            tokio::select! {
                batch = follower.next(BATCH) => {
                    let batch = batch?;
                    let mut rest = batch.as_slice();
                    while !rest.is_empty() {
                        let done = publisher.publish(rest).await?;
                        let (published, left) = rest.split_at(done);
                        let again = published.iter().filter(|event| event.at <= known).count();
                        self.stats.count(done as u64, again as u64);
                        rest = left;
                        if let Some(last) = published.last() {
                            checkpoint.reach(last.at);
                            self.stats.stand(Some(last.at));
                        }
                    }
                    checkpoint.save_now_and_then().await?;
                }
                _ = tick.tick() => {
                    checkpoint.save_now_and_then().await?;
                    if self.connects() != connects || self.client.connection_state() != State::Connected {
                        return Err(NatsError("the connection was lost meanwhile".into()).into());
                    }
                    if looked.elapsed() >= LOOK {
                        checkpoint.check().await?;
                        let state = stream.get_info().await.map_err(NatsError::of)?.state;
                        if state.last_sequence != publisher.sequence() {
                            return Err(RelayError::Moved);
                        }
                        looked = Instant::now();
                    }
                }
            }
        }
    }

    /// Nothing is sent on a connection that is not there: it would only wait in the client's memory.
    async fn connected(&self) -> Result<(), NatsError> {
        let until = Instant::now() + PATIENCE;
        while self.client.connection_state() != State::Connected {
            if Instant::now() > until {
                return Err(NatsError("not connected".into()));
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }
}

fn tell(because: Because, at: LogPosition, checkpoint: LogPosition) {
    match because {
        Because::NewestMessage => tracing::info!(%at, "the relay goes on"),
        Because::Empty if at == checkpoint => tracing::info!(%at, "the relay goes on; the stream is empty"),
        Because::Empty => {
            tracing::warn!(%at, %checkpoint, "the stream is empty: what it should keep is published again");
        }
        Because::RolledBack => {
            tracing::warn!(%at, %checkpoint, "the stream has lost messages: they are published again");
        }
        Because::LogWentBack => {
            tracing::warn!(%at, "the stream knows events that the log does not: the log was restored to an earlier time");
        }
    }
}
