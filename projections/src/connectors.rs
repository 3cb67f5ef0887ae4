//! Connector instances, and what their last test said.

use chrono::{DateTime, Utc};
use domain::{
    connector::ConnectorEvent,
    ids::{ConnectorId, CredentialId, WorkspaceId},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    fault::Fault,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
    read::{QueryError, ReadModels},
    row::{Key, id, optional_id, row},
    table::{Rows, Table},
    view::{Fact, Item, View},
};

/// The last test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastConnectorTest {
    pub ok: bool,
    pub message: String,
    pub status: Option<u16>,
    pub problem: Option<String>,
    pub elapsed_ms: u64,
    pub at: DateTime<Utc>,
}

row! {
    pub struct ConnectorView in "connectors" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: ConnectorId,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        pub connector_type: String,
        pub name: String,
        /// `enabled` or `disabled`.
        pub status: String,
        #[serde(with = "optional_id")]
        pub credential_id: Option<CredentialId>,
        pub config: Value,
        pub last_test: Option<LastConnectorTest>,
        pub created_at: DateTime<Utc>,
        pub updated_at: DateTime<Utc>,
        /// The stream's last sequence; tests count too.
        pub version: i64,
    }
}

const LIST: ListSpec = ListSpec {
    order: Order::Time("created_at"),
    filters: &[("connectorType", "connector_type", Kind::Text), ("status", "status", Kind::Text)],
    sorts: &[("createdAt", "created_at"), ("updatedAt", "updated_at"), ("name", "name")],
    search: &["name"],
};

impl ReadModels {
    /// Filters: `connectorType`, `status`. Sorts: `createdAt`, `updatedAt`, `name`. Search: name.
    pub async fn connectors(
        &self,
        workspace: WorkspaceId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<ConnectorView>, QueryError> {
        self.list(workspace, &LIST, filter, page).await
    }

    pub async fn connector(
        &self,
        workspace: WorkspaceId,
        id: ConnectorId,
    ) -> Result<Option<ConnectorView>, QueryError> {
        self.get(workspace, id.0).await
    }
}

#[derive(Default)]
pub(crate) struct Connectors {
    rows: Table<ConnectorView>,
}

impl View for Connectors {
    fn name(&self) -> &'static str {
        "connectors"
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "connector.created",
            "connector.updated",
            "connector.enabled",
            "connector.disabled",
            "connector.tested",
            "connector.deleted",
            // In the connector's own stream before a test: it counts in the version.
            "credential.read",
        ]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        if let Fact::Connector(_) = item.fact()? {
            self.rows.want_own(&item.recorded);
        }
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.rows]
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        let Fact::Connector(event) = item.fact()? else { return Ok(()) };
        let recorded = &item.recorded;
        let key = Key::of(recorded.aggregate_id);
        if let ConnectorEvent::Created { connector_type, name, credential_id, config } = event {
            self.rows.put(ConnectorView {
                id: ConnectorId(recorded.aggregate_id),
                workspace_id: WorkspaceId(recorded.workspace_id),
                connector_type: connector_type.clone(),
                name: name.clone(),
                status: "enabled".to_owned(),
                credential_id: *credential_id,
                config: config.clone(),
                last_test: None,
                created_at: recorded.recorded_at,
                updated_at: recorded.recorded_at,
                version: recorded.sequence,
            });
            return Ok(());
        }
        let Some(row) = self.rows.change(&key) else { return Ok(()) };
        row.version = recorded.sequence;
        match event {
            ConnectorEvent::Updated { name, credential_id, config } => {
                row.name = name.clone().unwrap_or_else(|| std::mem::take(&mut row.name));
                row.credential_id = credential_id.or(row.credential_id);
                row.config = config.clone().unwrap_or_else(|| std::mem::take(&mut row.config));
                row.updated_at = recorded.recorded_at;
            }
            ConnectorEvent::Enabled {} | ConnectorEvent::Disabled {} => {
                let enabled = matches!(event, ConnectorEvent::Enabled {});
                row.status = if enabled { "enabled" } else { "disabled" }.to_owned();
                row.updated_at = recorded.recorded_at;
            }
            ConnectorEvent::Tested { ok, message, status, elapsed_ms, problem, .. } => {
                row.last_test = Some(LastConnectorTest {
                    ok: *ok,
                    message: message.clone(),
                    status: *status,
                    problem: problem.clone(),
                    elapsed_ms: *elapsed_ms,
                    at: recorded.recorded_at,
                });
            }
            ConnectorEvent::Deleted {} => self.rows.remove(&key),
            ConnectorEvent::Created { .. } | ConnectorEvent::CredentialRead { .. } => {}
        }
        Ok(())
    }
}
