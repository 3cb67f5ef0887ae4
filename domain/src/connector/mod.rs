//! A connector instance: a type of connector with its credential and its settings, switched on or off.
//!
//! What types there are, and what their actions want, is not decided here: `kind` only says how that is told.

mod command;
mod event;
pub mod kind;
#[cfg(test)]
mod tests;

pub use command::{ConnectorCommand, ConnectorPatch};
pub use event::ConnectorEvent;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{aggregate::aggregate, ids::CredentialId};

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Connector {
    pub created: bool,
    pub deleted: bool,
    pub enabled: bool,
    /// Name of its type: `slack`.
    pub connector_type: String,
    pub name: String,
    pub credential: Option<CredentialId>,
    /// What its type's schema allows; never a secret.
    pub config: Value,
}

impl Connector {
    pub fn is_live(&self) -> bool {
        self.created && !self.deleted
    }

    fn evolve(&mut self, event: ConnectorEvent) {
        match event {
            ConnectorEvent::Created { connector_type, name, credential_id, config } => {
                self.created = true;
                self.enabled = true;
                self.connector_type = connector_type;
                self.name = name;
                self.credential = credential_id;
                self.config = config;
            }
            ConnectorEvent::Updated { name, credential_id, config } => {
                self.name = name.unwrap_or_else(|| std::mem::take(&mut self.name));
                self.credential = credential_id.or(self.credential);
                self.config = config.unwrap_or_else(|| std::mem::take(&mut self.config));
            }
            ConnectorEvent::Enabled {} => self.enabled = true,
            ConnectorEvent::Disabled {} => self.enabled = false,
            ConnectorEvent::Deleted {} => self.deleted = true,
            ConnectorEvent::Tested { .. } | ConnectorEvent::CredentialRead { .. } => {}
        }
    }
}

aggregate!(Connector, "connector", ConnectorCommand, ConnectorEvent, command::decide);
