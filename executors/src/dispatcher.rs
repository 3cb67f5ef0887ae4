//! Outgoing webhooks: each event to each subscription once by id, signed, retried, recorded.
//!
//! Fed from NATS; a slow sweep of the log from its own checkpoint finds what NATS lost. Scheduling twice is harmless:
//! a delivery's id is made of webhook and event.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use commands::{App, Context, Failure, webhook::record_delivery};
use domain::{
    delivery::{Delivery, DeliveryCommand, DeliveryStatus},
    event::RecordedEvent,
    ids::{DeliveryId, EventId, WebhookId, WorkspaceId},
    webhook::{Webhook, public_name, subscribes},
};
use hmac::{Hmac, KeyInit, Mac};
use integrations::egress::{Egress, OutboundRequest};
use projections::{Due, ReadModels, SystemReads};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Liveness,
    nats::NatsError,
    supervise::supervise,
    wake::{Wake, Work, consume},
};

const AT_ONCE: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(20);
const SWEEP: Duration = Duration::from_secs(1);
/// The log sweep stays this far behind, so that it finds only what NATS did not bring.
const BEHIND: TimeDelta = TimeDelta::seconds(15);
const CHECKPOINT: &str = "dispatcher";

#[derive(Clone)]
pub struct Dispatcher {
    app: App,
    egress: Egress,
    liveness: Liveness,
    reads: SystemReads,
    read_models: ReadModels,
}

/// What is needed of an event to deliver it.
struct Source {
    workspace: WorkspaceId,
    event: RecordedEvent,
}

impl Dispatcher {
    pub fn new(app: App, egress: Egress, liveness: Liveness, reads: SystemReads, read_models: ReadModels) -> Self {
        Self { app, egress, liveness, reads, read_models }
    }

    pub async fn run(self, client: async_nats::Client, shutdown: CancellationToken) {
        let woken = supervise("webhook dispatcher", shutdown.clone(), || self.consume(&client));
        let due = supervise("webhook retries", shutdown.clone(), || self.due());
        let swept = supervise("webhook sweep", shutdown.clone(), || self.sweep());
        tokio::join!(woken, due, swept);
    }

    async fn consume(&self, client: &async_nats::Client) -> Result<(), NatsError> {
        let work = Work {
            client,
            name: "webhooks",
            filter: "apiq.events.>",
            at_once: AT_ONCE,
            ack_wait: Duration::from_secs(30),
        };
        consume(work, |wake| {
            let dispatcher = self.clone();
            async move { dispatcher.woken(wake).await }
        })
        .await
    }

    async fn woken(&self, wake: Wake) {
        if let Err(error) = self.dispatch(&wake).await {
            tracing::warn!(event = %wake.id, %error, "an event could not be dispatched; the sweep will");
        }
    }

    async fn dispatch(&self, wake: &Wake) -> Result<(), Failure> {
        if public_name(&wake.event_type).is_none() {
            return Ok(());
        }
        // A webhook made just before the event must be known.
        if !self.read_models.wait_for(wake.at(), Duration::from_secs(5)).await {
            return Err(Failure::Unavailable("the read models are behind".into()));
        }
        if self.subscribers(WorkspaceId(wake.workspaceid), &wake.event_type).await?.is_empty() {
            return Ok(());
        }
        match event_store::read_event(self.app.store().pool(), wake.at()).await? {
            Some(event) => self.deliver(event).await,
            None => Ok(()),
        }
    }

    /// Active webhooks that want events of this type, with the time each was made.
    async fn subscribers(
        &self,
        workspace: WorkspaceId,
        event_type: &str,
    ) -> Result<Vec<(WebhookId, DateTime<Utc>)>, Failure> {
        let Some(name) = public_name(event_type) else { return Ok(vec![]) };
        let hooks = self.reads.webhooks_of(workspace).await.map_err(|e| Failure::Unavailable(e.to_string()))?;
        Ok(hooks.into_iter().filter(|h| subscribes(&h.events, name)).map(|h| (h.id, h.created_at)).collect())
    }

    /// Schedules the event's deliveries and makes their first attempts.
    async fn deliver(&self, event: RecordedEvent) -> Result<(), Failure> {
        let Some(name) = public_name(&event.event_type).map(str::to_owned) else { return Ok(()) };
        let source = Source { workspace: WorkspaceId(event.workspace_id), event };
        for (webhook, made) in self.subscribers(source.workspace, &source.event.event_type).await? {
            // A webhook hears of what comes after it, whenever the event is looked at.
            if made > source.event.recorded_at {
                continue;
            }
            let delivery = DeliveryId(Uuid::new_v5(&webhook.0, source.event.event_id.as_bytes()));
            if self.schedule(&source, webhook, delivery, &name).await? {
                self.attempt(source.workspace, delivery).await?;
            }
        }
        Ok(())
    }

    async fn schedule(&self, source: &Source, webhook: WebhookId, id: DeliveryId, name: &str) -> Result<bool, Failure> {
        let body = body(&source.event, name);
        let sealed = self.app.vault().seal(source.workspace, "delivery.body", &body).await?;
        let (_, new) =
            record_delivery(&self.app, &self.context(source.workspace, id), id, || DeliveryCommand::Schedule {
                webhook,
                source: EventId(source.event.event_id),
                event_type: name.to_owned(),
                body: sealed.clone(),
            })
            .await?;
        Ok(new)
    }

    fn context(&self, workspace: WorkspaceId, delivery: DeliveryId) -> Context {
        Context::system(self.liveness.name(), workspace, delivery.0)
    }

    /// One attempt, if it is due and nobody else makes it.
    async fn attempt(&self, workspace: WorkspaceId, id: DeliveryId) -> Result<(), Failure> {
        let context = self.context(workspace, id);
        let now = self.app.now();
        let start = || DeliveryCommand::StartAttempt {
            executor: self.liveness.name().to_owned(),
            lease_until: now + TimeDelta::seconds(30),
            now,
        };
        let (delivery, mine) = record_delivery(&self.app, &context, id, start).await?;
        if !mine || delivery.status != DeliveryStatus::Delivering {
            return Ok(());
        }
        let end = self.post(&context, id, &delivery).await?;
        record_delivery(&self.app, &context, id, || end.clone()).await?;
        Ok(())
    }

    async fn post(&self, context: &Context, id: DeliveryId, delivery: &Delivery) -> Result<DeliveryCommand, Failure> {
        let workspace = context.actor.workspace;
        let hook = self.app.store().load::<Webhook>(delivery.webhook.0).await?.state;
        let failure = |status, error: String, elapsed_ms, retry_after, last| DeliveryCommand::RecordFailure {
            status,
            error,
            elapsed_ms,
            now: self.app.now(),
            retry_after,
            last,
        };
        let (Some(secret), Some(body), true) = (&hook.secret, &delivery.body, hook.is_live() && hook.active) else {
            return Ok(failure(None, "the webhook was deleted or switched off".into(), 0, None, true));
        };
        let secret = self.app.vault().open_sealed(workspace, "webhook.secret", secret).await?;
        let body = self.app.vault().open_sealed(workspace, "delivery.body", body).await?;
        let timestamp = self.app.now().timestamp();
        let signature = sign(&secret, &id.to_string(), timestamp, &body);
        let request = OutboundRequest::new(http_post(), hook.url.as_str())
            .header("Content-Type", "application/json")
            .header("User-Agent", concat!("apiq-webhooks/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id.to_string())
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature)
            .body(body.into_bytes())
            .timeout(TIMEOUT)
            .max_response_bytes(64 * 1024)
            .follow_redirects(false);
        Ok(match self.egress.send(request).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                DeliveryCommand::RecordSuccess { status: answer.status, elapsed_ms: answer.elapsed.as_millis() as u64 }
            }
            Ok(answer) => {
                let gone = answer.status == 410;
                if gone {
                    commands::webhook::disable(&self.app, context, delivery.webhook, "the receiver answered 410")
                        .await?;
                }
                let after = answer.header("retry-after").and_then(|v| v.trim().parse().ok());
                let words = format!("the receiver answered {}", answer.status);
                failure(Some(answer.status), words, answer.elapsed.as_millis() as u64, after, gone)
            }
            Err(error) => failure(None, error.to_string(), 0, None, false),
        })
    }

    /// Retries that are due, and attempts whose dispatcher died.
    async fn due(&self) -> Result<(), NatsError> {
        loop {
            tokio::time::sleep(SWEEP).await;
            let due = self.reads.deliveries_due(self.app.now(), AT_ONCE as i64).await.map_err(NatsError::of)?;
            let attempts = due.into_iter().map(|Due { workspace, id }| async move {
                if let Err(error) = self.attempt(workspace, id).await {
                    tracing::warn!(delivery = %id, %error, "a delivery could not be recorded");
                }
            });
            futures::future::join_all(attempts).await;
        }
    }

    /// Reads the log itself, some seconds behind: with NATS wiped, everything is still delivered.
    async fn sweep(&self) -> Result<(), NatsError> {
        let store = self.app.store();
        let mut at = event_store::checkpoint(store.pool(), CHECKPOINT).await.map_err(NatsError::of)?;
        loop {
            tokio::time::sleep(SWEEP).await;
            let edge = self.app.now() - BEHIND;
            let batch =
                event_store::read_after(store.pool(), store.generation(), at, 500).await.map_err(NatsError::of)?;
            let old: Vec<RecordedEvent> = batch.into_iter().take_while(|e| e.recorded_at <= edge).collect();
            let Some(last) = old.last().map(|e| e.at) else { continue };
            for event in old {
                self.deliver(event).await.map_err(NatsError::of)?;
            }
            if !event_store::advance(store.pool(), CHECKPOINT, at, last).await.map_err(NatsError::of)? {
                // Another node sweeps too: go on from where it is.
                at = event_store::checkpoint(store.pool(), CHECKPOINT).await.map_err(NatsError::of)?;
                continue;
            }
            at = last;
        }
    }
}

fn http_post() -> http::Method {
    http::Method::POST
}

/// `{type, timestamp, data}`. Sealed fields are left out: who may read them asks the API.
fn body(event: &RecordedEvent, name: &str) -> String {
    let mut payload: Value = serde_json::from_str(&event.payload).unwrap_or(Value::Null);
    drop_sealed(&mut payload);
    let size = payload.to_string().len();
    if size > 16 * 1024 {
        payload = json!({ "omitted": format!("{size} bytes; read the event from the API") });
    }
    json!({
        "type": name,
        "timestamp": event.recorded_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "data": {
            "eventId": EventId(event.event_id),
            "workspaceId": WorkspaceId(event.workspace_id),
            "resource": { "type": event.aggregate_type, "id": domain::ids::typed(&event.aggregate_type, event.aggregate_id) },
            "sequence": event.sequence,
            "position": event.at.to_string(),
            "details": payload,
        },
    })
    .to_string()
}

/// Removes every sealed value (`{s, k, n, c}`, or a blob of one).
fn drop_sealed(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !is_sealed(v));
            map.values_mut().for_each(drop_sealed);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_sealed),
        _ => {}
    }
}

fn is_sealed(value: &Value) -> bool {
    let keys = |wanted: &[&str]| {
        value.as_object().is_some_and(|m| m.len() == wanted.len() && wanted.iter().all(|k| m.contains_key(*k)))
    };
    keys(&["s", "k", "n", "c"]) || keys(&["blob", "size"])
}

/// Standard Webhooks: `v1,` and the HMAC-SHA-256 of `id.timestamp.body`.
fn sign(secret: &str, id: &str, timestamp: i64, body: &str) -> String {
    let key = secret.strip_prefix("whsec_").and_then(|t| STANDARD.decode(t).ok()).unwrap_or_default();
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(&key) else { return String::new() };
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_standard() {
        // The example of the Standard Webhooks reference implementations.
        let signature = sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn sealed_values_never_leave() {
        let mut value =
            json!({"a": {"s": "x", "k": 1, "n": "", "c": ""}, "b": {"input": {"blob": "h", "size": 1}, "n": 2}});
        drop_sealed(&mut value);
        assert_eq!(value, json!({"b": {"n": 2}}));
    }
}
