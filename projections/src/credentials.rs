//! Credentials without their values, and who read them.

use chrono::{DateTime, Utc};
use domain::{
    actor::ActorKind,
    connection::ConnectionEvent,
    connector::ConnectorEvent,
    credential::{CredentialEvent, expiry},
    execution::ExecutionEvent,
    ids::{ConnectionId, CredentialId, EventId, WorkspaceId},
};
use uuid::Uuid;

use crate::{
    fault::Fault,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page, values},
    read::{QueryError, ReadModels},
    row::{Key, id, optional_id, row},
    table::{Rows, Table},
    view::{Fact, Item, View},
};

row! {
    pub struct CredentialView in "credentials" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: CredentialId,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        pub name: String,
        /// One of `domain::credential::KINDS`, or a type of connector.
        pub kind: String,
        #[serde(with = "optional_id")]
        pub connection_id: Option<ConnectionId>,
        /// Version of the value, from 1.
        pub current_version: i32,
        pub created_at: DateTime<Utc>,
        pub updated_at: DateTime<Utc>,
        pub last_read_at: Option<DateTime<Utc>>,
        pub read_count: i64,
        /// The stream's last sequence; reads stand in the readers' streams and do not count.
        pub version: i64,
        /// `active`, `erased` (its value is gone with its key; a new one can be stored), `deleted` (it can be restored) or
        /// `destroyed`.
        pub status: String,
        pub expires_at: Option<DateTime<Utc>>,
        /// The last warning that was told: days before the expiry.
        pub warned: Option<u32>,
        /// Of a deleted one.
        pub destroy_at: Option<DateTime<Utc>>,
        /// When something is to be done about it.
        pub due_at: Option<DateTime<Utc>>,
        /// Of the present version.
        pub value_destroyed: bool,
    }
}

row! {
    /// One version of a credential's value. Kept when it is destroyed.
    pub struct CredentialVersionView in "credential_versions" by ["credential_id", "version"]
        = |row| Key::pair(row.credential_id, row.version.to_string());
    {
        #[serde(with = "id")]
        pub credential_id: CredentialId,
        pub version: i32,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        /// Of the workspace's key that wrapped it when it was stored.
        pub key_version: i32,
        pub created_by: String,
        pub created_at: DateTime<Utc>,
        pub destroyed_at: Option<DateTime<Utc>>,
    }
}

row! {
    /// One use of a credential.
    pub struct CredentialReadView in "credential_reads" by ["event_id"] = |row| Key::of(row.event_id); once true; {
        #[serde(with = "id")]
        pub event_id: EventId,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        #[serde(with = "id")]
        pub credential_id: CredentialId,
        pub credential_version: i32,
        /// The reader's aggregate: `execution`, `connection` or `connector`.
        pub reader_type: String,
        pub reader_id: Uuid,
        pub purpose: String,
        #[serde(with = "optional_id")]
        pub connection_id: Option<ConnectionId>,
        /// Where it went; absent in events of older builds.
        pub host: Option<String>,
        pub step_key: Option<String>,
        pub attempt: Option<u32>,
        pub actor_kind: ActorKind,
        pub actor_id: String,
        pub read_at: DateTime<Utc>,
    }
}

const LIST: ListSpec = ListSpec {
    order: Order::Time("created_at"),
    filters: &[
        ("type", "kind", Kind::Text),
        ("connectionId", "connection_id", Kind::Id("conn")),
        ("status", "status", Kind::Text),
    ],
    sorts: &[("createdAt", "created_at"), ("updatedAt", "updated_at"), ("name", "name")],
    search: &["name"],
};

impl ReadModels {
    /// Filters: `type`, `connectionId`, `status` (those that were not deleted without it; erased ones are among the
    /// destroyed). Sorts: `createdAt`, `updatedAt`, `name`.
    pub async fn credentials(
        &self,
        workspace: WorkspaceId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<CredentialView>, QueryError> {
        let mut filter = filter.clone();
        let mut named = false;
        for (_, statuses) in filter.fields.iter_mut().filter(|(field, _)| field == "status") {
            named = true;
            if values(statuses).iter().any(|status| status == "destroyed") {
                statuses.push_str(",erased");
            }
        }
        let filter = filter.with("status", (!named).then_some("active,erased"));
        self.list(workspace, &LIST, &filter, page).await
    }

    /// One that was not deleted.
    pub async fn credential(
        &self,
        workspace: WorkspaceId,
        id: CredentialId,
    ) -> Result<Option<CredentialView>, QueryError> {
        Ok(self
            .any_credential(workspace, id)
            .await?
            .filter(|view| ["active", "erased"].contains(&view.status.as_str())))
    }

    /// Deleted and destroyed ones too.
    pub async fn any_credential(
        &self,
        workspace: WorkspaceId,
        id: CredentialId,
    ) -> Result<Option<CredentialView>, QueryError> {
        self.get(workspace, id.0).await
    }

    /// Every version of a credential, newest first.
    pub async fn credential_versions(
        &self,
        workspace: WorkspaceId,
        credential: CredentialId,
    ) -> Result<Vec<CredentialVersionView>, QueryError> {
        self.all(workspace, "t.credential_id = $1 order by t.version desc limit 1000", credential.0).await
    }

    /// The newest 1,000 uses of a credential, newest first.
    pub async fn credential_reads(
        &self,
        workspace: WorkspaceId,
        credential: CredentialId,
    ) -> Result<Vec<CredentialReadView>, QueryError> {
        let condition = "t.credential_id = $1 order by t.read_at desc, t.event_id desc limit 1000";
        self.all(workspace, condition, credential.0).await
    }
}

#[derive(Default)]
pub(crate) struct Credentials {
    credentials: Table<CredentialView>,
    versions: Table<CredentialVersionView>,
    reads: Table<CredentialReadView>,
}

impl View for Credentials {
    fn name(&self) -> &'static str {
        "credentials"
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "credential.created",
            "credential.rotated",
            "credential.expiry_changed",
            "credential.expiry_warned",
            "credential.expired",
            "credential.deleted",
            "credential.restored",
            "credential.version_destroyed",
            "credential.destroyed",
            "credential.read",
        ]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        match item.fact()? {
            Fact::Credential(event) => {
                self.credentials.want_own(&item.recorded);
                if let CredentialEvent::VersionDestroyed { version } = event {
                    self.versions.want(Key::pair(item.recorded.aggregate_id, version.to_string()));
                }
            }
            Fact::Execution(ExecutionEvent::CredentialRead { credential_id, .. })
            | Fact::Connection(ConnectionEvent::CredentialRead { credential_id, .. })
            | Fact::Connector(ConnectorEvent::CredentialRead { credential_id, .. }) => {
                self.credentials.want(Key::of(*credential_id));
            }
            _ => {}
        }
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.credentials, &mut self.versions, &mut self.reads]
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        match item.fact()? {
            Fact::Credential(event) => self.fold_own(item, event)?,
            Fact::Execution(ExecutionEvent::CredentialRead {
                credential_id,
                version,
                connection_id,
                purpose,
                host,
                key,
                attempt,
                ..
            }) => {
                let read = Read { version: *version, purpose, connection: *connection_id, host: host.clone() };
                self.fold_read(item, *credential_id, read, Some((key, *attempt)))?;
            }
            Fact::Connection(ConnectionEvent::CredentialRead { credential_id, version, purpose, host }) => {
                let connection = Some(ConnectionId(item.recorded.aggregate_id));
                let read = Read { version: *version, purpose, connection, host: host.clone() };
                self.fold_read(item, *credential_id, read, None)?;
            }
            Fact::Connector(ConnectorEvent::CredentialRead { credential_id, version, purpose }) => {
                let read = Read { version: *version, purpose, connection: None, host: None };
                self.fold_read(item, *credential_id, read, None)?;
            }
            _ => {}
        }
        Ok(())
    }
}

struct Read<'a> {
    version: i32,
    purpose: &'a str,
    connection: Option<ConnectionId>,
    host: Option<String>,
}

impl Credentials {
    fn fold_own(&mut self, item: &Item, event: &CredentialEvent) -> Result<(), Fault> {
        let recorded = &item.recorded;
        let key = Key::of(recorded.aggregate_id);
        match event {
            CredentialEvent::Created { name, kind, connection_id, version, key_version, .. } => {
                self.credentials.put(CredentialView {
                    id: CredentialId(recorded.aggregate_id),
                    workspace_id: WorkspaceId(recorded.workspace_id),
                    name: name.clone(),
                    kind: kind.clone(),
                    connection_id: *connection_id,
                    current_version: *version,
                    created_at: recorded.recorded_at,
                    updated_at: recorded.recorded_at,
                    last_read_at: None,
                    read_count: 0,
                    version: recorded.sequence,
                    status: "active".to_owned(),
                    expires_at: None,
                    warned: None,
                    destroy_at: None,
                    due_at: None,
                    value_destroyed: false,
                });
                self.add_version(item, *version, *key_version)?;
            }
            CredentialEvent::Rotated { version, key_version, .. } => {
                self.add_version(item, *version, *key_version)?;
            }
            CredentialEvent::VersionDestroyed { version } => {
                if let Some(row) = self.versions.change(&Key::pair(recorded.aggregate_id, version.to_string())) {
                    row.destroyed_at = Some(recorded.recorded_at);
                }
            }
            _ => {}
        }
        if let Some(row) = self.credentials.change(&key) {
            change(row, event, recorded.recorded_at);
            row.version = recorded.sequence;
        }
        Ok(())
    }

    fn add_version(&mut self, item: &Item, version: i32, key_version: i32) -> Result<(), Fault> {
        let recorded = &item.recorded;
        self.versions.put(CredentialVersionView {
            credential_id: CredentialId(recorded.aggregate_id),
            version,
            workspace_id: WorkspaceId(recorded.workspace_id),
            key_version,
            created_by: item.metadata()?.actor_id.clone(),
            created_at: recorded.recorded_at,
            destroyed_at: None,
        });
        Ok(())
    }

    fn fold_read(
        &mut self,
        item: &Item,
        credential: CredentialId,
        read: Read<'_>,
        step: Option<(&String, u32)>,
    ) -> Result<(), Fault> {
        let recorded = &item.recorded;
        let metadata = item.metadata()?;
        if let Some(row) = self.credentials.change(&Key::of(credential)) {
            row.last_read_at = Some(recorded.recorded_at);
            row.read_count += 1;
        }
        self.reads.put(CredentialReadView {
            event_id: EventId(recorded.event_id),
            workspace_id: WorkspaceId(recorded.workspace_id),
            credential_id: credential,
            credential_version: read.version,
            reader_type: recorded.aggregate_type.clone(),
            reader_id: recorded.aggregate_id,
            purpose: read.purpose.to_owned(),
            connection_id: read.connection,
            host: read.host,
            step_key: step.map(|(key, _)| key.clone()),
            attempt: step.map(|(_, attempt)| attempt),
            actor_kind: metadata.actor_kind,
            actor_id: metadata.actor_id.clone(),
            read_at: recorded.recorded_at,
        });
        Ok(())
    }
}

fn change(row: &mut CredentialView, event: &CredentialEvent, at: DateTime<Utc>) {
    match event {
        CredentialEvent::Rotated { version, .. } => {
            row.current_version = *version;
            row.value_destroyed = false;
            row.status = "active".to_owned();
            row.updated_at = at;
        }
        CredentialEvent::ExpiryChanged { expires_at } => {
            row.expires_at = *expires_at;
            row.warned = None;
            row.updated_at = at;
        }
        CredentialEvent::ExpiryWarned { days_left, .. } => row.warned = Some(*days_left),
        CredentialEvent::Expired { .. } => row.warned = Some(0),
        CredentialEvent::Deleted { destroy_at, .. } => {
            row.status = "deleted".to_owned();
            row.destroy_at = Some(destroy_at.unwrap_or(at));
        }
        CredentialEvent::Restored {} => {
            row.status = if row.value_destroyed { "erased" } else { "active" }.to_owned();
            row.destroy_at = None;
        }
        CredentialEvent::Destroyed { .. } => row.status = "destroyed".to_owned(),
        CredentialEvent::VersionDestroyed { version } if *version == row.current_version => {
            row.value_destroyed = true;
            if row.status == "active" {
                row.status = "erased".to_owned();
            }
        }
        CredentialEvent::Created { .. } | CredentialEvent::VersionDestroyed { .. } => {}
    }
    row.due_at = match row.status.as_str() {
        "active" | "erased" => row.expires_at.and_then(|expires| expiry::next(expires, row.warned)),
        "deleted" => row.destroy_at,
        _ => None,
    };
}
