//! Deliveries: one event on its way to one webhook, with every attempt.

use domain::{
    error::Code,
    ids::{DeliveryId, WebhookId},
};
use poem_openapi::{Object, OpenApi, param::Path};
use projections::{DeliveryAttempt, DeliveryView};
use serde_json::Value;

use super::find;
use crate::{
    answer::{Answer, Stored},
    auth::{
        Permit,
        grant::{WebhookRead, WebhookWrite},
    },
    pagination::{Pagination, listing},
    problem::Problem,
    query::Asked,
    routes::{Tag, name_of},
    types::{Id, Time},
};

pub struct DeliveriesApi;

listing! {
    /// What a list of deliveries may be asked.
    pub struct DeliveryList sorted by "createdAt,endedAt" {
        "status" = "some:pending,delivering,succeeded,failed", "State.";
        "eventType" = "string", "A public event name.";
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct DeliveryAttemptJson {
    attempt: u32,
    started_at: Time,
    completed_at: Option<Time>,
    /// What the receiver answered.
    http_status: Option<u16>,
    error: Option<String>,
    /// Milliseconds.
    duration: Option<u64>,
    retry_at: Option<Time>,
}

impl From<DeliveryAttempt> for DeliveryAttemptJson {
    fn from(attempt: DeliveryAttempt) -> Self {
        Self {
            attempt: attempt.attempt,
            started_at: attempt.started_at.into(),
            completed_at: attempt.ended_at.map(Time),
            http_status: attempt.http_status,
            error: attempt.error,
            duration: attempt.duration_ms,
            retry_at: attempt.retry_at.map(Time),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct DeliveryJson {
    /// Also the `webhook-id` header: the same in every attempt.
    id: String,
    webhook_id: String,
    /// The event in the log.
    event_id: String,
    event_type: String,
    /// `pending`, `delivering`, `succeeded` or `failed`.
    status: String,
    attempt: u32,
    attempts: Vec<DeliveryAttemptJson>,
    next_attempt_at: Option<Time>,
    created_at: Time,
    completed_at: Option<Time>,
    /// What is sent. Only of a single delivery.
    body: Option<Value>,
}

impl DeliveryJson {
    fn of(view: DeliveryView, body: Option<Value>) -> Self {
        Self {
            id: view.id.to_string(),
            webhook_id: view.webhook_id.to_string(),
            event_id: view.source_event_id.to_string(),
            event_type: view.event_type,
            status: name_of(view.status),
            attempt: view.attempt,
            attempts: view.attempts.into_iter().map(Into::into).collect(),
            next_attempt_at: view.next_attempt_at.map(Time),
            created_at: view.created_at.into(),
            completed_at: view.ended_at.map(Time),
            body,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct DeliveriesJson {
    deliveries: Vec<DeliveryJson>,
    pagination: Pagination,
}

#[OpenApi(tag = "Tag::Webhooks")]
impl DeliveriesApi {
    /// List a webhook's deliveries
    ///
    /// Newest first.
    #[oai(path = "/webhooks/:id/deliveries", method = "get", operation_id = "listDeliveries")]
    async fn list(
        &self,
        permit: Permit<WebhookRead>,
        id: Path<Id<WebhookId>>,
        asked: Asked<DeliveryList>,
    ) -> Result<Answer<DeliveriesJson>, Problem> {
        let webhook = find(&permit, id.typed("id")?).await?;
        let DeliveryList { filter, page } = asked.0;
        let listed = permit.reads().deliveries_of(permit.workspace(), webhook.id, &filter, &page).await?;
        let pagination = Pagination::of(&listed);
        let deliveries = listed.items.into_iter().map(|view| DeliveryJson::of(view, None)).collect();
        Ok(Answer::new(DeliveriesJson { deliveries, pagination }))
    }

    /// Get a delivery
    ///
    /// With the body that is sent.
    #[oai(path = "/webhooks/:id/deliveries/:deliveryId", method = "get", operation_id = "getDelivery")]
    async fn get(
        &self,
        permit: Permit<WebhookRead>,
        id: Path<Id<WebhookId>>,
        #[oai(name = "deliveryId")] delivery_id: Path<Id<DeliveryId>>,
    ) -> Result<Answer<DeliveryJson>, Problem> {
        let webhook = find(&permit, id.typed("id")?).await?;
        let found = permit.reads().delivery(permit.workspace(), delivery_id.typed("deliveryId")?).await?;
        let view = found.filter(|view| view.webhook_id == webhook.id);
        let view = view.ok_or_else(|| Problem::not_found(Code::ResourceNotFound, "delivery"))?;
        let text = commands::open::text(permit.app(), permit.context(), "delivery.body", &view.body).await;
        let body = text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
        Ok(Answer::new(DeliveryJson::of(view, body)))
    }

    /// Send a delivery again
    ///
    /// A new round of attempts, at once, with the same id and body.
    #[oai(path = "/webhooks/:id/deliveries/:deliveryId/resend", method = "post", operation_id = "resendDelivery")]
    async fn resend(
        &self,
        permit: Permit<WebhookWrite>,
        id: Path<Id<WebhookId>>,
        #[oai(name = "deliveryId")] delivery_id: Path<Id<DeliveryId>>,
    ) -> Result<Answer<Stored, 202>, Problem> {
        let (webhook, delivery) = (id.typed("id")?, delivery_id.typed("deliveryId")?);
        let done = commands::webhook::resend(permit.app(), permit.context(), webhook, delivery).await?;
        permit.wrote(done.at);
        Ok(Answer::new(Stored { id: delivery.to_string() }).message("It is sent again.").at(done.at))
    }
}
