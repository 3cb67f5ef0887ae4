//! Deliveries: one event on its way to one webhook, with its attempts.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    delivery::{DeliveryEvent, DeliveryStatus},
    event::RecordedEvent,
    ids::{DeliveryId, EventId, WebhookId, WorkspaceId},
    sealed::Sealed,
};
use serde::{Deserialize, Serialize};

use crate::{
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
    read::{QueryError, ReadModels},
    row::{Key, id, row},
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryAttempt {
    pub attempt: u32,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    /// What the receiver answered.
    pub http_status: Option<u16>,
    pub error: Option<String>,
    pub duration_ms: Option<u64>,
    pub retry_at: Option<DateTime<Utc>>,
}

row! {
    pub struct DeliveryView in "webhook_deliveries" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: DeliveryId,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        #[serde(with = "id")]
        pub webhook_id: WebhookId,
        #[serde(with = "id")]
        pub source_event_id: EventId,
        /// The public name.
        pub event_type: String,
        pub status: DeliveryStatus,
        pub attempt: u32,
        pub attempts: Vec<DeliveryAttempt>,
        /// The JSON text that is signed and sent.
        pub body: Sealed<String>,
        /// When a sweep should look: the next attempt, or the end of the present one's lease.
        pub next_attempt_at: Option<DateTime<Utc>>,
        pub lease_until: Option<DateTime<Utc>>,
        pub created_at: DateTime<Utc>,
        pub ended_at: Option<DateTime<Utc>>,
    }
}

const LIST: ListSpec = ListSpec {
    order: Order::Time("created_at"),
    filters: &[
        ("webhookId", "webhook_id", Kind::Id("hook")),
        ("status", "status", Kind::Text),
        ("eventType", "event_type", Kind::Text),
    ],
    sorts: &[("createdAt", "created_at"), ("endedAt", "ended_at")],
    search: &[],
};

impl ReadModels {
    /// Deliveries of one webhook. Filters: `status`, `eventType`. Sorts: `createdAt`, `endedAt`.
    pub async fn deliveries_of(
        &self,
        workspace: WorkspaceId,
        webhook: WebhookId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<DeliveryView>, QueryError> {
        let filter = filter.clone().with("webhookId", Some(webhook.to_string()));
        self.list(workspace, &LIST, &filter, page).await
    }

    pub async fn delivery(&self, workspace: WorkspaceId, id: DeliveryId) -> Result<Option<DeliveryView>, QueryError> {
        self.get(workspace, id.0).await
    }
}

/// Seconds that whoever scheduled a delivery has for beginning the first attempt, before a sweep looks.
const FIRST_LOOK: i64 = 5;

pub(crate) fn scheduled(recorded: &RecordedEvent, event: &DeliveryEvent) -> Option<DeliveryView> {
    let DeliveryEvent::Scheduled { webhook_id, source_event_id, event_type, body } = event else { return None };
    Some(DeliveryView {
        id: DeliveryId(recorded.aggregate_id),
        workspace_id: WorkspaceId(recorded.workspace_id),
        webhook_id: *webhook_id,
        source_event_id: *source_event_id,
        event_type: event_type.clone(),
        status: DeliveryStatus::Pending,
        attempt: 0,
        attempts: vec![],
        body: body.clone(),
        next_attempt_at: Some(recorded.recorded_at + TimeDelta::seconds(FIRST_LOOK)),
        lease_until: None,
        created_at: recorded.recorded_at,
        ended_at: None,
    })
}

/// What an event means for the webhook's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Missed,
    None,
}

pub(crate) fn fold(row: &mut DeliveryView, event: &DeliveryEvent, at: DateTime<Utc>) -> Outcome {
    match event {
        DeliveryEvent::Scheduled { .. } => Outcome::None,
        DeliveryEvent::AttemptStarted { attempt, lease_until, .. } => {
            row.attempts.push(DeliveryAttempt {
                attempt: *attempt,
                started_at: at,
                ended_at: None,
                http_status: None,
                error: None,
                duration_ms: None,
                retry_at: None,
            });
            row.status = DeliveryStatus::Delivering;
            row.attempt = *attempt;
            row.lease_until = Some(*lease_until);
            row.next_attempt_at = Some(*lease_until);
            Outcome::None
        }
        DeliveryEvent::AttemptFailed { attempt, status, error, elapsed_ms, retry_at } => {
            // Logs from before `delivery.resent` tell a resend by hand as a failure that ends no attempt.
            let ended = row.status == DeliveryStatus::Delivering;
            if ended && let Some(tried) = row.attempts.iter_mut().rev().find(|a| a.attempt == *attempt) {
                tried.ended_at = Some(at);
                tried.http_status = *status;
                tried.error = Some(error.clone());
                tried.duration_ms = Some(*elapsed_ms);
                tried.retry_at = *retry_at;
            }
            row.status = DeliveryStatus::Pending;
            row.lease_until = None;
            row.next_attempt_at = *retry_at;
            row.ended_at = None;
            if ended { Outcome::Missed } else { Outcome::None }
        }
        DeliveryEvent::Succeeded { attempt, status, elapsed_ms } => {
            if let Some(tried) = row.attempts.iter_mut().rev().find(|a| a.attempt == *attempt) {
                tried.ended_at = Some(at);
                tried.http_status = Some(*status);
                tried.duration_ms = Some(*elapsed_ms);
            }
            finish(row, DeliveryStatus::Succeeded, at);
            Outcome::Delivered
        }
        DeliveryEvent::Exhausted { .. } => {
            finish(row, DeliveryStatus::Failed, at);
            Outcome::None
        }
        // An attempt under way is the new round's first: its lease says when to look.
        DeliveryEvent::Resent { .. } if row.status == DeliveryStatus::Delivering => Outcome::None,
        DeliveryEvent::Resent { resent_at } => {
            row.status = DeliveryStatus::Pending;
            row.lease_until = None;
            row.next_attempt_at = Some(*resent_at);
            row.ended_at = None;
            Outcome::None
        }
    }
}

fn finish(row: &mut DeliveryView, status: DeliveryStatus, at: DateTime<Utc>) {
    row.status = status;
    row.lease_until = None;
    row.next_attempt_at = None;
    row.ended_at = Some(at);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: DeliveryStatus, at: DateTime<Utc>) -> DeliveryView {
        DeliveryView {
            id: DeliveryId::default(),
            workspace_id: WorkspaceId::default(),
            webhook_id: WebhookId::default(),
            source_event_id: EventId::default(),
            event_type: "workflow.created".into(),
            status,
            attempt: 3,
            attempts: vec![],
            body: serde_json::from_value(serde_json::json!({ "s": uuid::Uuid::nil(), "k": 1, "n": "", "c": "" }))
                .unwrap(),
            next_attempt_at: None,
            lease_until: Some(at),
            created_at: at,
            ended_at: Some(at),
        }
    }

    #[test]
    fn sent_again_is_due_at_once_unless_an_attempt_is_under_way() {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let resent = DeliveryEvent::Resent { resent_at: at };
        for status in [DeliveryStatus::Failed, DeliveryStatus::Succeeded, DeliveryStatus::Pending] {
            let mut row = row(status, at);
            assert_eq!(fold(&mut row, &resent, at), Outcome::None);
            assert_eq!((row.status, row.next_attempt_at), (DeliveryStatus::Pending, Some(at)));
            assert_eq!((row.lease_until, row.ended_at, row.attempt), (None, None, 3));
        }
        let mut under_way = row(DeliveryStatus::Delivering, at);
        let before = under_way.clone();
        fold(&mut under_way, &resent, at);
        assert_eq!(under_way, before);
    }
}
