//! Log to JetStream: every event once by its id, in the log's order, from a checkpoint.
//!
//! The checkpoint moves only when JetStream has acknowledged everything before it; after a crash some events are
//! published again under the same `Nats-Msg-Id`.

use std::{future::IntoFuture, time::Duration};

use async_nats::{HeaderMap, jetstream};
use chrono::SecondsFormat;
use domain::event::{LogPosition, RecordedEvent};
use event_store::EventStore;
use futures::{StreamExt, stream};
use serde_json::{json, value::RawValue};
use tokio_util::sync::CancellationToken;

use crate::{
    lock::Singleton,
    nats::{self, NatsError},
    supervise::supervise,
};

/// Publishes under way at once.
const WINDOW: usize = 256;
const BATCH: i64 = 512;
/// JetStream's answer to one message takes no longer than this.
const ACK: Duration = Duration::from_secs(10);
const CHECKPOINT: &str = "relay";

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Database(#[from] event_store::DatabaseError),
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error("another relay has moved the checkpoint")]
    Overtaken,
}

pub async fn run(store: EventStore, client: async_nats::Client, database_url: String, shutdown: CancellationToken) {
    supervise("relay", shutdown, || relay(&store, &client, &database_url)).await;
}

async fn relay(store: &EventStore, client: &async_nats::Client, database_url: &str) -> Result<(), RelayError> {
    let mut role = Singleton::acquire(database_url, "relay").await?;
    nats::ensure_stream(client).await?;
    let context = jetstream::new(client.clone());
    let mut watcher = store.tail().watch();
    let mut at = event_store::checkpoint(store.pool(), CHECKPOINT).await?;
    let mut idle = 0u32;
    loop {
        let batch = event_store::read_after(store.pool(), store.generation(), at, BATCH).await?;
        let Some(last) = batch.last().map(|e| e.at) else {
            watcher.wait().await;
            idle += 1;
            // Every few idle seconds: is the role still ours, is the stream still there?
            if idle.is_multiple_of(50) {
                role.check().await?;
                nats::ensure_stream(client).await?;
            }
            continue;
        };
        publish(&context, &batch).await?;
        if !event_store::advance(store.pool(), CHECKPOINT, at, last).await? {
            return Err(RelayError::Overtaken);
        }
        at = last;
    }
}

async fn publish(context: &jetstream::Context, batch: &[RecordedEvent]) -> Result<(), NatsError> {
    let mut messages = Vec::with_capacity(batch.len());
    for event in batch {
        messages.push((
            event.event_id,
            nats::subject(event.workspace_id, &event.aggregate_type, &event.event_type),
            cloud_event(event)?,
        ));
    }
    let sends = stream::iter(messages).map(|(id, subject, body)| {
        let context = context.clone();
        async move {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", id.to_string());
            headers.insert("Content-Type", "application/cloudevents+json");
            let ack = context.publish_with_headers(subject, headers, body.into()).await.map_err(NatsError::of)?;
            let ack = tokio::time::timeout(ACK, ack.into_future()).await.map_err(NatsError::of)?;
            ack.map(|_| ()).map_err(NatsError::of)
        }
    });
    // Sent in order, up to WINDOW unacknowledged.
    let mut answers = sends.buffered(WINDOW);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

/// CloudEvents 1.0, structured. Sealed fields stay sealed.
pub(crate) fn cloud_event(event: &RecordedEvent) -> Result<Vec<u8>, NatsError> {
    let data = RawValue::from_string(event.payload.clone()).map_err(NatsError::of)?;
    let sequence = pad(event.at);
    let envelope = json!({
        "specversion": "1.0",
        "id": event.event_id,
        "source": format!("/workspaces/{}", event.workspace_id),
        "type": event.event_type,
        "subject": format!("{}/{}", event.aggregate_type, event.aggregate_id),
        "time": event.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        "datacontenttype": "application/json",
        "sequence": sequence,
        "workspaceid": event.workspace_id,
        "aggregateid": event.aggregate_id,
        "aggregateseq": event.sequence,
        "position": event.at.to_string(),
        "data": data,
    });
    serde_json::to_vec(&envelope).map_err(NatsError::of)
}

/// The log's order as text: compared as text, it stays that order.
fn pad(at: LogPosition) -> String {
    format!("{:08}.{:020}.{:019}", at.generation, at.transaction_id, at.position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_compare_as_text() {
        let at = |t, p| pad(LogPosition { generation: 1, transaction_id: t, position: p });
        assert!(at(9, 100) < at(10, 1));
        assert!(at(10, 9) < at(10, 10));
    }
}
