//! Approval of hosts: what is asked of new ones, and what admins say.

use domain::{
    connection::{Connection, ConnectionCommand, ConnectionEvent, Gate, origin},
    ids::{ConnectionId, WorkspaceId},
    organization::Organization,
    workspace::{Workspace, WorkspaceCommand},
};

use super::load;
use crate::{App, Context, Failure, Outcome, unit::Unit};

/// What the organization asks for, what the workspace has approved, and which of `urls` are in a private range.
pub async fn gate(app: &App, workspace: WorkspaceId, urls: &[Option<&str>]) -> Result<Gate, Failure> {
    let mut gate = Gate::default();
    for url in urls.iter().flatten() {
        if app.ports().addresses.is_private(url).await {
            gate.private.extend(origin(url));
        }
    }
    let workspace = app.store().load::<Workspace>(workspace.0).await?.state;
    if let Some(organization) = workspace.organization_id {
        let organization = app.store().load::<Organization>(organization.0).await?.state;
        gate.required = organization.settings.require_host_approval;
    }
    gate.approved = workspace.approved_hosts;
    Ok(gate)
}

/// Every host that waits; the workspace's other connections may call them, too.
pub async fn approve(app: &App, context: &Context, id: ConnectionId) -> Outcome<()> {
    decide(app, context, id, || ConnectionCommand::Approve).await
}

/// Every host that waits, else those approved before: new connections to them ask again.
pub async fn reject(app: &App, context: &Context, id: ConnectionId, reason: Option<String>) -> Outcome<()> {
    decide(app, context, id, || ConnectionCommand::Reject { reason: reason.clone() }).await
}

async fn decide(
    app: &App,
    context: &Context,
    id: ConnectionId,
    command: impl Fn() -> ConnectionCommand,
) -> Outcome<()> {
    let workspace = context.actor.workspace;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut connection = load(app, workspace, id).await?;
        let mut approved = app.store().load::<Workspace>(workspace.0).await?;
        let mut unit = Unit::new(app, context).await?;
        for event in unit.stage::<Connection>(&mut connection, command())? {
            match event {
                ConnectionEvent::HostApproved { hosts } => {
                    unit.stage(&mut approved, WorkspaceCommand::ApproveHosts { hosts })?;
                }
                ConnectionEvent::HostRejected { hosts, .. } => {
                    unit.stage(&mut approved, WorkspaceCommand::RejectHosts { hosts })?;
                }
                _ => {}
            }
        }
        match unit.commit(()).await {
            Err(failure) if failure.is_conflict() && attempt < 8 => continue,
            other => return other,
        }
    }
}
