//! What can be asked of a workspace's key.

use super::{KeyStatus, KeyVersion, WorkspaceKey, WorkspaceKeyEvent};
use crate::error::{Code, Rejection};

/// A version as the vault has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFact {
    pub version: i32,
    pub key_id: String,
    pub master_key_id: String,
    pub destroyed: bool,
    pub wrapped: i64,
    pub erased: i64,
}

/// A version that was prepared and wraps nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    pub version: i32,
    pub key_id: String,
    pub master_key_id: String,
}

#[derive(Debug, Clone)]
pub enum WorkspaceKeyCommand {
    /// Everything moves to this version.
    Rotate(NewKey),
    /// Destroy a version with what it wraps. `instead` takes its place when it is the active one.
    Erase { version: i32, instead: Option<NewKey> },
    /// Tells what the vault has done and the log does not know yet. `moved`: data keys under the active version, when
    /// nothing is left under older ones.
    Settle { facts: Vec<KeyFact>, moved: Option<i64> },
}

pub(super) fn decide(state: &WorkspaceKey, command: WorkspaceKeyCommand) -> Result<Vec<WorkspaceKeyEvent>, Rejection> {
    match command {
        WorkspaceKeyCommand::Rotate(new) => {
            if let Some(version) = state.rotating_to {
                let message =
                    format!("A rotation to version {version} is under way; it has to end before another begins.");
                return Err(Rejection::new(Code::Conflict, message));
            }
            rotate(state, new)
        }
        WorkspaceKeyCommand::Erase { version, instead } => erase(state, version, instead),
        WorkspaceKeyCommand::Settle { facts, moved } => Ok(settle(state, facts, moved)),
    }
}

fn rotate(state: &WorkspaceKey, new: NewKey) -> Result<Vec<WorkspaceKeyEvent>, Rejection> {
    let active = state.active().and_then(|version| state.versions.get(&version).map(|known| (version, known)));
    let Some((previous, known)) = active else {
        return Err(Rejection::new(Code::Conflict, "The workspace's key is being made; try again in a moment."));
    };
    if new.version <= previous {
        return Err(Rejection::new(Code::Conflict, "Somebody else has rotated the key meanwhile; read it again."));
    }
    Ok(vec![
        WorkspaceKeyEvent::Rotated {
            version: new.version,
            key_id: new.key_id,
            master_key_id: new.master_key_id,
            previous_version: previous,
        },
        WorkspaceKeyEvent::Retired { version: previous, key_id: known.key_id.clone() },
    ])
}

fn erase(state: &WorkspaceKey, version: i32, instead: Option<NewKey>) -> Result<Vec<WorkspaceKeyEvent>, Rejection> {
    let missing = || Rejection::not_found(Code::ResourceNotFound, "key version");
    let known = state.versions.get(&version).ok_or_else(missing)?;
    let requested = WorkspaceKeyEvent::ErasureRequested { version, key_id: known.key_id.clone() };
    match known.status {
        KeyStatus::Destroyed => Err(Rejection::new(Code::Conflict, "This version is destroyed already.")),
        KeyStatus::Doomed => Ok(vec![]),
        KeyStatus::Retired => Ok(vec![requested]),
        // The workspace goes on with another one; what this one wraps stays under it and goes with it.
        KeyStatus::Active => {
            let missing = || Rejection::new(Code::Conflict, "This version wraps what is new by now; try again.");
            let mut events = rotate(state, instead.ok_or_else(missing)?)?;
            events.push(requested);
            Ok(events)
        }
    }
}

fn settle(state: &WorkspaceKey, facts: Vec<KeyFact>, moved: Option<i64>) -> Vec<WorkspaceKeyEvent> {
    let mut events = Vec::new();
    for fact in facts {
        let KeyFact { version, key_id, master_key_id, destroyed, wrapped, erased } = fact;
        let known = state.versions.get(&version);
        if known.is_none() {
            events.push(WorkspaceKeyEvent::Made {
                version,
                key_id: key_id.clone(),
                master_key_id: master_key_id.clone(),
            });
        }
        if let Some(KeyVersion { master_key_id: previous, .. }) = known
            && *previous != master_key_id
            && !destroyed
        {
            events.push(WorkspaceKeyEvent::MasterChanged {
                version,
                key_id: key_id.clone(),
                master_key_id,
                previous_master_key_id: previous.clone(),
            });
        }
        if destroyed && known.is_none_or(|known| known.status != KeyStatus::Destroyed) {
            events.push(WorkspaceKeyEvent::Destroyed { version, key_id, wrapped, erased });
        }
    }
    if let (Some(data_keys), Some(version)) = (moved, state.rotating_to)
        && let Some(known) = state.versions.get(&version)
    {
        events.push(WorkspaceKeyEvent::Rewrapped { version, key_id: known.key_id.clone(), data_keys });
    }
    events
}
