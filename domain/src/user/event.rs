//! What happened to a person's account.

use crate::{
    actor::Role,
    event::events,
    ids::{OrganizationId, SessionId, WorkspaceId},
    sealed::Sealed,
};

events! {
    pub enum UserEvent {
        "user.registered" v "1" = Registered {
            email: Sealed<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            name: Option<Sealed<String>>,
            password: Sealed<String>,
            organization_id: OrganizationId,
            workspace_id: WorkspaceId,
            role: Role,
        },
        "user.logged_in" v "1" = LoggedIn { session_id: SessionId },
        "user.login_failed" v "1" = LoginFailed { reason: String },
    }
}
