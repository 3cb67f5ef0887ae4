//! The tenant: everything but accounts belongs to one.

use serde::{Deserialize, Serialize};

use crate::{
    aggregate::aggregate,
    error::{Code, Rejection},
    event::events,
    ids::OrganizationId,
};

events! {
    pub enum WorkspaceEvent {
        "workspace.created" v "1" = Created { organization_id: OrganizationId, name: String },
    }
}

#[derive(Debug)]
pub enum WorkspaceCommand {
    Create { organization_id: OrganizationId, name: String },
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Workspace {
    pub organization_id: Option<OrganizationId>,
    pub name: String,
}

impl Workspace {
    fn evolve(&mut self, event: WorkspaceEvent) {
        let WorkspaceEvent::Created { organization_id, name } = event;
        self.organization_id = Some(organization_id);
        self.name = name;
    }
}

fn decide(state: &Workspace, command: WorkspaceCommand) -> Result<Vec<WorkspaceEvent>, Rejection> {
    let WorkspaceCommand::Create { organization_id, name } = command;
    if state.organization_id.is_some() {
        return Err(Rejection::new(Code::Conflict, "This workspace exists already."));
    }
    Ok(vec![WorkspaceEvent::Created { organization_id, name }])
}

aggregate!(Workspace, "workspace", WorkspaceCommand, WorkspaceEvent, decide);
