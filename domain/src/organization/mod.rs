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
    }
}

#[derive(Debug)]
pub enum OrganizationCommand {
    /// The founder becomes its owner.
    Create { name: String, owner: UserId },
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Organization {
    pub created: bool,
    pub name: String,
    pub members: Vec<(UserId, Role)>,
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
        }
    }
}

fn decide(state: &Organization, command: OrganizationCommand) -> Result<Vec<OrganizationEvent>, Rejection> {
    let OrganizationCommand::Create { name, owner } = command;
    if state.created {
        return Err(Rejection::new(Code::Conflict, "This organization exists already."));
    }
    Ok(vec![OrganizationEvent::Created { name }, OrganizationEvent::MemberAdded { user_id: owner, role: Role::Owner }])
}

aggregate!(Organization, "organization", OrganizationCommand, OrganizationEvent, decide);
