//! Publishing in order: many messages under way, and each one accepted only right behind the one before.

use std::{collections::VecDeque, future::IntoFuture, sync::Arc, time::Duration};

use async_nats::{
    HeaderMap, HeaderValue,
    jetstream::{
        self,
        context::{PublishAckFuture, PublishError, PublishErrorKind},
    },
};
use domain::event::RecordedEvent;

use super::{RelayError, envelope::cloud_event};
use crate::nats::{self, NatsError};

/// Publishes under way at once.
const WINDOW: usize = 512;
/// JetStream's answer to one message takes no longer than this.
const ACK: Duration = Duration::from_secs(10);
/// What headers and subject take of a message, at most.
const HEADERS: usize = 1_024;

pub(super) struct Publisher {
    context: jetstream::Context,
    /// The stream's last sequence, as far as it is acknowledged.
    sequence: u64,
    window: usize,
    limit: usize,
}

impl Publisher {
    /// For a stream whose last message has `sequence`; `0` when there never was one.
    pub(super) fn new(client: &async_nats::Client, sequence: u64) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ACK);
        let limit = client.max_payload().saturating_sub(HEADERS);
        Self { context, sequence, window: WINDOW, limit }
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Publishes from the first event on; how many JetStream has. Less than all: call again with the rest.
    pub(super) async fn publish(&mut self, events: &[Arc<RecordedEvent>]) -> Result<usize, RelayError> {
        let mut acks = VecDeque::with_capacity(self.window.min(events.len()));
        let (mut sent, mut acked) = (0, 0);
        loop {
            while sent < events.len() && acks.len() < self.window {
                acks.push_back(self.send(&events[sent], self.sequence + acks.len() as u64).await?);
                sent += 1;
            }
            let Some(ack) = acks.pop_front() else {
                self.window = WINDOW;
                return Ok(acked);
            };
            let ack = ack.into_future().await.map_err(of_publish)?;
            acked += 1;
            if ack.duplicate {
                // It is in the stream from before, so that those behind it are off by one and refused: once they all
                // are, one by one, until the stream's memory of duplicates is passed.
                for behind in acks {
                    let _ = behind.into_future().await;
                }
                self.window = 1;
                return Ok(acked);
            }
            self.sequence = ack.sequence;
        }
    }

    async fn send(&self, event: &RecordedEvent, behind: u64) -> Result<PublishAckFuture, RelayError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", event.event_id.to_string());
        headers.insert("Nats-Expected-Last-Sequence", HeaderValue::from(behind));
        headers.insert("Content-Type", "application/cloudevents+json");
        let subject = nats::subject(event.workspace_id, &event.aggregate_type, &event.event_type);
        let body = cloud_event(event, self.limit)?;
        self.context.publish_with_headers(subject, headers, body.into()).await.map_err(of_publish)
    }
}

fn of_publish(error: PublishError) -> RelayError {
    match error.kind() {
        PublishErrorKind::WrongLastSequence => RelayError::Moved,
        _ => NatsError::of(error).into(),
    }
}
