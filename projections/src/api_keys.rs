//! API keys of a workspace: who made them, what they may do, whether they still work.

use chrono::{DateTime, Utc};
use domain::{
    actor::Role,
    api_key::ApiKeyEvent,
    ids::{ApiKeyId, WorkspaceId},
};
use serde::{Deserialize, Serialize};

use crate::{
    fault::Fault,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
    read::{QueryError, ReadModels},
    row::{Key, id, row},
    table::{Rows, Table},
    view::{Fact, Item, View},
};

/// Expiry is not a status: compare `expires_at` with the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyStatus {
    Active,
    Revoked,
}

row! {
    pub struct ApiKeyView in "api_keys" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: ApiKeyId,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        pub name: String,
        pub role: Role,
        /// The key's first characters.
        pub prefix: String,
        pub status: ApiKeyStatus,
        /// The actor's id as text.
        pub created_by: String,
        pub created_at: DateTime<Utc>,
        pub expires_at: Option<DateTime<Utc>>,
        pub revoked_at: Option<DateTime<Utc>>,
        /// The stream's last sequence.
        pub version: i64,
    }
}

const LIST: ListSpec = ListSpec {
    order: Order::Time("created_at"),
    filters: &[("status", "status", Kind::Text), ("role", "role", Kind::Text)],
    sorts: &[("createdAt", "created_at"), ("name", "name"), ("expiresAt", "expires_at")],
    search: &["name", "prefix"],
};

impl ReadModels {
    /// Filters: `status`, `role`. Sorts: `createdAt`, `name`, `expiresAt`. Search: name, prefix.
    pub async fn api_keys(
        &self,
        workspace: WorkspaceId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<ApiKeyView>, QueryError> {
        self.list(workspace, &LIST, filter, page).await
    }

    pub async fn api_key(&self, workspace: WorkspaceId, id: ApiKeyId) -> Result<Option<ApiKeyView>, QueryError> {
        self.get(workspace, id.0).await
    }
}

#[derive(Default)]
pub(crate) struct ApiKeys {
    keys: Table<ApiKeyView>,
}

impl View for ApiKeys {
    fn name(&self) -> &'static str {
        "api_keys"
    }

    fn events(&self) -> &'static [&'static str] {
        &["api_key.created", "api_key.revoked"]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        self.keys.want_own(&item.recorded);
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.keys]
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        let recorded = &item.recorded;
        let Fact::ApiKey(event) = item.fact()? else { return Ok(()) };
        match event {
            ApiKeyEvent::Created { workspace_id, name, role, prefix, expires_at, .. } => self.keys.put(ApiKeyView {
                id: ApiKeyId(recorded.aggregate_id),
                workspace_id: *workspace_id,
                name: name.clone(),
                role: *role,
                prefix: prefix.clone(),
                status: ApiKeyStatus::Active,
                created_by: item.metadata()?.actor_id.clone(),
                created_at: recorded.recorded_at,
                expires_at: *expires_at,
                revoked_at: None,
                version: recorded.sequence,
            }),
            ApiKeyEvent::Revoked {} => {
                if let Some(key) = self.keys.change(&Key::of(recorded.aggregate_id)) {
                    key.status = ApiKeyStatus::Revoked;
                    key.revoked_at = Some(recorded.recorded_at);
                    key.version = recorded.sequence;
                }
            }
        }
        Ok(())
    }
}
