//! Outgoing webhooks: each event to each subscription once by id, signed, retried, recorded.
//!
//! Fed from NATS; a slow sweep of the log from its own checkpoint finds what NATS lost. Scheduling twice is harmless:
//! a delivery's id is made of webhook and event.

mod body;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use commands::{App, Context, Failure, webhook::record_delivery};
use domain::{
    delivery::{Delivery, DeliveryCommand, DeliveryStatus},
    event::RecordedEvent,
    ids::{DeliveryId, EventId, WebhookId, WorkspaceId},
    webhook::{Webhook, public_name, subscribes},
};
use hmac::{Hmac, KeyInit, Mac};
use integrations::egress::{Egress, OutboundRequest};
use projections::{Due, QueryError, ReadModels, SystemReads};
use sha2::Sha256;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Liveness,
    nats::NatsError,
    supervise::supervise,
    wake::{Wake, Work, consume},
};

/// Attempts of this process at one time.
const AT_ONCE: usize = 64;
/// Due deliveries looked at in one go: more than can be under way, so that those do not hide the rest.
const LOOK_AT: i64 = 4 * AT_ONCE as i64;
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
    places: Arc<Semaphore>,
    under_way: UnderWay,
}

/// The deliveries this process is at, so that it picks none twice.
#[derive(Clone, Default)]
struct UnderWay(Arc<Mutex<HashSet<DeliveryId>>>);

impl UnderWay {
    /// `None`: it is under way already. The mark goes when what is given is dropped.
    fn mark(&self, id: DeliveryId) -> Option<Mark> {
        let new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        new.then(|| Mark { set: self.clone(), id })
    }
}

struct Mark {
    set: UnderWay,
    id: DeliveryId,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.set.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// What is needed of an event to deliver it.
struct Source {
    workspace: WorkspaceId,
    event: RecordedEvent,
}

impl Dispatcher {
    pub fn new(app: App, egress: Egress, liveness: Liveness, reads: SystemReads, read_models: ReadModels) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { app, egress, liveness, reads, read_models, places, under_way: UnderWay::default() }
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
            Some(event) => {
                let workspace = WorkspaceId(event.workspace_id);
                for delivery in self.schedule_all(event).await? {
                    self.begin(workspace, delivery).await;
                }
                Ok(())
            }
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
        let hooks = self.reads.webhooks_of(workspace).await.map_err(|error| match error {
            QueryError::Database(e) => Failure::Unavailable(e.to_string()),
            other => Failure::Internal(other.to_string()),
        })?;
        Ok(hooks.into_iter().filter(|h| subscribes(&h.events, name)).map(|h| (h.id, h.created_at)).collect())
    }

    /// Schedules the event's deliveries; gives those that are new. A webhook that cannot be served stops no other.
    async fn schedule_all(&self, event: RecordedEvent) -> Result<Vec<DeliveryId>, Failure> {
        let Some(name) = public_name(&event.event_type).map(str::to_owned) else { return Ok(vec![]) };
        let source = Source { workspace: WorkspaceId(event.workspace_id), event };
        let mut new = Vec::new();
        for (webhook, made) in self.subscribers(source.workspace, &source.event.event_type).await? {
            // A webhook hears of what comes after it, whenever the event is looked at.
            if made > source.event.recorded_at {
                continue;
            }
            let delivery = DeliveryId(Uuid::new_v5(&webhook.0, source.event.event_id.as_bytes()));
            match self.schedule(&source, webhook, delivery, &name).await {
                Ok(true) => new.push(delivery),
                Ok(false) => {}
                Err(Failure::Unavailable(reason)) => return Err(Failure::Unavailable(reason)),
                Err(error) => {
                    tracing::error!(event = %source.event.event_id, %webhook, %error, "a delivery cannot be scheduled");
                }
            }
        }
        Ok(new)
    }

    /// Waits for a place, then makes an attempt in a task of its own.
    async fn begin(&self, workspace: WorkspaceId, id: DeliveryId) {
        let Some(mark) = self.under_way.mark(id) else { return };
        // Never closed: no place means that the process ends.
        let Ok(place) = self.places.clone().acquire_owned().await else { return };
        let dispatcher = self.clone();
        tokio::spawn(async move {
            if let Err(error) = dispatcher.attempt(workspace, id).await {
                tracing::warn!(delivery = %id, %error, "a delivery's attempt could not be made or recorded");
            }
            drop((mark, place));
        });
    }

    async fn schedule(&self, source: &Source, webhook: WebhookId, id: DeliveryId, name: &str) -> Result<bool, Failure> {
        let body = body::of(&source.event, name);
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
        let end = match self.post(&context, id, &delivery).await {
            Ok(end) => end,
            Err(Failure::Unavailable(reason)) => return Err(Failure::Unavailable(reason)),
            // Its key is destroyed, or a row cannot be read: no later attempt fares better.
            Err(error) => {
                tracing::error!(delivery = %id, %error, "a delivery can never be sent");
                self.failed(&delivery, None, "the event or the webhook's secret cannot be read".into(), 0, None, true)
            }
        };
        record_delivery(&self.app, &context, id, || end.clone()).await?;
        Ok(())
    }

    async fn post(&self, context: &Context, id: DeliveryId, delivery: &Delivery) -> Result<DeliveryCommand, Failure> {
        let workspace = context.actor.workspace;
        let hook = self.app.store().load::<Webhook>(delivery.webhook.0).await?.state;
        let (Some(secret), Some(body), true) = (&hook.secret, &delivery.body, hook.is_live() && hook.active) else {
            return Ok(self.failed(delivery, None, "the webhook was deleted or switched off".into(), 0, None, true));
        };
        let secret = self.app.vault().open_sealed(workspace, "webhook.secret", secret).await?;
        let body = self.app.vault().open_sealed(workspace, "delivery.body", body).await?;
        let timestamp = self.app.now().timestamp();
        let signature = sign(&secret, &id.to_string(), timestamp, &body);
        let request = OutboundRequest::new(http::Method::POST, hook.url.as_str())
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
            Ok(answer) if (200..300).contains(&answer.status) => DeliveryCommand::RecordSuccess {
                attempt: delivery.attempt,
                executor: delivery.executor.clone(),
                status: answer.status,
                elapsed_ms: answer.elapsed.as_millis() as u64,
            },
            Ok(answer) => {
                let gone = answer.status == 410;
                if gone {
                    self.switch_off(context, delivery.webhook).await?;
                }
                let after = answer.header("retry-after").and_then(|v| v.trim().parse().ok());
                let words = format!("the receiver answered {}", answer.status);
                self.failed(delivery, Some(answer.status), words, answer.elapsed.as_millis() as u64, after, gone)
            }
            Err(error) => self.failed(delivery, None, error.to_string(), 0, None, false),
        })
    }

    /// The failure of the attempt that `delivery` is at.
    fn failed(
        &self,
        delivery: &Delivery,
        status: Option<u16>,
        error: String,
        elapsed_ms: u64,
        retry_after: Option<i64>,
        last: bool,
    ) -> DeliveryCommand {
        let (attempt, executor) = (delivery.attempt, delivery.executor.clone());
        DeliveryCommand::RecordFailure {
            attempt,
            executor,
            status,
            error,
            elapsed_ms,
            now: self.app.now(),
            retry_after,
            last,
        }
    }

    /// After a 410. A webhook that was deleted meanwhile is as good as switched off.
    async fn switch_off(&self, context: &Context, webhook: WebhookId) -> Result<(), Failure> {
        match commands::webhook::disable(&self.app, context, webhook, "the receiver answered 410").await {
            Err(Failure::Unavailable(reason)) => Err(Failure::Unavailable(reason)),
            Err(error) => {
                tracing::warn!(%webhook, %error, "a webhook could not be switched off");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Retries that are due, what the log sweep scheduled, and attempts whose dispatcher died.
    async fn due(&self) -> Result<(), NatsError> {
        loop {
            tokio::time::sleep(SWEEP).await;
            let due = self.reads.deliveries_due(self.app.now(), LOOK_AT).await.map_err(NatsError::of)?;
            for Due { workspace, id } in due {
                self.begin(workspace, id).await;
            }
        }
    }

    /// Reads the log itself, some seconds behind: with NATS wiped, everything is still delivered. Schedules only, so
    /// that no receiver holds it up; `due` makes the attempts.
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
                let id = event.event_id;
                match self.schedule_all(event).await {
                    Ok(_) => {}
                    Err(Failure::Unavailable(reason)) => return Err(NatsError(reason)),
                    // It would stop all events after it, those of other workspaces too.
                    Err(error) => tracing::error!(event = %id, %error, "an event cannot be dispatched: passed over"),
                }
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
    fn nothing_is_under_way_twice() {
        let under_way = UnderWay::default();
        let (one, other) = (DeliveryId(Uuid::from_u128(1)), DeliveryId(Uuid::from_u128(2)));
        let mark = under_way.mark(one);
        assert!(mark.is_some() && under_way.mark(one).is_none() && under_way.mark(other).is_some());
        drop(mark);
        assert!(under_way.mark(one).is_some());
    }
}
