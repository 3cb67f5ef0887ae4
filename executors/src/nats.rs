//! JetStream: one stream of events, durable pull consumers of work.
//!
//! Consumers have one filter subject each: nats-server 2.9 silently ignores a list of them.

use std::time::Duration;

use async_nats::jetstream::{
    self, consumer,
    stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
};
use uuid::Uuid;

pub const STREAM: &str = "APIQ_EVENTS";
pub const SUBJECTS: &str = "apiq.events.>";

#[derive(Debug, thiserror::Error)]
#[error("NATS: {0}")]
pub struct NatsError(pub String);

impl NatsError {
    pub(crate) fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// `apiq.events.<workspace>.<aggregate>.<event>`; the event type is `aggregate.event`.
pub(crate) fn subject(workspace: Uuid, aggregate: &str, event_type: &str) -> String {
    let event = event_type.split_once('.').map_or(event_type, |(_, event)| event);
    // `credential.read` stands in its reader's stream: the name tells the aggregate that subscribers mean.
    let noun = event_type.split_once('.').map_or(aggregate, |(noun, _)| noun);
    format!("apiq.events.{}.{noun}.{event}", workspace.simple())
}

/// Kept for a day: NATS wakes, the log remembers.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// How long the server tells a message that comes twice by its id. It keeps each id in memory for as long; the relay goes
/// on behind the newest message anyway.
const DUPLICATES: Duration = Duration::from_secs(10);
/// Of a new stream; an operator may change it.
const MAX_BYTES: i64 = 1024 * 1024 * 1024;

/// The stream, made when it is missing (a wiped server), and set right when somebody else made it or changed it.
/// Its size, replicas and placement are the operator's.
pub(crate) async fn ensure_stream(client: &async_nats::Client) -> Result<stream::Stream, NatsError> {
    let context = jetstream::new(client.clone());
    let wanted = stream::Config {
        name: STREAM.into(),
        subjects: vec![SUBJECTS.into()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_age: MAX_AGE,
        max_bytes: MAX_BYTES,
        duplicate_window: DUPLICATES,
        ..Default::default()
    };
    let found = context.get_or_create_stream(wanted).await.map_err(NatsError::of)?;
    let config = &found.cached_info().config;
    if let Some(fault) = unusable(config) {
        return Err(NatsError(format!("the stream {STREAM} {fault}: delete it, and the relay fills a new one")));
    }
    let Some(right) = set_right(config) else { return Ok(found) };
    context.update_stream(&right).await.map_err(|error| {
        NatsError(format!("the stream {STREAM} has another configuration than ours and cannot be changed: {error}"))
    })?;
    tracing::warn!("the stream {STREAM} had another configuration than ours; it was changed");
    context.get_stream(STREAM).await.map_err(NatsError::of)
}

/// What a server does not let change, in words.
fn unusable(found: &stream::Config) -> Option<&'static str> {
    if found.retention != RetentionPolicy::Limits {
        Some("removes messages once they are consumed")
    } else if found.mirror.is_some() {
        Some("is a mirror")
    } else if found.sealed {
        Some("is sealed")
    } else {
        None
    }
}

/// The configuration as it should be; `None` when it is so.
fn set_right(found: &stream::Config) -> Option<stream::Config> {
    let mut right = found.clone();
    right.subjects = vec![SUBJECTS.into()];
    right.discard = DiscardPolicy::Old;
    right.max_age = MAX_AGE;
    right.duplicate_window = DUPLICATES;
    right.no_ack = false;
    let same = right.subjects == found.subjects
        && right.discard == found.discard
        && right.max_age == found.max_age
        && right.duplicate_window == found.duplicate_window
        && right.no_ack == found.no_ack;
    (!same).then_some(right)
}

/// A durable pull consumer over one filter.
pub(crate) async fn consumer(
    stream: &stream::Stream,
    name: &str,
    filter: &str,
    ack_wait: Duration,
) -> Result<consumer::PullConsumer, NatsError> {
    stream
        .get_or_create_consumer(
            name,
            consumer::pull::Config {
                durable_name: Some(name.into()),
                filter_subject: filter.into(),
                // What came before is the sweep's; a stream that was filled again holds a day of it.
                deliver_policy: consumer::DeliverPolicy::New,
                ack_wait,
                max_deliver: 5,
                max_ack_pending: 1_024,
                ..Default::default()
            },
        )
        .await
        .map_err(NatsError::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> stream::Config {
        stream::Config {
            name: STREAM.into(),
            subjects: vec![SUBJECTS.into()],
            discard: DiscardPolicy::Old,
            max_age: MAX_AGE,
            duplicate_window: DUPLICATES,
            ..Default::default()
        }
    }

    #[test]
    fn a_stream_of_somebody_else_is_set_right_but_for_what_is_the_operators() {
        assert!(set_right(&ours()).is_none() && unusable(&ours()).is_none());
        assert!(set_right(&stream::Config { num_replicas: 3, max_bytes: 7, ..ours() }).is_none());
        let found =
            stream::Config { subjects: vec!["apiq.>".into()], max_age: Duration::ZERO, num_replicas: 3, ..ours() };
        let right = set_right(&found).unwrap();
        assert_eq!((right.subjects, right.max_age, right.num_replicas), (ours().subjects, MAX_AGE, 3));
        assert!(unusable(&stream::Config { retention: RetentionPolicy::WorkQueue, ..ours() }).is_some());
    }

    #[test]
    fn subjects_name_what_subscribers_mean() {
        let workspace = Uuid::from_u128(1);
        let of =
            |aggregate, event| subject(workspace, aggregate, event).split('.').skip(3).collect::<Vec<_>>().join(".");
        assert_eq!(of("execution", "execution.started"), "execution.started");
        assert_eq!(of("execution", "credential.read"), "credential.read");
    }
}
