//! Who wants which event: every workspace's active webhooks with their filters, exact at a place of the log.
//!
//! Folded from the webhooks' own events in the log's order, so that an event goes to the webhooks that were active at its
//! place, whenever it is looked at.

use std::collections::HashMap;

use cqrs_es::Aggregate;
use domain::{
    event::{LogPosition, RecordedEvent},
    ids::{WebhookId, WorkspaceId},
    webhook::{Webhook, subscribes},
};
use event_store::{EVENT_COLUMNS, EventStore, event_of};
use futures::TryStreamExt;

#[derive(Default)]
pub(super) struct Subscriptions {
    workspaces: HashMap<WorkspaceId, HashMap<WebhookId, Webhook>>,
}

impl Subscriptions {
    /// As they were right after `at`.
    pub(super) async fn as_of(store: &EventStore, at: LogPosition) -> Result<Self, sqlx::Error> {
        let sql = format!(
            "select {EVENT_COLUMNS} from log.events e
              where e.aggregate_type = $1
                and (e.generation, e.transaction_id, e.position) <= ($2, $3::text::xid8, $4)
              order by e.generation, e.transaction_id, e.position",
        );
        let mut rows = sqlx::query(&sql)
            .bind(Webhook::TYPE)
            .bind(at.generation)
            .bind(at.transaction_id.to_string())
            .bind(at.position)
            .fetch(store.pool());
        let mut all = Self::default();
        while let Some(row) = rows.try_next().await? {
            all.apply(&event_of(&row)?);
        }
        Ok(all)
    }

    /// The next event of the log.
    pub(super) fn apply(&mut self, recorded: &RecordedEvent) {
        if recorded.aggregate_type != Webhook::TYPE {
            return;
        }
        let event = match recorded.decode() {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(event = %recorded.event_id, %error, "a webhook's change cannot be read: passed over");
                return;
            }
        };
        let (workspace, id) = (WorkspaceId(recorded.workspace_id), WebhookId(recorded.aggregate_id));
        let hooks = self.workspaces.entry(workspace).or_default();
        let hook = hooks.entry(id).or_default();
        hook.apply(event);
        // The filters are all that is asked for here.
        hook.secret = None;
        if !hook.is_live() {
            hooks.remove(&id);
        }
        if hooks.is_empty() {
            self.workspaces.remove(&workspace);
        }
    }

    /// The active webhooks that want an event of this public name.
    pub(super) fn of(&self, workspace: WorkspaceId, name: &str) -> impl Iterator<Item = WebhookId> {
        let hooks = self.workspaces.get(&workspace).into_iter().flatten();
        hooks.filter(move |(_, hook)| hook.active && subscribes(&hook.events, name)).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use domain::{event::EventSet, sealed::Sealed, webhook::WebhookEvent};
    use uuid::Uuid;

    use super::*;

    const HERE: WorkspaceId = WorkspaceId(Uuid::from_u128(1));
    const ELSEWHERE: WorkspaceId = WorkspaceId(Uuid::from_u128(2));

    fn change(workspace: WorkspaceId, webhook: u128, event: &WebhookEvent) -> RecordedEvent {
        use cqrs_es::DomainEvent;
        RecordedEvent {
            at: LogPosition::START,
            workspace_id: workspace.0,
            aggregate_type: Webhook::TYPE.into(),
            aggregate_id: Uuid::from_u128(webhook),
            sequence: 1,
            event_type: event.event_type(),
            event_version: event.event_version(),
            payload: event.encode().unwrap(),
            metadata: "{}".into(),
            event_id: Uuid::nil(),
            recorded_at: DateTime::UNIX_EPOCH,
        }
    }

    fn created(events: &[&str]) -> WebhookEvent {
        let sealed: Sealed<String> =
            serde_json::from_str(r#"{"s":"x","k":1,"n":"AAAA","c":"AAAA"}"#).expect("a sealed value");
        WebhookEvent::Created {
            name: "n".into(),
            url: "https://x.example".into(),
            events: events.iter().map(|e| (*e).to_owned()).collect(),
            secret: sealed,
        }
    }

    fn updated(events: Option<&[&str]>, active: Option<bool>) -> WebhookEvent {
        let events = events.map(|events| events.iter().map(|e| (*e).to_owned()).collect());
        WebhookEvent::Updated { name: None, url: None, events, active }
    }

    #[test]
    fn each_change_counts_from_its_place_on() {
        let mut all = Subscriptions::default();
        let wanted = |all: &Subscriptions, workspace, name: &str| {
            let mut ids: Vec<u128> = all.of(workspace, name).map(|id| id.0.as_u128()).collect();
            ids.sort_unstable();
            ids
        };
        all.apply(&change(HERE, 1, &created(&["workflow.*"])));
        all.apply(&change(HERE, 2, &created(&["workflow.created", "api_key.created"])));
        all.apply(&change(ELSEWHERE, 3, &created(&["*"])));
        assert_eq!(wanted(&all, HERE, "workflow.created"), [1, 2]);
        assert_eq!(wanted(&all, HERE, "workflow.deleted"), [1]);
        assert_eq!(wanted(&all, ELSEWHERE, "workflow.deleted"), [3]);

        all.apply(&change(HERE, 1, &WebhookEvent::Disabled { reason: "410".into() }));
        all.apply(&change(HERE, 2, &updated(Some(&["workflow.deleted"]), None)));
        assert_eq!(wanted(&all, HERE, "workflow.created"), []);
        assert_eq!(wanted(&all, HERE, "workflow.deleted"), [2]);
        all.apply(&change(HERE, 1, &updated(None, Some(true))));
        assert_eq!(wanted(&all, HERE, "workflow.deleted"), [1, 2]);
        for webhook in [1, 2] {
            all.apply(&change(HERE, webhook, &WebhookEvent::Deleted {}));
        }
        assert_eq!(wanted(&all, HERE, "workflow.deleted"), []);
        assert!(!all.workspaces.contains_key(&HERE), "what is gone takes no memory");
    }
}
