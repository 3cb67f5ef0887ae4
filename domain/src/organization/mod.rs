//! A company: owns workspaces and has members.

use serde::{Deserialize, Serialize};

use crate::{
    actor::Role,
    aggregate::aggregate,
    error::{Code, Rejection},
    event::events,
    ids::UserId,
};

events! {
    pub enum OrganizationEvent {
        "organization.created" v "1" = Created { name: String },
        "organization.member_added" v "1" = MemberAdded { user_id: UserId, role: Role },
        "organization.settings_changed" v "1" = SettingsChanged { settings: Settings },
    }
}

#[derive(Debug)]
pub enum OrganizationCommand {
    /// The founder becomes its owner.
    Create {
        name: String,
        owner: UserId,
    },
    ChangeSettings {
        settings: Settings,
    },
}

/// What an organization decides for all its workspaces.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Nothing is called at a host that an admin has not approved.
    pub require_host_approval: bool,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Organization {
    pub created: bool,
    pub name: String,
    pub members: Vec<(UserId, Role)>,
    #[serde(default)]
    pub settings: Settings,
}

impl Organization {
    fn evolve(&mut self, event: OrganizationEvent) {
        match event {
            OrganizationEvent::Created { name } => {
                self.created = true;
                self.name = name;
            }
            OrganizationEvent::MemberAdded { user_id, role } => {
                self.members.retain(|(id, _)| *id != user_id);
                self.members.push((user_id, role));
            }
            OrganizationEvent::SettingsChanged { settings } => self.settings = settings,
        }
    }
}

fn decide(state: &Organization, command: OrganizationCommand) -> Result<Vec<OrganizationEvent>, Rejection> {
    match command {
        OrganizationCommand::Create { .. } if state.created => {
            Err(Rejection::new(Code::Conflict, "This organization exists already."))
        }
        OrganizationCommand::Create { name, owner } => {
            let member = OrganizationEvent::MemberAdded { user_id: owner, role: Role::Owner };
            Ok(vec![OrganizationEvent::Created { name }, member])
        }
        OrganizationCommand::ChangeSettings { .. } if !state.created => {
            Err(Rejection::not_found(Code::ResourceNotFound, "organization"))
        }
        OrganizationCommand::ChangeSettings { settings } if settings == state.settings => Ok(vec![]),
        OrganizationCommand::ChangeSettings { settings } => Ok(vec![OrganizationEvent::SettingsChanged { settings }]),
    }
}

aggregate!(Organization, "organization", OrganizationCommand, OrganizationEvent, decide);
