//! An outgoing webhook: where events go, which ones, and the secret that signs them (sealed).

use serde::{Deserialize, Serialize};

use crate::{
    aggregate::aggregate,
    error::{Code, Faults, Rejection},
    event::events,
    sealed::Sealed,
};

events! {
    pub enum WebhookEvent {
        "webhook.created" v "1" = Created { name: String, url: String, events: Vec<String>, secret: Sealed<String> },
        "webhook.updated" v "1" = Updated {
            #[serde(default, skip_serializing_if = "Option::is_none")]
            name: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            url: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            events: Option<Vec<String>>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            active: Option<bool>,
        },
        "webhook.disabled" v "1" = Disabled { reason: String },
        "webhook.deleted" v "1" = Deleted {},
    }
}

#[derive(Debug, Default, Clone)]
pub struct WebhookPatch {
    pub name: Option<String>,
    pub url: Option<String>,
    pub events: Option<Vec<String>>,
    pub active: Option<bool>,
}

#[derive(Debug)]
pub enum WebhookCommand {
    Create { name: String, url: String, events: Vec<String>, secret: Sealed<String> },
    Update(WebhookPatch),
    Disable { reason: String },
    Delete,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Webhook {
    pub created: bool,
    pub deleted: bool,
    pub active: bool,
    pub name: String,
    pub url: String,
    pub events: Vec<String>,
    pub secret: Option<Sealed<String>>,
}

impl Webhook {
    pub fn is_live(&self) -> bool {
        self.created && !self.deleted
    }

    fn evolve(&mut self, event: WebhookEvent) {
        match event {
            WebhookEvent::Created { name, url, events, secret } => {
                *self =
                    Webhook { created: true, deleted: false, active: true, name, url, events, secret: Some(secret) };
            }
            WebhookEvent::Updated { name, url, events, active } => {
                self.name = name.unwrap_or_else(|| std::mem::take(&mut self.name));
                self.url = url.unwrap_or_else(|| std::mem::take(&mut self.url));
                self.events = events.unwrap_or_else(|| std::mem::take(&mut self.events));
                self.active = active.unwrap_or(self.active);
            }
            WebhookEvent::Disabled { .. } => self.active = false,
            WebhookEvent::Deleted {} => self.deleted = true,
        }
    }
}

/// Does a subscription (`*`, `execution.*`, `workflow.completed`) cover a public event name?
pub fn subscribes(subscriptions: &[String], event_type: &str) -> bool {
    subscriptions.iter().any(|wanted| match wanted.strip_suffix('*') {
        Some(prefix) => event_type.starts_with(prefix),
        None => wanted == event_type,
    })
}

/// Names that subscribers see: the life of an execution is a workflow's to them.
pub fn public_name(event_type: &str) -> Option<&str> {
    match event_type {
        "execution.started" => Some("workflow.started"),
        "execution.completed" => Some("workflow.completed"),
        "execution.failed" => Some("workflow.failed"),
        "execution.cancelled" => Some("workflow.cancelled"),
        // A delivery about a delivery would never end; the others are inner matters.
        other
            if ["delivery.", "reservation.", "session.", "access.", "document_cache.", "oauth."]
                .iter()
                .any(|p| other.starts_with(p)) =>
        {
            None
        }
        other => Some(other),
    }
}

fn decide(state: &Webhook, command: WebhookCommand) -> Result<Vec<WebhookEvent>, Rejection> {
    if let WebhookCommand::Create { name, url, events, secret } = command {
        if state.created {
            return Err(Rejection::new(Code::Conflict, "This webhook exists already."));
        }
        check(Some(&name), Some(&url), Some(&events))?;
        return Ok(vec![WebhookEvent::Created { name, url, events, secret }]);
    }
    if !state.is_live() {
        return Err(Rejection::not_found(Code::WebhookNotFound, "webhook"));
    }
    match command {
        WebhookCommand::Create { .. } => Ok(vec![]),
        WebhookCommand::Update(WebhookPatch { name, url, events, active }) => {
            check(name.as_deref(), url.as_deref(), events.as_deref())?;
            Ok(vec![WebhookEvent::Updated { name, url, events, active }])
        }
        WebhookCommand::Disable { reason } if state.active => Ok(vec![WebhookEvent::Disabled { reason }]),
        WebhookCommand::Disable { .. } => Ok(vec![]),
        WebhookCommand::Delete => Ok(vec![WebhookEvent::Deleted {}]),
    }
}

fn check(name: Option<&str>, url: Option<&str>, events: Option<&[String]>) -> Result<(), Rejection> {
    let mut faults = Faults::default();
    if let Some(name) = name {
        faults.length("name", name, 1, 200);
    }
    if let Some(url) = url
        && !(url.starts_with("https://") || url.starts_with("http://"))
    {
        faults.add("url", "must be an absolute http:// or https:// URL");
    }
    if let Some(events) = events {
        if events.is_empty() || events.len() > 100 {
            faults.add("events", "must name 1 to 100 event types (\"*\" for all)");
        }
        for (i, event) in events.iter().enumerate() {
            if !crate::catalogue::is_known_subscription(event) {
                faults.add(
                    format!("events[{i}]"),
                    format!("{event:?} is no event type; GET webhooks/event-types lists them"),
                );
            }
        }
    }
    faults.into_result()
}

aggregate!(Webhook, "webhook", WebhookCommand, WebhookEvent, decide);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_cover_names_and_wildcards() {
        let of = |s: &[&str]| s.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert!(subscribes(&of(&["*"]), "workflow.completed"));
        assert!(subscribes(&of(&["workflow.*"]), "workflow.completed"));
        assert!(!subscribes(&of(&["workflow.failed", "connection.*"]), "workflow.completed"));
    }

    #[test]
    fn no_delivery_about_a_delivery() {
        assert_eq!(public_name("delivery.succeeded"), None);
        assert_eq!(public_name("execution.completed"), Some("workflow.completed"));
        assert_eq!(public_name("credential.read"), Some("credential.read"));
    }
}
