//! Credentials without their values, and who read them.

use chrono::{DateTime, Utc};
use domain::{
    actor::ActorKind,
    connection::ConnectionEvent,
    credential::CredentialEvent,
    execution::ExecutionEvent,
    ids::{ConnectionId, CredentialId, EventId, WorkspaceId},
};
use uuid::Uuid;

use crate::{
    fault::Fault,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
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
        /// One of `domain::credential::KINDS`.
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
        /// The reader's aggregate: `execution` or `connection`.
        pub reader_type: String,
        pub reader_id: Uuid,
        pub purpose: String,
        pub step_key: Option<String>,
        pub attempt: Option<u32>,
        pub actor_kind: ActorKind,
        pub actor_id: String,
        pub read_at: DateTime<Utc>,
    }
}

const LIST: ListSpec = ListSpec {
    order: Order::Time("created_at"),
    filters: &[("type", "kind", Kind::Text), ("connectionId", "connection_id", Kind::Id("conn"))],
    sorts: &[("createdAt", "created_at"), ("updatedAt", "updated_at"), ("name", "name")],
    search: &["name"],
};

impl ReadModels {
    /// Filters: `type`, `connectionId`. Sorts: `createdAt`, `updatedAt`, `name`.
    pub async fn credentials(
        &self,
        workspace: WorkspaceId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<CredentialView>, QueryError> {
        self.list(workspace, &LIST, filter, page).await
    }

    pub async fn credential(
        &self,
        workspace: WorkspaceId,
        id: CredentialId,
    ) -> Result<Option<CredentialView>, QueryError> {
        self.get(workspace, id.0).await
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
    reads: Table<CredentialReadView>,
}

impl View for Credentials {
    fn name(&self) -> &'static str {
        "credentials"
    }

    fn events(&self) -> &'static [&'static str] {
        &["credential.created", "credential.rotated", "credential.deleted", "credential.read"]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        match item.fact()? {
            Fact::Credential(_) => self.credentials.want_own(&item.recorded),
            Fact::Execution(ExecutionEvent::CredentialRead { credential_id, .. })
            | Fact::Connection(ConnectionEvent::CredentialRead { credential_id, .. }) => {
                self.credentials.want(Key::of(*credential_id));
            }
            _ => {}
        }
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.credentials, &mut self.reads]
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        match item.fact()? {
            Fact::Credential(event) => self.fold_own(item, event),
            Fact::Execution(ExecutionEvent::CredentialRead {
                credential_id, version, purpose, key, attempt, ..
            }) => {
                self.fold_read(item, *credential_id, *version, purpose, Some((key, *attempt)))?;
            }
            Fact::Connection(ConnectionEvent::CredentialRead { credential_id, version, purpose }) => {
                self.fold_read(item, *credential_id, *version, purpose, None)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Credentials {
    fn fold_own(&mut self, item: &Item, event: &CredentialEvent) {
        let recorded = &item.recorded;
        let key = Key::of(recorded.aggregate_id);
        match event {
            CredentialEvent::Created { name, kind, connection_id, version, .. } => {
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
                });
            }
            CredentialEvent::Rotated { version, .. } => {
                if let Some(row) = self.credentials.change(&key) {
                    row.current_version = *version;
                    row.updated_at = recorded.recorded_at;
                    row.version = recorded.sequence;
                }
            }
            CredentialEvent::Deleted {} => self.credentials.remove(&key),
        }
    }

    fn fold_read(
        &mut self,
        item: &Item,
        credential: CredentialId,
        version: i32,
        purpose: &str,
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
            credential_version: version,
            reader_type: recorded.aggregate_type.clone(),
            reader_id: recorded.aggregate_id,
            purpose: purpose.to_owned(),
            step_key: step.map(|(key, _)| key.clone()),
            attempt: step.map(|(_, attempt)| attempt),
            actor_kind: metadata.actor_kind,
            actor_id: metadata.actor_id.clone(),
            read_at: recorded.recorded_at,
        });
        Ok(())
    }
}
