//! Every event type this build writes: for subscribers, for `docs/events.md`, for the audit log's filters.

use crate::{event::EventSet, webhook::public_name};

/// `(aggregate, event type, version)` of every event, in the order of the house.
pub fn all() -> Vec<(&'static str, &'static str, &'static str)> {
    fn of<E: EventSet>(aggregate: &'static str) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        E::NAMES.iter().map(move |(name, version)| (aggregate, *name, *version))
    }
    let mut all: Vec<_> = of::<crate::organization::OrganizationEvent>("organization").collect();
    all.extend(of::<crate::workspace::WorkspaceEvent>("workspace"));
    all.extend(of::<crate::workspace_key::WorkspaceKeyEvent>("workspace_key"));
    all.extend(of::<crate::user::UserEvent>("user"));
    all.extend(of::<crate::session::SessionEvent>("session"));
    all.extend(of::<crate::api_key::ApiKeyEvent>("api_key"));
    all.extend(of::<crate::reservation::ReservationEvent>("reservation"));
    all.extend(of::<crate::access::AccessEvent>("access"));
    all.extend(of::<crate::connection::ConnectionEvent>("connection"));
    all.extend(of::<crate::connector::ConnectorEvent>("connector"));
    all.extend(of::<crate::oauth::flow::OauthFlowEvent>("oauth"));
    all.extend(of::<crate::document_cache::DocumentCacheEvent>("document_cache"));
    all.extend(of::<crate::credential::CredentialEvent>("credential"));
    all.extend(of::<crate::workflow::WorkflowEvent>("workflow"));
    all.extend(of::<crate::execution::ExecutionEvent>("execution"));
    all.extend(of::<crate::plan::PlanEvent>("plan"));
    all.extend(of::<crate::webhook::WebhookEvent>("webhook"));
    all.extend(of::<crate::delivery::DeliveryEvent>("delivery"));
    all
}

/// What webhooks can subscribe to: public names, each once, sorted.
pub fn public_names() -> Vec<&'static str> {
    let mut names: Vec<_> = all().into_iter().filter_map(|(_, name, _)| public_name(name)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// `*`, `connection.*` or a public name.
pub fn is_known_subscription(text: &str) -> bool {
    match text.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => prefix.ends_with('.') && public_names().iter().any(|n| n.starts_with(prefix)),
        None => public_names().contains(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_aggregate_and_past_tense_and_subscribable() {
        for (_, name, _) in all() {
            let (noun, verb) = name.split_once('.').unwrap();
            assert!(
                !noun.is_empty()
                    && (["read", "made", "logged_in", "step_outcome_unknown", "resent"].contains(&verb)
                        || verb.ends_with("ed")),
                "{name}"
            );
        }
        assert!(is_known_subscription("workflow.completed"));
        assert!(is_known_subscription("connection.*"));
        assert!(!is_known_subscription("nonsense.*"));
        assert!(!is_known_subscription("delivery.succeeded"));
    }
}
