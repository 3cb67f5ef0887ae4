//! What a view is: it names the rows an event touches, folds events into them, and stores them.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

use async_trait::async_trait;
use domain::{
    access::AccessEvent,
    actor::Metadata,
    api_key::ApiKeyEvent,
    connection::ConnectionEvent,
    connector::ConnectorEvent,
    credential::CredentialEvent,
    delivery::DeliveryEvent,
    document_cache::DocumentCacheEvent,
    event::{DecodeError, RecordedEvent},
    execution::ExecutionEvent,
    oauth::flow::OauthFlowEvent,
    organization::OrganizationEvent,
    plan::PlanEvent,
    reservation::ReservationEvent,
    session::SessionEvent,
    user::UserEvent,
    webhook::WebhookEvent,
    workflow::WorkflowEvent,
    workspace::WorkspaceEvent,
    workspace_key::WorkspaceKeyEvent,
};

use crate::{fault::Fault, fold::Reader, row::Row, table::Rows};

/// Where the tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// What queries read.
    Live,
    /// What a rebuild fills, to be swapped with the live one.
    Next,
    /// Temporary tables of this session: gone with it, whatever happens.
    Scratch,
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Schema::Live => "read_models",
            Schema::Next => "read_models_next",
            Schema::Scratch => "pg_temp",
        })
    }
}

macro_rules! facts {
    ($( $aggregate:literal = $variant:ident($event:ty) ),* $(,)?) => {
        /// A decoded event of any aggregate.
        #[derive(Debug)]
        #[expect(dead_code, reason = "some are decoded only to see that they can be")]
        pub(crate) enum Fact { $( $variant($event) ),* }

        impl Fact {
            #[cfg(test)]
            pub const AGGREGATES: &'static [&'static str] = &[ $( $aggregate ),* ];

            fn decode(event: &RecordedEvent) -> Result<Fact, DecodeError> {
                match event.aggregate_type.as_str() {
                    $( $aggregate => event.decode::<$event>().map(Fact::$variant), )*
                    other => Err(DecodeError::new(&event.event_type, format!("there is no aggregate {other}"))),
                }
            }
        }
    };
}

facts! {
    "organization" = Organization(OrganizationEvent),
    "workspace" = Workspace(WorkspaceEvent),
    "workspace_key" = WorkspaceKey(WorkspaceKeyEvent),
    "user" = User(UserEvent),
    "session" = Session(SessionEvent),
    "api_key" = ApiKey(ApiKeyEvent),
    "reservation" = Reservation(ReservationEvent),
    "access" = Access(AccessEvent),
    "connection" = Connection(ConnectionEvent),
    "oauth" = Oauth(OauthFlowEvent),
    "connector" = Connector(ConnectorEvent),
    "document_cache" = DocumentCache(DocumentCacheEvent),
    "credential" = Credential(CredentialEvent),
    "workflow" = Workflow(WorkflowEvent),
    "execution" = Execution(ExecutionEvent),
    "plan" = Plan(PlanEvent),
    "webhook" = Webhook(WebhookEvent),
    "delivery" = Delivery(DeliveryEvent),
}

/// An event with what all views need of it, decoded once.
pub(crate) struct Item {
    pub recorded: RecordedEvent,
    decoded: Decoded,
}

struct Decoded {
    fact: Result<Fact, String>,
    metadata: Result<Metadata, String>,
}

impl Decoded {
    /// A decoder that panics is one that cannot read the event.
    fn of(event: &RecordedEvent) -> Self {
        let fact = || match newer(event) {
            Some(reason) => Err(reason),
            None => Fact::decode(event).map_err(|e| e.to_string()),
        };
        Self {
            fact: catch_unwind(AssertUnwindSafe(fact)).unwrap_or_else(|panic| Err(panicked(&*panic))),
            metadata: event.decode_metadata().map_err(|e| e.to_string()),
        }
    }
}

/// Event types of this build, each with its version.
static KNOWN: LazyLock<HashMap<&str, u64>> = LazyLock::new(|| {
    let mut known = HashMap::new();
    for (_, name, version) in domain::catalogue::all() {
        // `credential.read` is in several aggregates, and not in the same version.
        let latest: &mut u64 = known.entry(name).or_default();
        *latest = version.parse().unwrap_or(u64::MAX).max(*latest);
    }
    known
});

/// An event of a later build is not read, even if it looks as if it could be: what it says may mean something else.
fn newer(event: &RecordedEvent) -> Option<String> {
    let (name, version) = (event.event_type.as_str(), event.event_version.as_str());
    let known = KNOWN.get(name).is_some_and(|ours| version.parse::<u64>().is_ok_and(|theirs| theirs <= *ours));
    let reason = || {
        format!(
            "this build does not know {name} version {version}: a newer one wrote it. Rebuild with that (`apiq admin rebuild`)"
        )
    };
    (!known).then(reason)
}

/// What a panic said.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a word"))
}

impl Item {
    pub fn of(recorded: RecordedEvent) -> Self {
        Self { decoded: Decoded::of(&recorded), recorded }
    }

    pub fn fact(&self) -> Result<&Fact, Fault> {
        self.decoded.fact.as_ref().map_err(|e| Fault::Event(e.clone()))
    }

    pub fn metadata(&self) -> Result<&Metadata, Fault> {
        self.decoded.metadata.as_ref().map_err(|e| Fault::Event(e.clone()))
    }
}

/// Why this build cannot read an event (its payload, of any version, or its metadata); `None` when it can.
pub fn decode_fault(event: &RecordedEvent) -> Option<String> {
    let decoded = Decoded::of(event);
    decoded.fact.err().or(decoded.metadata.err())
}

/// One view with its working set. `want`, `load`, `read` and `fold` compute; what has changed is written from outside.
#[async_trait]
pub(crate) trait View: Send {
    fn name(&self) -> &'static str;

    /// Event types that change this view.
    fn events(&self) -> &'static [&'static str];

    fn handles(&self, event_type: &str) -> bool {
        self.events().contains(&event_type)
    }

    /// Must a stream's events be folded without a gap?
    fn in_order(&self) -> bool {
        true
    }

    /// Notes which rows the event touches.
    fn want(&mut self, item: &Item) -> Result<(), Fault>;

    /// Notes further rows, once those that were wanted first are here.
    fn want_more(&mut self) {}

    fn tables(&mut self) -> Vec<&mut dyn Rows>;

    /// Fetches what is no row. An event's own fault is told by its `fold`.
    async fn read(&mut self, _: &mut dyn Reader) -> Result<(), Fault> {
        Ok(())
    }

    /// Pure: times come from the event, never from a clock, so that every rebuild gives the same rows.
    fn fold(&mut self, item: &Item) -> Result<(), Fault>;
}

/// A fresh working set of every view.
pub(crate) fn all() -> Vec<Box<dyn View>> {
    vec![
        Box::<crate::accounts::Accounts>::default(),
        Box::<crate::api_keys::ApiKeys>::default(),
        Box::<crate::connections::Connections>::default(),
        Box::<crate::connectors::Connectors>::default(),
        Box::<crate::operations::Operations>::default(),
        Box::<crate::credentials::Credentials>::default(),
        Box::<crate::workflows::Workflows>::default(),
        Box::<crate::workflow_operations::WorkflowOperations>::default(),
        Box::<crate::executions::Executions>::default(),
        Box::<crate::plans::Plans>::default(),
        Box::<crate::webhooks::Webhooks>::default(),
        Box::<crate::audit::Audit>::default(),
    ]
}

/// Every table, by name: what a rebuild makes and compares.
pub const TABLES: [&str; 19] = [
    "api_keys",
    "audit_entries",
    "connection_specs",
    "connections",
    "connectors",
    "credential_reads",
    "credential_versions",
    "credentials",
    "execution_steps",
    "executions",
    "operations",
    "plans",
    "users",
    "webhook_deliveries",
    "webhooks",
    "workflow_operations",
    "workflow_versions",
    "workflows",
    "workspaces",
];

/// Every table with the columns that this build writes.
pub(crate) fn columns() -> Vec<(&'static str, &'static [&'static str])> {
    fn of<R: Row>() -> (&'static str, &'static [&'static str]) {
        (R::TABLE, R::COLUMNS)
    }
    vec![
        of::<crate::UserView>(),
        of::<crate::WorkspaceView>(),
        of::<crate::ApiKeyView>(),
        of::<crate::ConnectionView>(),
        of::<crate::ConnectionSpecView>(),
        of::<crate::ConnectorView>(),
        of::<crate::OperationView>(),
        of::<crate::CredentialView>(),
        of::<crate::CredentialReadView>(),
        of::<crate::CredentialVersionView>(),
        of::<crate::WorkflowView>(),
        of::<crate::WorkflowVersionView>(),
        of::<crate::workflow_operations::WorkflowOperationView>(),
        of::<crate::ExecutionView>(),
        of::<crate::ExecutionStepView>(),
        of::<crate::PlanView>(),
        of::<crate::WebhookView>(),
        of::<crate::DeliveryView>(),
        ("audit_entries", &crate::audit::COLUMNS),
    ]
}

/// Event types that no view but the audit log shows.
#[cfg(test)]
const ONLY_AUDITED: [&str; 23] = [
    "organization.created",
    "organization.settings_changed",
    "workspace.hosts_approved",
    "workspace.hosts_rejected",
    "workspace_key.made",
    "workspace_key.rotated",
    "workspace_key.retired",
    "workspace_key.rewrapped",
    "workspace_key.master_changed",
    "workspace_key.erasure_requested",
    "workspace_key.destroyed",
    "session.started",
    "session.refreshed",
    "session.revoked",
    "user.login_failed",
    "access.denied",
    "document_cache.listed",
    "document_cache.purged",
    "oauth.authorization_started",
    "oauth.link_opened",
    "oauth.state_used",
    "oauth.authorization_completed",
    "oauth.authorization_failed",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_type_is_assigned_to_a_view_or_left_out_on_purpose() {
        let views = all();
        for (aggregate, event_type, _) in domain::catalogue::all() {
            assert!(Fact::AGGREGATES.contains(&aggregate), "{aggregate} is not decoded");
            let owners: Vec<_> = views.iter().filter(|v| v.handles(event_type)).map(|v| v.name()).collect();
            let only_audited = ONLY_AUDITED.contains(&event_type);
            match event_type.starts_with("reservation.") {
                true => assert!(owners.is_empty(), "{event_type}: {owners:?}"),
                false => {
                    assert!(owners.contains(&"audit"), "{event_type} is not audited");
                    assert_eq!(owners.len() == 1, only_audited, "{event_type}: {owners:?}");
                }
            }
        }
    }

    #[test]
    fn views_name_only_event_types_that_exist() {
        let known: Vec<_> = domain::catalogue::all().into_iter().map(|(_, name, _)| name).collect();
        let named = all().iter().flat_map(|v| v.events().iter().copied()).chain(ONLY_AUDITED).collect::<Vec<_>>();
        for name in named {
            assert!(known.contains(&name), "{name}");
        }
    }
}
