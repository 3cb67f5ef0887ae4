//! A credential's life without its value: the value lies encrypted in the vault's own table.
//!
//! Who read it is told by `credential.read` in the reader's stream (an execution, a connection's test).

use serde::{Deserialize, Serialize};

use crate::{
    aggregate::aggregate,
    error::{Code, Faults, Rejection},
    event::events,
    ids::ConnectionId,
};

events! {
    pub enum CredentialEvent {
        "credential.created" v "1" = Created {
            name: String,
            /// One of [`KINDS`].
            kind: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            connection_id: Option<ConnectionId>,
            version: i32,
            /// Version of the data key that encrypts it.
            key_version: i32,
            /// HMAC-SHA-256 of the value under the workspace's key, hex: equal values show, values do not.
            value_hash: String,
        },
        "credential.rotated" v "1" = Rotated { version: i32, key_version: i32, value_hash: String },
        "credential.deleted" v "1" = Deleted {},
    }
}

/// Where the ciphertext of a new version was put.
#[derive(Debug, Clone)]
pub struct NewVersion {
    pub version: i32,
    pub key_version: i32,
    pub value_hash: String,
}

#[derive(Debug)]
pub enum CredentialCommand {
    Create { name: String, kind: String, connection: Option<ConnectionId>, value: NewVersion },
    Rotate { value: NewVersion },
    Delete,
}

/// What a credential may hold: values of a connection's scheme, or free text (`secret`).
pub const KINDS: [&str; 7] = ["api_key", "api_keys", "bearer", "basic", "mtls", "custom", "secret"];

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Credential {
    pub created: bool,
    pub deleted: bool,
    pub name: String,
    pub kind: String,
    pub connection: Option<ConnectionId>,
    pub version: i32,
}

impl Credential {
    pub fn is_live(&self) -> bool {
        self.created && !self.deleted
    }

    fn evolve(&mut self, event: CredentialEvent) {
        match event {
            CredentialEvent::Created { name, kind, connection_id, version, .. } => {
                self.created = true;
                self.name = name;
                self.kind = kind;
                self.connection = connection_id;
                self.version = version;
            }
            CredentialEvent::Rotated { version, .. } => self.version = version,
            CredentialEvent::Deleted {} => self.deleted = true,
        }
    }
}

fn decide(state: &Credential, command: CredentialCommand) -> Result<Vec<CredentialEvent>, Rejection> {
    let gone = || Rejection::not_found(Code::CredentialNotFound, "credential");
    match command {
        CredentialCommand::Create { .. } if state.created => {
            Err(Rejection::new(Code::Conflict, "This credential exists already."))
        }
        CredentialCommand::Create { name, kind, connection, value } => {
            let mut faults = Faults::default();
            faults.length("name", &name, 1, 200);
            if !KINDS.contains(&kind.as_str()) {
                faults.add("type", format!("must be one of {}", KINDS.join(", ")));
            }
            faults.into_result()?;
            Ok(vec![CredentialEvent::Created {
                name,
                kind,
                connection_id: connection,
                version: value.version,
                key_version: value.key_version,
                value_hash: value.value_hash,
            }])
        }
        _ if !state.is_live() => Err(gone()),
        CredentialCommand::Rotate { value } => Ok(vec![CredentialEvent::Rotated {
            version: value.version,
            key_version: value.key_version,
            value_hash: value.value_hash,
        }]),
        CredentialCommand::Delete => Ok(vec![CredentialEvent::Deleted {}]),
    }
}

aggregate!(Credential, "credential", CredentialCommand, CredentialEvent, decide);
