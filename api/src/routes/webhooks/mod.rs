//! Outgoing webhooks: where events go, and which ones.

mod deliveries;

use commands::webhook::{self as use_cases, CreateWebhook};
pub use deliveries::DeliveriesApi;
use domain::{error::Code, event::LogPosition, ids::WebhookId, webhook::WebhookPatch};
use poem_openapi::{Enum, Object, OpenApi, param::Path};
use projections::WebhookView;
use secrecy::ExposeSecret;

use super::{Deleted, Tag, name_of};
use crate::{
    answer::{Answer, Written},
    auth::{
        Permit,
        grant::{WebhookRead, WebhookWrite},
    },
    body::Body,
    pagination::{Pagination, listing},
    problem::Problem,
    query::Asked,
    types::{Id, Secret, Time},
};

pub struct WebhooksApi;

listing! {
    /// What a list of webhooks may be asked.
    pub struct WebhookList sorted by "createdAt,updatedAt,name" {
        "status" = "some:active,inactive", "State.";
        "event" = "string", "Subscribed to exactly this.";
        "search" = "string", "Part of the name or URL.";
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct CreateWebhookBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
    #[oai(validator(min_length = 8, max_length = 2048))]
    url: String,
    /// Public names, `connection.*`, or `*` for all; `GET webhooks/event-types` lists them.
    #[oai(validator(min_items = 1, max_items = 100))]
    events: Vec<String>,
    /// `whsec_` and 24 to 64 bytes in base64; made when absent.
    secret: Option<Secret>,
}

#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum WebhookStatusName {
    Active,
    Inactive,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct PatchWebhookBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    name: Option<String>,
    #[oai(validator(min_length = 8, max_length = 2048))]
    url: Option<String>,
    #[oai(validator(min_items = 1, max_items = 100))]
    events: Option<Vec<String>>,
    status: Option<WebhookStatusName>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct PutWebhookBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
    #[oai(validator(min_length = 8, max_length = 2048))]
    url: String,
    #[oai(validator(min_items = 1, max_items = 100))]
    events: Vec<String>,
    /// `active` when absent.
    status: Option<WebhookStatusName>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct WebhookJson {
    id: String,
    name: String,
    url: String,
    events: Vec<String>,
    /// `active` or `inactive`.
    status: String,
    success_count: i64,
    /// Failed attempts.
    failure_count: i64,
    last_triggered_at: Option<Time>,
    created_at: Time,
    updated_at: Time,
    version: i64,
}

impl From<WebhookView> for WebhookJson {
    fn from(view: WebhookView) -> Self {
        Self {
            id: view.id.to_string(),
            name: view.name,
            url: view.url,
            events: view.events,
            status: name_of(view.status),
            success_count: view.success_count,
            failure_count: view.failure_count,
            last_triggered_at: view.last_triggered_at.map(Time),
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            version: view.version,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreatedWebhookJson {
    id: String,
    name: String,
    url: String,
    events: Vec<String>,
    status: String,
    /// Signs every delivery. It is shown here and never again.
    secret: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct WebhooksJson {
    webhooks: Vec<WebhookJson>,
    pagination: Pagination,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct EventTypesJson {
    event_types: Vec<String>,
}

/// The webhook, or 404.
async fn find<P>(permit: &Permit<P>, id: WebhookId) -> Result<WebhookView, Problem> {
    let found = permit.reads().webhook(permit.workspace(), id).await?;
    found.ok_or_else(|| Problem::not_found(Code::WebhookNotFound, "webhook"))
}

async fn stored(
    permit: &Permit<WebhookWrite>,
    id: WebhookId,
    at: LogPosition,
) -> Result<Written<WebhookJson>, Problem> {
    if permit.shows(at).await
        && let Some(view) = permit.reads().webhook(permit.workspace(), id).await?
    {
        let version = view.version;
        return Ok(Written::Usual(Answer::new(view.into()).message("Webhook updated.").version(version).at(at)));
    }
    Ok(permit.lagging(id, at))
}

fn active(status: WebhookStatusName) -> bool {
    matches!(status, WebhookStatusName::Active)
}

#[OpenApi(tag = "Tag::Webhooks")]
impl WebhooksApi {
    /// List webhooks
    #[oai(path = "/webhooks", method = "get", operation_id = "listWebhooks")]
    async fn list(
        &self,
        permit: Permit<WebhookRead>,
        asked: Asked<WebhookList>,
    ) -> Result<Answer<WebhooksJson>, Problem> {
        let WebhookList { filter, page } = asked.0;
        let listed = permit.reads().webhooks(permit.workspace(), &filter, &page).await?;
        let pagination = Pagination::of(&listed);
        Ok(Answer::new(WebhooksJson { webhooks: listed.items.into_iter().map(Into::into).collect(), pagination }))
    }

    /// Create a webhook
    ///
    /// Deliveries are signed after Standard Webhooks: check `webhook-signature` with the secret, which is shown once.
    /// `POST webhooks/outgoing` does the same.
    #[oai(path = "/webhooks", method = "post", operation_id = "createWebhook")]
    async fn create(
        &self,
        permit: Permit<WebhookWrite>,
        body: Body<CreateWebhookBody>,
    ) -> Result<Answer<CreatedWebhookJson, 201>, Problem> {
        let CreateWebhookBody { name, url, events, secret } = body.0;
        let input = CreateWebhook {
            name: name.clone(),
            url: url.clone(),
            events: events.clone(),
            secret: secret.map(|secret| secret.0),
        };
        let done = use_cases::create(permit.app(), permit.context(), input).await?;
        permit.wrote(done.at);
        let (id, secret) = (done.value.id.to_string(), done.value.secret.expose_secret().to_owned());
        let created = CreatedWebhookJson { id, name, url, events, status: "active".into(), secret };
        let answer = Answer::new(created).message("Keep the secret: it is not shown again.");
        Ok(answer.version(1).at(done.at).shown_once("secret"))
    }

    /// List event types
    ///
    /// What webhooks can subscribe to.
    #[oai(path = "/webhooks/event-types", method = "get", operation_id = "listWebhookEventTypes")]
    async fn event_types(&self, _permit: Permit<WebhookRead>) -> Result<Answer<EventTypesJson>, Problem> {
        let names = domain::catalogue::public_names();
        Ok(Answer::new(EventTypesJson { event_types: names.into_iter().map(str::to_owned).collect() }))
    }

    /// Get a webhook
    #[oai(path = "/webhooks/:id", method = "get", operation_id = "getWebhook")]
    async fn get(&self, permit: Permit<WebhookRead>, id: Path<Id<WebhookId>>) -> Result<Answer<WebhookJson>, Problem> {
        let view = find(&permit, id.typed("id")?).await?;
        let version = view.version;
        Ok(Answer::new(view.into()).version(version))
    }

    /// Change a webhook
    ///
    /// Fields that are absent stay.
    #[oai(path = "/webhooks/:id", method = "patch", operation_id = "updateWebhook")]
    async fn update(
        &self,
        permit: Permit<WebhookWrite>,
        id: Path<Id<WebhookId>>,
        body: Body<PatchWebhookBody>,
    ) -> Result<Written<WebhookJson>, Problem> {
        let id = id.typed("id")?;
        let expected = permit.expected_version()?;
        let PatchWebhookBody { name, url, events, status } = body.0;
        let patch = WebhookPatch { name, url, events, active: status.map(active) };
        let done = use_cases::update(permit.app(), permit.context(), id, expected, patch).await?;
        stored(&permit, id, done.at).await
    }

    /// Replace a webhook
    ///
    /// The signing secret stays.
    #[oai(path = "/webhooks/:id", method = "put", operation_id = "replaceWebhook")]
    async fn replace(
        &self,
        permit: Permit<WebhookWrite>,
        id: Path<Id<WebhookId>>,
        body: Body<PutWebhookBody>,
    ) -> Result<Written<WebhookJson>, Problem> {
        let id = id.typed("id")?;
        let expected = permit.expected_version()?;
        let PutWebhookBody { name, url, events, status } = body.0;
        let active = Some(status.is_none_or(active));
        let patch = WebhookPatch { name: Some(name), url: Some(url), events: Some(events), active };
        let done = use_cases::update(permit.app(), permit.context(), id, expected, patch).await?;
        stored(&permit, id, done.at).await
    }

    /// Delete a webhook
    ///
    /// Deliveries that wait are given up.
    #[oai(path = "/webhooks/:id", method = "delete", operation_id = "deleteWebhook")]
    async fn delete(&self, permit: Permit<WebhookWrite>, id: Path<Id<WebhookId>>) -> Result<Answer<Deleted>, Problem> {
        let id = id.typed("id")?;
        let done = use_cases::delete(permit.app(), permit.context(), id).await?;
        permit.wrote(done.at);
        Ok(Answer::new(Deleted::of(id)).message("Webhook deleted.").at(done.at))
    }
}
