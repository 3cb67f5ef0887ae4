//! Where the relay goes on: what JetStream holds against what the log and the checkpoint say. The rule is in `relay`.

use std::time::Duration;

use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use domain::event::LogPosition;
use event_store::EventStore;

use super::{RelayError, envelope::Stamp};
use crate::nats::{self, NatsError};

/// Messages looked at from the stream's end for one of ours.
const LOOKED_AT: u64 = 64;
/// `recorded_at` is the time of the insert, the log's order that of the transactions: they differ by less than this.
const DISORDER: Duration = Duration::from_secs(600);

/// Why it goes on there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Because {
    /// The stream's newest message is our newest, or newer than a checkpoint that was not written.
    NewestMessage,
    /// The stream's newest message is older than the checkpoint: what came after it is lost.
    RolledBack,
    /// The stream is empty.
    Empty,
    /// The stream's newest message is of an event that the log does not have: the log itself went back.
    LogWentBack,
}

/// A place to go on from, and the stream's last sequence there.
#[derive(Debug)]
pub(super) struct Place {
    pub at: LogPosition,
    pub sequence: u64,
    pub because: Because,
}

/// The rule, given the newest message of ours and whether the log knows it; `young`: the place before the first event
/// that the stream would still keep.
fn decide(newest: Option<(LogPosition, bool)>, checkpoint: LogPosition, young: LogPosition) -> (LogPosition, Because) {
    match newest {
        Some((at, true)) if at >= checkpoint => (at, Because::NewestMessage),
        Some((at, true)) => (at, Because::RolledBack),
        Some((_, false)) => (checkpoint, Because::LogWentBack),
        None => (young.min(checkpoint), Because::Empty),
    }
}

pub(super) async fn place(store: &EventStore, stream: &Stream, checkpoint: LogPosition) -> Result<Place, RelayError> {
    let info = stream.get_info().await.map_err(NatsError::of)?;
    let sequence = info.state.last_sequence;
    let first = info.state.first_sequence.max(sequence.saturating_sub(LOOKED_AT - 1)).max(1);
    let mut newest = None;
    if info.state.messages > 0 {
        for sequence in (first..=sequence).rev() {
            // One in the middle may have been deleted by hand, or be somebody else's.
            let message = match stream.get_raw_message(sequence).await {
                Ok(message) => message,
                Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => continue,
                Err(error) => return Err(NatsError::of(error).into()),
            };
            if let Some(stamp) = Stamp::read(&message.payload) {
                let known = event_store::read_event(store.pool(), stamp.at).await?;
                newest = Some((stamp.at, known.is_some_and(|event| event.event_id == stamp.id)));
                break;
            }
        }
        if newest.is_none() && first > info.state.first_sequence {
            return Err(NatsError(format!("the newest messages of {} are not this log's", nats::STREAM)).into());
        }
    }
    let young = match newest {
        None => before_the_young(store, checkpoint, info.config.max_age).await?,
        Some(_) => checkpoint,
    };
    let (at, because) = decide(newest, checkpoint, young);
    Ok(Place { at, sequence, because })
}

/// The last event, up to the checkpoint, that is older than what the stream keeps.
async fn before_the_young(
    store: &EventStore,
    checkpoint: LogPosition,
    kept: Duration,
) -> Result<LogPosition, sqlx::Error> {
    if kept.is_zero() || checkpoint == LogPosition::START {
        return Ok(LogPosition::START);
    }
    let found: Option<(i32, String, i64)> = sqlx::query_as(
        "select e.generation, e.transaction_id::text, e.position from log.events e
          where (e.generation, e.transaction_id, e.position) <= ($1, $2::text::xid8, $3)
            and e.recorded_at < clock_timestamp() - make_interval(secs => $4)
          order by e.generation desc, e.transaction_id desc, e.position desc limit 1",
    )
    .bind(checkpoint.generation)
    .bind(checkpoint.transaction_id.to_string())
    .bind(checkpoint.position)
    .bind((kept + DISORDER).as_secs_f64())
    .fetch_optional(store.pool())
    .await?;
    let Some((generation, transaction_id, position)) = found else { return Ok(LogPosition::START) };
    let transaction_id = transaction_id.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    Ok(LogPosition { generation, transaction_id, position })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: i64) -> LogPosition {
        LogPosition { generation: 1, transaction_id: 7, position }
    }

    #[test]
    fn the_newest_message_tells_the_place_and_the_checkpoint_what_is_lost() {
        let decided = |newest, checkpoint, young| decide(newest, at(checkpoint), at(young));
        // As it should be; the checkpoint's last write lost; the relay died before writing it.
        assert_eq!(decided(Some((at(50), true)), 50, 50), (at(50), Because::NewestMessage));
        assert_eq!(decided(Some((at(60), true)), 50, 50), (at(60), Because::NewestMessage));
        // Restored from an older copy, or a power cut took the last messages.
        assert_eq!(decided(Some((at(40), true)), 50, 50), (at(40), Because::RolledBack));
        // The database was restored to an earlier time.
        assert_eq!(decided(Some((at(60), false)), 50, 50), (at(50), Because::LogWentBack));
        assert_eq!(decided(Some((at(40), false)), 50, 50), (at(50), Because::LogWentBack));
        // Wiped or purged: what the stream would still keep, and always what was never published.
        assert_eq!(decided(None, 50, 20), (at(20), Because::Empty));
        // Emptied by age: every event up to the checkpoint is old.
        assert_eq!(decided(None, 50, 50), (at(50), Because::Empty));
        assert_eq!(decide(None, LogPosition::START, LogPosition::START).0, LogPosition::START);
    }
}
