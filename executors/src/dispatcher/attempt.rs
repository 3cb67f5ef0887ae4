//! One attempt at a delivery: begun in the log, posted, signed, recorded.

use base64::{Engine, engine::general_purpose::STANDARD};
use commands::{Context, Failure, webhook::record_delivery};
use domain::{
    delivery::{Delivery, DeliveryCommand, DeliveryStatus},
    ids::{DeliveryId, WebhookId},
    webhook::Webhook,
};
use hmac::{Hmac, KeyInit, Mac};
use integrations::egress::{OutboundRequest, Scope};
use sha2::Sha256;

use super::{Dispatcher, LEASE, TIMEOUT, places::Job};

impl Dispatcher {
    /// One attempt, if it is due and nobody else makes it; `begun`: it is this node's and in the log already.
    pub(super) async fn attempt(&self, job: Job, begun: Option<Delivery>) -> Result<(), Failure> {
        let (context, id) = (self.context(job), job.id);
        let delivery = match begun {
            Some(delivery) => delivery,
            None => match self.begin(&context, id).await? {
                Some(delivery) => delivery,
                None => return Ok(()),
            },
        };
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

    /// `None`: it is not due, or somebody else is at it.
    async fn begin(&self, context: &Context, id: DeliveryId) -> Result<Option<Delivery>, Failure> {
        let now = self.app.now();
        let start = || DeliveryCommand::StartAttempt {
            executor: self.liveness.name().to_owned(),
            lease_until: now + LEASE,
            now,
        };
        let (delivery, mine) = record_delivery(&self.app, context, id, start).await?;
        Ok((mine && delivery.status == DeliveryStatus::Delivering).then_some(delivery))
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
            // No connection: deliveries have a schedule of their own, which a circuit breaker would use up.
            .scope(Scope { workspace: Some(workspace), ..Scope::default() })
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
                let after = answer.retry_after.map(|time| time.as_millis().div_ceil(1_000) as i64);
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
}
