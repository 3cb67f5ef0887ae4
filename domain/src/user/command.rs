//! What can be asked of an account.

use super::{User, UserEvent};
use crate::{
    actor::Role,
    error::{Code, Rejection},
    ids::{OrganizationId, SessionId, WorkspaceId},
    sealed::Sealed,
};

#[derive(Debug)]
pub enum UserCommand {
    Register {
        email: Sealed<String>,
        name: Option<Sealed<String>>,
        password: Sealed<String>,
        organization: OrganizationId,
        workspace: WorkspaceId,
    },
    LogIn {
        session: SessionId,
    },
    FailLogin,
}

pub(super) fn decide(state: &User, command: UserCommand) -> Result<Vec<UserEvent>, Rejection> {
    match command {
        UserCommand::Register { .. } if state.registered => {
            Err(Rejection::new(Code::Conflict, "This account exists already."))
        }
        UserCommand::Register { email, name, password, organization, workspace } => Ok(vec![UserEvent::Registered {
            email,
            name,
            password,
            organization_id: organization,
            workspace_id: workspace,
            role: Role::Owner,
        }]),
        _ if !state.registered => Err(Rejection::new(Code::InvalidCredentials, "E-mail address or password is wrong.")),
        UserCommand::LogIn { session } => Ok(vec![UserEvent::LoggedIn { session_id: session }]),
        UserCommand::FailLogin => Ok(vec![UserEvent::LoginFailed { reason: "wrong password".into() }]),
    }
}
