//! Approval of hosts: what is asked of new ones, and what admins say.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::{
    connection::{Connection, ConnectionCommand, ConnectionEvent, Gate, origin},
    error::Rejection,
    ids::{ConnectionId, WorkspaceId},
    organization::Organization,
    workspace::{Workspace, WorkspaceCommand},
};

use super::load;
use crate::{
    App, Context, Failure, Outcome,
    unit::{Unit, check_version},
};

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

/// How old an answer of [`gate_of_late`] may be. What changes on this node is known on it at once.
const LATE: Duration = Duration::from_secs(1);
/// Workspaces remembered at most.
const REMEMBERED: usize = 1_000;

/// What organizations wanted a moment ago.
#[derive(Default)]
pub(crate) struct Gates(Mutex<HashMap<WorkspaceId, (Instant, Gate)>>);

impl Gates {
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn get(&self, workspace: WorkspaceId) -> Option<Gate> {
        let gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.get(&workspace).filter(|(at, _)| at.elapsed() < LATE).map(|(_, gate)| gate.clone())
    }

    fn put(&self, workspace: WorkspaceId, asked: Instant, gate: Gate) {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gates.len() >= REMEMBERED {
            gates.clear();
        }
        gates.insert(workspace, (asked, gate));
    }
}

/// The same for a call, of which there are many: as it was a second ago at the most.
pub async fn gate_of_late(app: &App, workspace: WorkspaceId) -> Result<Gate, Failure> {
    if let Some(gate) = app.gates().get(workspace) {
        return Ok(gate);
    }
    let asked = Instant::now();
    let gate = gate(app, workspace, &[]).await?;
    app.gates().put(workspace, asked, gate.clone());
    Ok(gate)
}

/// The named hosts, or every one that waits in the version that the caller has seen; the workspace's other connections
/// may call them, too.
pub async fn approve(
    app: &App,
    context: &Context,
    id: ConnectionId,
    expected_version: Option<i64>,
    hosts: Option<Vec<String>>,
) -> Outcome<()> {
    if hosts.is_none() && expected_version.is_none() {
        let message =
            "name the hosts that you approve (waitingHosts), or send If-Match with the version that you have seen";
        return Err(Rejection::field("hosts", message).into());
    }
    decide(app, context, id, expected_version, || ConnectionCommand::Approve { hosts: hosts.clone() }).await
}

/// Every host that waits, else those approved before: new connections to them ask again.
pub async fn reject(app: &App, context: &Context, id: ConnectionId, reason: Option<String>) -> Outcome<()> {
    decide(app, context, id, None, || ConnectionCommand::Reject { reason: reason.clone() }).await
}

async fn decide(
    app: &App,
    context: &Context,
    id: ConnectionId,
    expected_version: Option<i64>,
    command: impl Fn() -> ConnectionCommand,
) -> Outcome<()> {
    let workspace = context.actor.workspace;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut connection = load(app, workspace, id).await?;
        check_version(connection.sequence, expected_version)?;
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
            other => {
                app.gates().forget();
                return other;
            }
        }
    }
}
