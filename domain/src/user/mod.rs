//! A person with a login. Account data is sealed with the person's own key.

mod command;
mod event;

pub use command::UserCommand;
pub use event::UserEvent;
use serde::{Deserialize, Serialize};

use crate::{
    actor::Role,
    aggregate::aggregate,
    ids::{OrganizationId, WorkspaceId},
    sealed::Sealed,
};

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct User {
    pub registered: bool,
    pub email: Option<Sealed<String>>,
    pub name: Option<Sealed<String>>,
    /// Argon2id in PHC form, sealed.
    pub password: Option<Sealed<String>>,
    pub organization: Option<OrganizationId>,
    pub workspace: Option<WorkspaceId>,
    pub role: Option<Role>,
}

impl User {
    fn evolve(&mut self, event: UserEvent) {
        match event {
            UserEvent::Registered { email, name, password, organization_id, workspace_id, role } => {
                *self = User {
                    registered: true,
                    email: Some(email),
                    name,
                    password: Some(password),
                    organization: Some(organization_id),
                    workspace: Some(workspace_id),
                    role: Some(role),
                };
            }
            UserEvent::LoggedIn { .. } | UserEvent::LoginFailed { .. } => {}
        }
    }
}

aggregate!(User, "user", UserCommand, UserEvent, command::decide);
