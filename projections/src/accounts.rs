//! Users and workspaces. Account data stays sealed with the person's own key.

use chrono::{DateTime, Utc};
use domain::{
    actor::Role,
    ids::{OrganizationId, UserId, WorkspaceId},
    organization::OrganizationEvent,
    sealed::Sealed,
    user::UserEvent,
    workspace::WorkspaceEvent,
};

use crate::{
    fault::Fault,
    list::{Kind, ListFilter, ListSpec, Listed, Order, Page},
    read::{QueryError, ReadModels},
    row::{Key, id, row},
    table::{Rows, Table},
    view::{Fact, Item, View},
};

row! {
    /// A person's account.
    pub struct UserView in "users" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: UserId,
        /// The default workspace.
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        #[serde(with = "id")]
        pub organization_id: OrganizationId,
        pub role: Role,
        pub email: Sealed<String>,
        pub name: Option<Sealed<String>>,
        pub created_at: DateTime<Utc>,
        pub last_login_at: Option<DateTime<Utc>>,
    }
}

row! {
    pub struct WorkspaceView in "workspaces" by ["id"] = |row| Key::of(row.id); {
        #[serde(with = "id")]
        pub id: WorkspaceId,
        /// Itself: what row-level security compares.
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        #[serde(with = "id")]
        pub organization_id: OrganizationId,
        pub name: String,
        pub created_at: DateTime<Utc>,
    }
}

const USERS: ListSpec = ListSpec {
    order: Order::Time("created_at"),
    filters: &[("role", "role", Kind::Text)],
    sorts: &[("createdAt", "created_at"), ("lastLoginAt", "last_login_at")],
    search: &[],
};

impl ReadModels {
    /// Filters: `role`. Sorts: `createdAt`, `lastLoginAt`.
    pub async fn users(
        &self,
        workspace: WorkspaceId,
        filter: &ListFilter,
        page: &Page,
    ) -> Result<Listed<UserView>, QueryError> {
        self.list(workspace, &USERS, filter, page).await
    }

    pub async fn user(&self, workspace: WorkspaceId, id: UserId) -> Result<Option<UserView>, QueryError> {
        self.get(workspace, id.0).await
    }

    pub async fn workspace(&self, workspace: WorkspaceId) -> Result<Option<WorkspaceView>, QueryError> {
        self.get(workspace, workspace.0).await
    }
}

#[derive(Default)]
pub(crate) struct Accounts {
    users: Table<UserView>,
    workspaces: Table<WorkspaceView>,
}

impl View for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn events(&self) -> &'static [&'static str] {
        &["organization.member_added", "workspace.created", "user.registered", "user.logged_in"]
    }

    fn want(&mut self, item: &Item) -> Result<(), Fault> {
        match item.fact()? {
            Fact::Organization(OrganizationEvent::MemberAdded { user_id, .. }) => self.users.want(Key::of(*user_id)),
            Fact::User(_) => self.users.want_own(&item.recorded),
            _ => {}
        }
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.users, &mut self.workspaces]
    }

    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        let recorded = &item.recorded;
        match item.fact()? {
            Fact::Organization(OrganizationEvent::MemberAdded { user_id, role }) => {
                // A founder's membership may stand before the account itself, which brings its own role.
                if let Some(user) = self.users.change(&Key::of(*user_id)) {
                    user.role = *role;
                }
            }
            Fact::Workspace(WorkspaceEvent::Created { organization_id, name }) => self.workspaces.put(WorkspaceView {
                id: WorkspaceId(recorded.aggregate_id),
                workspace_id: WorkspaceId(recorded.aggregate_id),
                organization_id: *organization_id,
                name: name.clone(),
                created_at: recorded.recorded_at,
            }),
            Fact::User(UserEvent::Registered { email, name, organization_id, workspace_id, role, .. }) => {
                self.users.put(UserView {
                    id: UserId(recorded.aggregate_id),
                    workspace_id: *workspace_id,
                    organization_id: *organization_id,
                    role: *role,
                    email: email.clone(),
                    name: name.clone(),
                    created_at: recorded.recorded_at,
                    last_login_at: None,
                });
            }
            Fact::User(UserEvent::LoggedIn { .. }) => {
                if let Some(user) = self.users.change(&Key::of(recorded.aggregate_id)) {
                    user.last_login_at = Some(recorded.recorded_at);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
