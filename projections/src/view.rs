//! What a view is: it names the rows an event touches, folds events into them, and stores them.

use std::fmt;

use async_trait::async_trait;
use domain::{
    access::AccessEvent,
    actor::Metadata,
    api_key::ApiKeyEvent,
    connection::ConnectionEvent,
    credential::CredentialEvent,
    delivery::DeliveryEvent,
    event::{DecodeError, RecordedEvent},
    execution::ExecutionEvent,
    organization::OrganizationEvent,
    plan::PlanEvent,
    reservation::ReservationEvent,
    session::SessionEvent,
    user::UserEvent,
    webhook::WebhookEvent,
    workflow::WorkflowEvent,
    workspace::WorkspaceEvent,
};
use sqlx::PgConnection;

use crate::{fault::Fault, row::Row};

/// Where the tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// What queries read.
    Live,
    /// Temporary tables of this session: gone with it, whatever happens.
    Scratch,
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Schema::Live => "read_models",
            Schema::Scratch => "pg_temp",
        })
    }
}

macro_rules! facts {
    ($( $aggregate:literal = $variant:ident($event:ty) ),* $(,)?) => {
        /// A decoded event of any aggregate.
        #[derive(Debug)]
        #[expect(dead_code, reason = "sessions, denials and reservations are decoded only to see that they can be")]
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
    "user" = User(UserEvent),
    "session" = Session(SessionEvent),
    "api_key" = ApiKey(ApiKeyEvent),
    "reservation" = Reservation(ReservationEvent),
    "access" = Access(AccessEvent),
    "connection" = Connection(ConnectionEvent),
    "credential" = Credential(CredentialEvent),
    "workflow" = Workflow(WorkflowEvent),
    "execution" = Execution(ExecutionEvent),
    "plan" = Plan(PlanEvent),
    "webhook" = Webhook(WebhookEvent),
    "delivery" = Delivery(DeliveryEvent),
}

/// An event with what all views need of it, decoded once.
pub(crate) struct Item<'a> {
    pub recorded: &'a RecordedEvent,
    fact: Result<Fact, DecodeError>,
    metadata: Result<Metadata, DecodeError>,
}

impl<'a> Item<'a> {
    pub fn of(recorded: &'a RecordedEvent) -> Self {
        Self { recorded, fact: Fact::decode(recorded), metadata: recorded.decode_metadata() }
    }

    pub fn fact(&self) -> Result<&Fact, Fault> {
        self.fact.as_ref().map_err(|e| Fault::Event(e.to_string()))
    }

    pub fn metadata(&self) -> Result<&Metadata, Fault> {
        self.metadata.as_ref().map_err(|e| Fault::Event(e.to_string()))
    }
}

/// Why this build cannot read an event (its payload, of any version, or its metadata); `None` when it can.
pub fn decode_fault(event: &RecordedEvent) -> Option<String> {
    let item = Item::of(event);
    item.fact().err().or(item.metadata().err()).map(|fault| fault.to_string())
}

/// One view's working set for one batch. `want`, `load` and `fold` compute; `store` alone writes.
#[async_trait]
pub(crate) trait View: Send {
    fn name(&self) -> &'static str;

    /// Event types that change this view.
    fn events(&self) -> &'static [&'static str];

    fn handles(&self, event_type: &str) -> bool {
        self.events().contains(&event_type)
    }

    /// Notes which rows the event touches.
    fn want(&mut self, item: &Item) -> Result<(), Fault>;

    async fn load(&mut self, db: &mut PgConnection, schema: Schema) -> Result<(), Fault>;

    /// Pure: times come from the event, never from a clock, so that every rebuild gives the same rows.
    fn fold(&mut self, item: &Item) -> Result<(), Fault>;

    async fn store(&mut self, db: &mut PgConnection, schema: Schema) -> Result<(), Fault>;
}

/// A fresh working set of every view.
pub(crate) fn all() -> Vec<Box<dyn View>> {
    vec![
        Box::<crate::accounts::Accounts>::default(),
        Box::<crate::api_keys::ApiKeys>::default(),
        Box::<crate::connections::Connections>::default(),
        Box::<crate::operations::Operations>::default(),
        Box::<crate::credentials::Credentials>::default(),
        Box::<crate::workflows::Workflows>::default(),
        Box::<crate::executions::Executions>::default(),
        Box::<crate::plans::Plans>::default(),
        Box::<crate::webhooks::Webhooks>::default(),
        Box::<crate::audit::Audit>::default(),
    ]
}

/// Every table, by name: what a rebuild makes and compares.
pub const TABLES: [&str; 15] = [
    "api_keys",
    "audit_entries",
    "connections",
    "credential_reads",
    "credentials",
    "execution_steps",
    "executions",
    "operations",
    "plans",
    "users",
    "webhook_deliveries",
    "webhooks",
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
        of::<crate::OperationView>(),
        of::<crate::CredentialView>(),
        of::<crate::CredentialReadView>(),
        of::<crate::WorkflowView>(),
        of::<crate::WorkflowVersionView>(),
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
const ONLY_AUDITED: [&str; 6] = [
    "organization.created",
    "session.started",
    "session.refreshed",
    "session.revoked",
    "user.login_failed",
    "access.denied",
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
