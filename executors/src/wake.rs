//! Work that NATS wakes: reads a consumer and hands each event's CloudEvent to a handler, some at once.

use std::{future::Future, sync::Arc, time::Duration};

use domain::ids::WebhookId;
use futures::StreamExt;
use serde::Deserialize;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::nats::{self, NatsError};

/// The part of a CloudEvent that workers need.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Wake {
    #[serde(rename = "type")]
    pub event_type: String,
    pub workspaceid: Uuid,
    pub aggregateid: Uuid,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    #[serde(default)]
    webhook_id: Option<WebhookId>,
}

impl Wake {
    /// Of a delivery's event: its webhook.
    pub(crate) fn webhook(&self) -> Option<WebhookId> {
        self.data.as_ref()?.webhook_id
    }
}

pub(crate) struct Work<'a> {
    pub client: &'a async_nats::Client,
    pub name: &'a str,
    pub filter: &'a str,
    pub at_once: usize,
    pub ack_wait: Duration,
}

/// Runs until the connection or the consumer is lost. Messages are acknowledged when taken over: a lost wake-up is
/// found by the sweep, so that a slow execution never blocks or repeats a message.
pub(crate) async fn consume<F>(work: Work<'_>, handle: impl Fn(Wake) -> F) -> Result<(), NatsError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let stream = nats::ensure_stream(work.client).await?;
    let consumer = nats::consumer(&stream, work.name, work.filter, work.ack_wait).await?;
    let mut messages = consumer
        .stream()
        .max_messages_per_batch(work.at_once.clamp(1, 256))
        .heartbeat(Duration::from_secs(5))
        .expires(Duration::from_secs(15))
        .messages()
        .await
        .map_err(NatsError::of)?;
    let places = Arc::new(Semaphore::new(work.at_once.max(1)));
    while let Some(message) = messages.next().await {
        let message = message.map_err(NatsError::of)?;
        let wake = serde_json::from_slice::<Wake>(&message.payload);
        message.ack().await.map_err(NatsError::of)?;
        let wake = match wake {
            Ok(wake) => wake,
            Err(error) => {
                tracing::warn!(consumer = work.name, %error, "a message that is no event of ours is passed over");
                continue;
            }
        };
        let place = places.clone().acquire_owned().await.map_err(NatsError::of)?;
        let task = handle(wake);
        tokio::spawn(async move {
            task.await;
            drop(place);
        });
    }
    Err(NatsError("the consumer ended".into()))
}
