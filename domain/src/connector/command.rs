//! What can be asked of a connector instance. That the type takes its config and credential is checked before.

use serde_json::Value;

use super::{Connector, ConnectorEvent};
use crate::{
    call::CallFacts,
    credential::name,
    error::{Code, Faults, Rejection},
    ids::CredentialId,
};

/// Fields to change; absent ones stay.
#[derive(Debug, Default, Clone)]
pub struct ConnectorPatch {
    pub name: Option<String>,
    pub credential: Option<CredentialId>,
    /// Takes the place of the whole config.
    pub config: Option<Value>,
    pub enabled: Option<bool>,
}

#[derive(Debug)]
pub enum ConnectorCommand {
    Create {
        connector_type: String,
        name: String,
        credential: Option<CredentialId>,
        config: Value,
    },
    Update(ConnectorPatch),
    RecordTest {
        ok: bool,
        message: String,
        status: Option<u16>,
        elapsed_ms: u64,
        problem: Option<String>,
        call: Option<CallFacts>,
    },
    ReadCredential {
        credential: CredentialId,
        version: i32,
        purpose: String,
    },
    Delete,
}

pub(super) fn decide(state: &Connector, command: ConnectorCommand) -> Result<Vec<ConnectorEvent>, Rejection> {
    if let ConnectorCommand::Create { connector_type, name, credential, config } = command {
        if state.created {
            return Err(Rejection::new(Code::Conflict, "This connector exists already."));
        }
        check(Some(&name), Some(&config))?;
        return Ok(vec![ConnectorEvent::Created { connector_type, name, credential_id: credential, config }]);
    }
    if !state.is_live() {
        return Err(Rejection::not_found(Code::ResourceNotFound, "connector"));
    }
    match command {
        ConnectorCommand::Create { .. } => Ok(vec![]),
        ConnectorCommand::Update(patch) => update(state, patch),
        ConnectorCommand::RecordTest { ok, message, status, elapsed_ms, problem, call } => {
            Ok(vec![ConnectorEvent::Tested { ok, message, status, elapsed_ms, problem, call }])
        }
        ConnectorCommand::ReadCredential { credential, version, purpose } => {
            Ok(vec![ConnectorEvent::CredentialRead { credential_id: credential, version, purpose }])
        }
        ConnectorCommand::Delete => Ok(vec![ConnectorEvent::Deleted {}]),
    }
}

fn update(state: &Connector, patch: ConnectorPatch) -> Result<Vec<ConnectorEvent>, Rejection> {
    check(patch.name.as_deref(), patch.config.as_ref())?;
    let name = patch.name.filter(|name| *name != state.name);
    let credential_id = patch.credential.filter(|id| state.credential != Some(*id));
    let config = patch.config.filter(|config| *config != state.config);
    let mut events = Vec::new();
    if name.is_some() || credential_id.is_some() || config.is_some() {
        events.push(ConnectorEvent::Updated { name, credential_id, config });
    }
    match patch.enabled.filter(|enabled| *enabled != state.enabled) {
        Some(true) => events.push(ConnectorEvent::Enabled {}),
        Some(false) => events.push(ConnectorEvent::Disabled {}),
        None => {}
    }
    Ok(events)
}

fn check(name: Option<&str>, config: Option<&Value>) -> Result<(), Rejection> {
    let mut faults = Faults::default();
    if let Some(name) = name {
        name::check(&mut faults, "name", name);
    }
    if config.is_some_and(|config| !config.is_object()) {
        faults.add("config", "must be an object");
    }
    faults.into_result()
}
