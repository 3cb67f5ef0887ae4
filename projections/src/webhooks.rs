//! Outgoing webhooks and how their deliveries fare. The signing secret is not here: it stays sealed in the log.

use chrono::{DateTime, Utc};
use domain::{
    delivery::DeliveryEvent,
    ids::{WebhookId, WorkspaceId},
    webhook::WebhookEvent,
};
use serde::{Deserialize, Serialize};

use crate::{
    deliveries::{self, DeliveryView, Outcome},
    fault::Fault,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
    read::{QueryError, ReadModels},
    row::{Key, id, row},
    table::{Rows, Table},
    view::{Fact, Item, View},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookStatus {
    Active,
    Inactive,
}

row! {
    pub struct WebhookView in "webhooks" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: WebhookId,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        pub name: String,
        pub url: String,
        /// Public names, `connection.*` or `*`.
        pub events: Vec<String>,
        pub status: WebhookStatus,
        pub created_at: DateTime<Utc>,
        pub updated_at: DateTime<Utc>,
        /// The end of the last attempt.
        pub last_triggered_at: Option<DateTime<Utc>>,
        pub success_count: i64,
        /// Failed attempts.
        pub failure_count: i64,
        /// The stream's last sequence; deliveries do not count.
        pub version: i64,
    }
}

const LIST: ListSpec = ListSpec {
    order: Order::Time("created_at"),
    filters: &[("status", "status", Kind::Text), ("event", "events", Kind::Element)],
    sorts: &[("createdAt", "created_at"), ("updatedAt", "updated_at"), ("name", "name")],
    search: &["name", "url"],
};

impl ReadModels {
    /// Filters: `status`, `event`. Sorts: `createdAt`, `updatedAt`, `name`. Search: name, URL.
    pub async fn webhooks(
        &self,
        workspace: WorkspaceId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<WebhookView>, QueryError> {
        self.list(workspace, &LIST, filter, page).await
    }

    pub async fn webhook(&self, workspace: WorkspaceId, id: WebhookId) -> Result<Option<WebhookView>, QueryError> {
        self.get(workspace, id.0).await
    }
}

/// Webhooks and deliveries in one working set: a delivery's end changes its webhook's counters.
#[derive(Default)]
pub(crate) struct Webhooks {
    hooks: Table<WebhookView>,
    deliveries: Table<DeliveryView>,
    /// Deliveries that a batch touches: their webhooks are wanted when they are here.
    touched: Vec<Key>,
}

impl View for Webhooks {
    fn name(&self) -> &'static str {
        "webhooks"
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "webhook.created",
            "webhook.updated",
            "webhook.disabled",
            "webhook.deleted",
            "delivery.scheduled",
            "delivery.attempt_started",
            "delivery.attempt_failed",
            "delivery.succeeded",
            "delivery.exhausted",
            "delivery.resent",
        ]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        match item.fact()? {
            Fact::Webhook(_) => self.hooks.want_own(&item.recorded),
            Fact::Delivery(event) => {
                self.deliveries.want_own(&item.recorded);
                self.touched.push(Key::of(item.recorded.aggregate_id));
                if let DeliveryEvent::Scheduled { webhook_id, .. } = event {
                    self.hooks.want(Key::of(*webhook_id));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn want_more(&mut self) {
        for delivery in self.touched.drain(..) {
            if let Some(row) = self.deliveries.get(&delivery) {
                self.hooks.want(Key::of(row.webhook_id));
            }
        }
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.hooks, &mut self.deliveries]
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        match item.fact()? {
            Fact::Webhook(event) => self.fold_webhook(item, event),
            Fact::Delivery(event) => self.fold_delivery(item, event),
            _ => {}
        }
        Ok(())
    }
}

impl Webhooks {
    fn fold_webhook(&mut self, item: &Item, event: &WebhookEvent) {
        let recorded = &item.recorded;
        let key = Key::of(recorded.aggregate_id);
        if let WebhookEvent::Created { name, url, events, .. } = event {
            self.hooks.put(WebhookView {
                id: WebhookId(recorded.aggregate_id),
                workspace_id: WorkspaceId(recorded.workspace_id),
                name: name.clone(),
                url: url.clone(),
                events: events.clone(),
                status: WebhookStatus::Active,
                created_at: recorded.recorded_at,
                updated_at: recorded.recorded_at,
                last_triggered_at: None,
                success_count: 0,
                failure_count: 0,
                version: recorded.sequence,
            });
            return;
        }
        let Some(row) = self.hooks.change(&key) else { return };
        row.updated_at = recorded.recorded_at;
        row.version = recorded.sequence;
        match event {
            WebhookEvent::Created { .. } => {}
            WebhookEvent::Updated { name, url, events, active } => {
                row.name = name.clone().unwrap_or_else(|| std::mem::take(&mut row.name));
                row.url = url.clone().unwrap_or_else(|| std::mem::take(&mut row.url));
                row.events = events.clone().unwrap_or_else(|| std::mem::take(&mut row.events));
                row.status = match active {
                    Some(true) => WebhookStatus::Active,
                    Some(false) => WebhookStatus::Inactive,
                    None => row.status,
                };
            }
            WebhookEvent::Disabled { .. } => row.status = WebhookStatus::Inactive,
            WebhookEvent::Deleted {} => self.hooks.remove(&key),
        }
    }

    fn fold_delivery(&mut self, item: &Item, event: &DeliveryEvent) {
        let recorded = &item.recorded;
        if let Some(row) = deliveries::scheduled(recorded, event) {
            self.deliveries.put(row);
            return;
        }
        let Some(row) = self.deliveries.change(&Key::of(recorded.aggregate_id)) else { return };
        let outcome = deliveries::fold(row, event, recorded.recorded_at);
        let hook = Key::of(row.webhook_id);
        if outcome == Outcome::None {
            return;
        }
        if let Some(hook) = self.hooks.change(&hook) {
            hook.last_triggered_at = Some(recorded.recorded_at);
            hook.success_count += i64::from(outcome == Outcome::Delivered);
            hook.failure_count += i64::from(outcome == Outcome::Missed);
        }
    }
}
