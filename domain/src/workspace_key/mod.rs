//! A workspace's key, in versions: made, rotated, retired, destroyed. The keys themselves are the vault's.
//!
//! One stream a workspace. A rotation is decided here, so that of two at once one wins; what the vault has done by then
//! (a key made at its first use, a new master key, a destruction) is told afterwards by `Settle`.

mod command;
mod event;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use command::{KeyFact, NewKey, WorkspaceKeyCommand};
pub use event::WorkspaceKeyEvent;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{aggregate::aggregate, ids::WorkspaceId};

/// The stream of a workspace's key.
pub fn stream_of(workspace: WorkspaceId) -> Uuid {
    Uuid::new_v5(&workspace.0, b"workspace_key")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    Active,
    Retired,
    /// Will be destroyed with what it wraps.
    Doomed,
    Destroyed,
}

/// What the log knows of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyVersion {
    pub key_id: String,
    pub master_key_id: String,
    pub status: KeyStatus,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct WorkspaceKey {
    pub versions: BTreeMap<i32, KeyVersion>,
    /// The version that everything is being moved to.
    pub rotating_to: Option<i32>,
}

impl WorkspaceKey {
    pub fn active(&self) -> Option<i32> {
        self.versions.iter().find(|(_, v)| v.status == KeyStatus::Active).map(|(version, _)| *version)
    }

    pub fn doomed(&self) -> Vec<i32> {
        self.versions.iter().filter(|(_, v)| v.status == KeyStatus::Doomed).map(|(version, _)| *version).collect()
    }

    fn set(&mut self, version: i32, status: KeyStatus) {
        if let Some(known) = self.versions.get_mut(&version) {
            known.status = status;
        }
    }

    fn evolve(&mut self, event: WorkspaceKeyEvent) {
        match event {
            WorkspaceKeyEvent::Made { version, key_id, master_key_id } => {
                self.versions.insert(version, KeyVersion { key_id, master_key_id, status: KeyStatus::Active });
            }
            WorkspaceKeyEvent::Rotated { version, key_id, master_key_id, .. } => {
                self.versions.insert(version, KeyVersion { key_id, master_key_id, status: KeyStatus::Active });
                self.rotating_to = Some(version);
            }
            WorkspaceKeyEvent::Retired { version, .. } => self.set(version, KeyStatus::Retired),
            WorkspaceKeyEvent::Rewrapped { .. } => self.rotating_to = None,
            WorkspaceKeyEvent::MasterChanged { version, master_key_id, .. } => {
                if let Some(known) = self.versions.get_mut(&version) {
                    known.master_key_id = master_key_id;
                }
            }
            WorkspaceKeyEvent::ErasureRequested { version, .. } => self.set(version, KeyStatus::Doomed),
            WorkspaceKeyEvent::Destroyed { version, .. } => self.set(version, KeyStatus::Destroyed),
        }
    }
}

aggregate!(WorkspaceKey, "workspace_key", WorkspaceKeyCommand, WorkspaceKeyEvent, command::decide);
