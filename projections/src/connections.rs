//! Connections: what they reach, how their document stands, what the last test said.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    call::{CallFacts, RateLimit},
    connection::{
        Approvals, AuthScheme, Connection, ConnectionEvent, Health, IngestionStatus, SpecChanges, SpecFacts,
        SpecSource, next_refresh, oauth,
    },
    execution::ExecutionEvent,
    ids::{ConnectionId, CredentialId, WorkspaceId},
    oauth::Grant,
    operation::SpecProblem,
};
use serde::{Deserialize, Serialize};

use crate::{
    fault::Fault,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
    read::{QueryError, ReadModels},
    row::{Key, id, optional_id, row},
    specs::{Asked, ConnectionSpecView, version_of},
    table::{Rows, Table},
    view::{Fact, Item, View},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConnectionStatus {
    Active,
    Inactive,
}

impl ConnectionStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            ConnectionStatus::Active => "ACTIVE",
            ConnectionStatus::Inactive => "INACTIVE",
        }
    }
}

/// What a test call said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastTest {
    pub ok: bool,
    pub message: String,
    /// HTTP status, when there was an answer.
    pub status: Option<u16>,
    pub elapsed_ms: u64,
    /// One word for programs; absent when nothing is wrong.
    #[serde(default)]
    pub problem: Option<String>,
    pub tested_at: DateTime<Utc>,
}

/// What an API said last of its own limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedLimit {
    #[serde(flatten)]
    pub limit: RateLimit,
    pub observed_at: DateTime<Utc>,
}

/// The same again is written this seldom.
const SAID_AGAIN: TimeDelta = TimeDelta::seconds(60);

row! {
    pub struct ConnectionView in "connections" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: ConnectionId,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        pub name: String,
        pub description: Option<String>,
        pub source: SpecSource,
        /// As the user gave it.
        pub base_url: Option<String>,
        /// What requests go to: the user's, else the document's first server.
        pub effective_base_url: Option<String>,
        pub auth: AuthScheme,
        #[serde(with = "optional_id")]
        pub credential_id: Option<CredentialId>,
        pub status: ConnectionStatus,
        pub ingestion_status: IngestionStatus,
        pub endpoint_count: u32,
        pub webhook_count: u32,
        pub facts: Option<SpecFacts>,
        /// What the last refresh changed.
        pub changes: Option<SpecChanges>,
        /// Why the last ingestion failed; empty after a good one.
        pub errors: Vec<SpecProblem>,
        pub risks: Vec<String>,
        /// Hosts that wait for an admin, and what admins said.
        pub approvals: Approvals,
        /// Origins in a private range.
        pub private: Vec<String>,
        pub last_test: Option<LastTest>,
        /// Hours between refreshes by schedule; 0: there are none.
        pub refresh_interval: u32,
        /// When the schedule asks next.
        pub next_refresh_at: Option<DateTime<Utc>>,
        /// How often a refresh was asked for.
        pub refreshes: u32,
        /// Failed ones since the last good one.
        pub refresh_failures: u32,
        /// The document's version, from 1; 0: none was taken yet.
        pub spec_number: i32,
        /// When the document was last seen as it is.
        pub checked_at: Option<DateTime<Utc>>,
        /// Who asked for the present ingestion, or the last one.
        pub asked: Option<Asked>,
        pub health: Health,
        /// What was seen when it changed last.
        pub health_reason: Option<String>,
        pub health_changed_at: Option<DateTime<Utc>>,
        pub rate_limit: Option<ObservedLimit>,
        /// Of `oauth2`: what the provider has granted.
        pub oauth_grant: Option<Grant>,
        /// When its access token is to be renewed.
        pub oauth_due_at: Option<DateTime<Utc>>,
        pub created_at: DateTime<Utc>,
        pub updated_at: DateTime<Utc>,
        /// The stream's last sequence.
        pub version: i64,
    }
}

const LIST: ListSpec = ListSpec {
    order: Order::Time("created_at"),
    filters: &[
        ("status", "status", Kind::Text),
        ("ingestionStatus", "ingestion_status", Kind::Text),
        ("health", "health", Kind::Text),
    ],
    sorts: &[
        ("createdAt", "created_at"),
        ("updatedAt", "updated_at"),
        ("name", "name"),
        ("endpointCount", "endpoint_count"),
    ],
    search: &["name", "description"],
};

impl ReadModels {
    /// Filters: `status`, `ingestionStatus`, `health`. Sorts: `createdAt`, `updatedAt`, `name`, `endpointCount`.
    pub async fn connections(
        &self,
        workspace: WorkspaceId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<ConnectionView>, QueryError> {
        self.list(workspace, &LIST, filter, page).await
    }

    pub async fn connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
    ) -> Result<Option<ConnectionView>, QueryError> {
        self.get(workspace, id.0).await
    }
}

#[derive(Default)]
pub(crate) struct Connections {
    connections: Table<ConnectionView>,
    specs: Table<ConnectionSpecView>,
}

impl View for Connections {
    fn name(&self) -> &'static str {
        "connections"
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "connection.created",
            "connection.updated",
            "connection.auth_resolved",
            "connection.credential_attached",
            "connection.credential_detached",
            "connection.refresh_requested",
            "connection.ingestion_started",
            "connection.spec_refreshed",
            "connection.spec_unchanged",
            "connection.ingestion_failed",
            "connection.tested",
            "connection.private_range_noted",
            "connection.host_approval_required",
            "connection.host_approval_lifted",
            "connection.approval_requested",
            "connection.host_approved",
            "connection.host_rejected",
            "connection.health_changed",
            "connection.oauth_granted",
            "connection.oauth_refresh_started",
            "connection.oauth_refreshed",
            "connection.oauth_refresh_failed",
            "connection.oauth_grant_expired",
            "connection.oauth_revoked",
            "connection.deleted",
            // In the connection's own stream: they count in the version, whatever becomes of test and ingestion.
            "connection.documents_fetched",
            "credential.read",
            // What the called API said of its limit.
            "execution.step_completed",
            "execution.step_failed",
        ]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        match item.fact()? {
            Fact::Connection(_) => self.connections.want_own(&item.recorded),
            Fact::Execution(event) => {
                if let Some((connection, _)) = limit_of(event) {
                    self.connections.want(Key::of(connection));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.connections, &mut self.specs]
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        let recorded = &item.recorded;
        let key = Key::of(recorded.aggregate_id);
        let event = match item.fact()? {
            Fact::Connection(event) => event,
            Fact::Execution(event) => {
                if let Some((connection, limit)) = limit_of(event) {
                    self.observe(&Key::of(connection), limit, recorded.recorded_at);
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        match event {
            ConnectionEvent::Created { .. } => {
                if let Some(row) = created(item, event)? {
                    self.connections.put(row);
                }
            }
            ConnectionEvent::Deleted {} => self.connections.remove(&key),
            other => {
                if let Some(row) = self.connections.change(&key) {
                    oauth::evolve(&mut row.oauth_grant, &row.auth, other);
                    row.oauth_due_at = row.oauth_grant.as_ref().and_then(Grant::due_at);
                    change(row, other, recorded.recorded_at);
                    if let ConnectionEvent::RefreshRequested { scheduled, .. } = other {
                        row.asked = Some(Asked::of(item, *scheduled)?);
                    }
                    if let Some(version) = version_of(row, other, recorded.recorded_at) {
                        row.spec_number = version.number;
                        self.specs.put(version);
                    }
                    let connection = rebuilt(row);
                    row.effective_base_url = connection.effective_base_url();
                    row.risks = connection.risks();
                    row.version = recorded.sequence;
                }
            }
        }
        Ok(())
    }
}

impl Connections {
    /// A row is changed only when what the API says has changed, or was said long ago.
    fn observe(&mut self, key: &Key, limit: &RateLimit, at: DateTime<Utc>) {
        let told = self.connections.get(key).and_then(|row| row.rate_limit.as_ref());
        if told.is_some_and(|told| told.limit == *limit && at - told.observed_at < SAID_AGAIN) {
            return;
        }
        if let Some(row) = self.connections.change(key) {
            row.rate_limit = Some(ObservedLimit { limit: limit.clone(), observed_at: at });
        }
    }
}

/// The limit that an answer to a step's call told, and of which connection.
fn limit_of(event: &ExecutionEvent) -> Option<(ConnectionId, &RateLimit)> {
    let (ExecutionEvent::StepCompleted { call: Some(call), .. } | ExecutionEvent::StepFailed { call: Some(call), .. }) =
        event
    else {
        return None;
    };
    Some((call.connection_id?, call.rate_limit.as_ref()?))
}

fn created(item: &Item, event: &ConnectionEvent) -> Result<Option<ConnectionView>, Fault> {
    let ConnectionEvent::Created { name, description, source, base_url, auth, credential_id, risks } = event else {
        return Ok(None);
    };
    let recorded = &item.recorded;
    let no_document = *source == SpecSource::None;
    let mut row = ConnectionView {
        id: ConnectionId(recorded.aggregate_id),
        workspace_id: WorkspaceId(recorded.workspace_id),
        name: name.clone(),
        description: description.clone(),
        source: source.clone(),
        base_url: base_url.clone(),
        effective_base_url: None,
        auth: auth.clone(),
        credential_id: *credential_id,
        status: ConnectionStatus::Active,
        ingestion_status: if no_document { IngestionStatus::Succeeded } else { IngestionStatus::Pending },
        endpoint_count: 0,
        webhook_count: 0,
        facts: None,
        changes: None,
        errors: vec![],
        risks: risks.clone(),
        approvals: Approvals::default(),
        private: vec![],
        last_test: None,
        refresh_interval: 0,
        next_refresh_at: None,
        refreshes: 0,
        refresh_failures: 0,
        spec_number: 0,
        checked_at: None,
        asked: Some(Asked::of(item, false)?),
        health: Health::default(),
        health_reason: None,
        health_changed_at: None,
        rate_limit: None,
        oauth_grant: None,
        oauth_due_at: None,
        created_at: recorded.recorded_at,
        updated_at: recorded.recorded_at,
        version: recorded.sequence,
    };
    row.effective_base_url = rebuilt(&row).effective_base_url();
    Ok(Some(row))
}

/// Everything but birth and death.
fn change(row: &mut ConnectionView, event: &ConnectionEvent, at: DateTime<Utc>) {
    match event {
        ConnectionEvent::Updated { name, description, base_url, auth, active, refresh_interval } => {
            row.name = name.clone().unwrap_or_else(|| std::mem::take(&mut row.name));
            row.description = description.clone().or(row.description.take());
            row.base_url = base_url.clone().or(row.base_url.take());
            row.auth = auth.clone().unwrap_or_else(|| std::mem::take(&mut row.auth));
            row.status = match active {
                Some(true) => ConnectionStatus::Active,
                Some(false) => ConnectionStatus::Inactive,
                None => row.status,
            };
            if let Some(hours) = refresh_interval {
                row.refresh_interval = *hours;
                plan_refresh(row, at);
            }
        }
        ConnectionEvent::AuthResolved { auth } => row.auth = auth.clone(),
        ConnectionEvent::CredentialAttached { credential_id } => row.credential_id = Some(*credential_id),
        ConnectionEvent::CredentialDetached { .. } => row.credential_id = None,
        ConnectionEvent::RefreshRequested { source, .. } => {
            row.source = source.clone();
            row.refreshes += 1;
            row.ingestion_status = IngestionStatus::Pending;
        }
        ConnectionEvent::IngestionStarted { .. } => row.ingestion_status = IngestionStatus::Running,
        ConnectionEvent::SpecRefreshed { facts, changes, .. } => {
            row.ingestion_status = IngestionStatus::Succeeded;
            row.endpoint_count = facts.endpoint_count;
            row.webhook_count = facts.webhook_count;
            row.facts = Some(facts.clone());
            row.changes = Some(changes.clone());
            taken(row, at);
        }
        ConnectionEvent::SpecUnchanged { .. } => {
            row.ingestion_status = IngestionStatus::Succeeded;
            row.changes = Some(SpecChanges::default());
            taken(row, at);
        }
        ConnectionEvent::IngestionFailed { errors, .. } => {
            row.ingestion_status = IngestionStatus::Failed;
            row.errors = errors.clone();
            row.refresh_failures += 1;
            plan_refresh(row, at);
        }
        ConnectionEvent::Tested { ok, message, status, elapsed_ms, problem, call } => {
            let (message, problem) = (message.clone(), problem.clone());
            let (ok, status, elapsed_ms) = (*ok, *status, *elapsed_ms);
            row.last_test = Some(LastTest { ok, message, status, elapsed_ms, problem, tested_at: at });
            if let Some(CallFacts { rate_limit: Some(limit), .. }) = call {
                row.rate_limit = Some(ObservedLimit { limit: limit.clone(), observed_at: at });
            }
        }
        ConnectionEvent::HealthChanged { to, reason, changed_at, .. } => {
            row.health = *to;
            row.health_reason = Some(reason.clone());
            row.health_changed_at = Some(*changed_at);
        }
        ConnectionEvent::OauthGrantExpired { reason, expired_at, .. } => {
            row.health = Health::CredentialExpired;
            row.health_reason = Some(reason.clone());
            row.health_changed_at = Some(*expired_at);
        }
        // The grant itself is folded before.
        ConnectionEvent::OauthGranted { .. }
        | ConnectionEvent::OauthRefreshStarted { .. }
        | ConnectionEvent::OauthRefreshed { .. }
        | ConnectionEvent::OauthRefreshFailed { .. }
        | ConnectionEvent::OauthRevoked { .. } => {}
        ConnectionEvent::PrivateRangeNoted { hosts } => row.private.extend(hosts.iter().cloned()),
        ConnectionEvent::HostApprovalRequired { .. }
        | ConnectionEvent::HostApprovalLifted { .. }
        | ConnectionEvent::ApprovalRequested { .. }
        | ConnectionEvent::HostApproved { .. }
        | ConnectionEvent::HostRejected { .. } => row.approvals.evolve(event),
        ConnectionEvent::Created { .. }
        | ConnectionEvent::Deleted {}
        | ConnectionEvent::CredentialRead { .. }
        | ConnectionEvent::DocumentsFetched { .. } => return,
    }
    row.updated_at = at;
}

/// The document was seen as it is.
fn taken(row: &mut ConnectionView, at: DateTime<Utc>) {
    row.errors.clear();
    row.refresh_failures = 0;
    row.checked_at = Some(at);
    plan_refresh(row, at);
}

fn plan_refresh(row: &mut ConnectionView, at: DateTime<Utc>) {
    row.next_refresh_at = match row.source {
        SpecSource::Url { .. } => next_refresh(at, row.refresh_interval, row.refresh_failures, row.id.0),
        _ => None,
    };
}

/// As the domain's own rules want it, with what they depend on.
fn rebuilt(row: &ConnectionView) -> Connection {
    Connection {
        base_url: row.base_url.clone(),
        facts: row.facts.clone(),
        source: row.source.clone(),
        auth: row.auth.clone(),
        private: row.private.clone(),
        ..Connection::default()
    }
}
