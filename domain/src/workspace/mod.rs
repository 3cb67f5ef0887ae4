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
        /// Connections to these hosts need no approval any more.
        "workspace.hosts_approved" v "1" = HostsApproved { hosts: Vec<String> },
        "workspace.hosts_rejected" v "1" = HostsRejected { hosts: Vec<String> },
    }
}

#[derive(Debug)]
pub enum WorkspaceCommand {
    Create { organization_id: OrganizationId, name: String },
    ApproveHosts { hosts: Vec<String> },
    RejectHosts { hosts: Vec<String> },
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Workspace {
    pub organization_id: Option<OrganizationId>,
    pub name: String,
    /// Origins that admins have approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_hosts: Vec<String>,
}

impl Workspace {
    fn evolve(&mut self, event: WorkspaceEvent) {
        match event {
            WorkspaceEvent::Created { organization_id, name } => {
                self.organization_id = Some(organization_id);
                self.name = name;
            }
            WorkspaceEvent::HostsApproved { hosts } => self.approved_hosts.extend(hosts),
            WorkspaceEvent::HostsRejected { hosts } => self.approved_hosts.retain(|host| !hosts.contains(host)),
        }
    }
}

fn decide(state: &Workspace, command: WorkspaceCommand) -> Result<Vec<WorkspaceEvent>, Rejection> {
    match command {
        WorkspaceCommand::Create { .. } if state.organization_id.is_some() => {
            Err(Rejection::new(Code::Conflict, "This workspace exists already."))
        }
        WorkspaceCommand::Create { organization_id, name } => {
            Ok(vec![WorkspaceEvent::Created { organization_id, name }])
        }
        WorkspaceCommand::ApproveHosts { mut hosts } => {
            hosts.retain(|host| !state.approved_hosts.contains(host));
            Ok(if hosts.is_empty() { vec![] } else { vec![WorkspaceEvent::HostsApproved { hosts }] })
        }
        WorkspaceCommand::RejectHosts { mut hosts } => {
            hosts.retain(|host| state.approved_hosts.contains(host));
            Ok(if hosts.is_empty() { vec![] } else { vec![WorkspaceEvent::HostsRejected { hosts }] })
        }
    }
}

aggregate!(Workspace, "workspace", WorkspaceCommand, WorkspaceEvent, decide);
