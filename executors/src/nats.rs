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

/// The stream, made when it is missing (a wiped server). Kept for a day: NATS wakes, the log remembers.
pub(crate) async fn ensure_stream(client: &async_nats::Client) -> Result<stream::Stream, NatsError> {
    let context = jetstream::new(client.clone());
    context
        .get_or_create_stream(stream::Config {
            name: STREAM.into(),
            subjects: vec![SUBJECTS.into()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            discard: DiscardPolicy::Old,
            max_age: Duration::from_secs(24 * 3600),
            max_bytes: 1024 * 1024 * 1024,
            duplicate_window: Duration::from_secs(120),
            ..Default::default()
        })
        .await
        .map_err(NatsError::of)
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
                ack_wait,
                max_deliver: 5,
                max_ack_pending: 1_024,
                ..Default::default()
            },
        )
        .await
        .map_err(NatsError::of)
}
