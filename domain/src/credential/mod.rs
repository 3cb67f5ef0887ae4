//! A credential's life without its value: the value lies encrypted in the vault's own table.
//!
//! Who read it is told by `credential.read` in the reader's stream (an execution, a connection's test).

pub mod expiry;
pub mod name;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    aggregate::aggregate,
    connector::kind::is_type_name,
    error::{Code, Faults, Rejection},
    event::events,
    ids::ConnectionId,
};

events! {
    pub enum CredentialEvent {
        "credential.created" v "1" = Created {
            name: String,
            /// One of [`KINDS`], or the name of a type of connector.
            kind: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            connection_id: Option<ConnectionId>,
            version: i32,
            /// Version of the workspace's key that wraps its data key.
            key_version: i32,
            /// HMAC-SHA-256 of the value under the workspace's key, hex: equal values show, values do not.
            value_hash: String,
        },
        "credential.rotated" v "1" = Rotated { version: i32, key_version: i32, value_hash: String },
        "credential.expiry_changed" v "1" = ExpiryChanged {
            /// Absent: it does not expire.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            expires_at: Option<DateTime<Utc>>,
        },
        "credential.expiry_warned" v "1" = ExpiryWarned { expires_at: DateTime<Utc>, days_left: u32 },
        "credential.expired" v "1" = Expired { expires_at: DateTime<Utc> },
        "credential.deleted" v "1" = Deleted {
            /// Until then it can be restored. Absent: its value is destroyed at once.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            destroy_at: Option<DateTime<Utc>>,
            /// Where its connection let it go, when it had one.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            bound_to: Option<String>,
        },
        "credential.restored" v "1" = Restored {},
        "credential.version_destroyed" v "1" = VersionDestroyed { version: i32 },
        /// The ciphertext of every version is gone.
        "credential.destroyed" v "1" = Destroyed { versions: u64 },
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
    Create {
        name: String,
        kind: String,
        connection: Option<ConnectionId>,
        value: NewVersion,
    },
    Rotate {
        value: NewVersion,
    },
    /// `None`: it does not expire any more.
    SetExpiry {
        expires_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    },
    /// Tells what is due of its expiry.
    Tend {
        now: DateTime<Utc>,
    },
    /// `None`: its value is destroyed at once, and it cannot be restored.
    Delete {
        destroy_at: Option<DateTime<Utc>>,
        bound_to: Option<String>,
    },
    Restore {
        now: DateTime<Utc>,
    },
    /// A version that is not the present one. Decided before its ciphertext is destroyed.
    DestroyVersion {
        version: i32,
    },
    /// The ciphertext of these versions went with the key that wrapped them; of the present one too, maybe.
    RecordErasure {
        versions: Vec<i32>,
    },
    /// The ciphertext of a deleted credential is gone: of so many versions.
    RecordDestruction {
        versions: u64,
    },
}

/// What a credential may hold: values of a connection's scheme, or free text (`secret`). Beside these it may be data for a
/// type of connector, whose name its kind is then.
pub const KINDS: [&str; 9] =
    ["api_key", "api_keys", "bearer", "basic", "mtls", "custom", "document", "oauth2", "secret"];

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Credential {
    pub created: bool,
    pub deleted: bool,
    pub name: String,
    pub kind: String,
    pub connection: Option<ConnectionId>,
    pub version: i32,
    pub expires_at: Option<DateTime<Utc>>,
    /// The last warning that was told: days before the expiry, 0 for the expiry itself.
    pub warned: Option<u32>,
    /// Of a deleted one; absent: at once.
    pub destroy_at: Option<DateTime<Utc>>,
    /// Where its connection let it go before it was deleted.
    pub bound_to: Option<String>,
    pub destroyed: bool,
    pub destroyed_versions: BTreeSet<i32>,
}

impl Credential {
    pub fn is_live(&self) -> bool {
        self.created && !self.deleted
    }

    /// An expired one is handed out to nobody.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// The present version's value is gone: it was erased with its key. A new one can be stored.
    pub fn is_erased(&self) -> bool {
        self.destroyed_versions.contains(&self.version)
    }

    /// Deleted, and not yet given up for good.
    fn is_restorable_ever(&self) -> bool {
        self.deleted && !self.destroyed && self.destroy_at.is_some()
    }

    /// May it still be restored?
    pub fn is_restorable(&self, now: DateTime<Utc>) -> bool {
        self.deleted && !self.destroyed && self.destroy_at.is_some_and(|at| now < at)
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
            CredentialEvent::ExpiryChanged { expires_at } => {
                self.expires_at = expires_at;
                self.warned = None;
            }
            CredentialEvent::ExpiryWarned { days_left, .. } => self.warned = Some(days_left),
            CredentialEvent::Expired { .. } => self.warned = Some(0),
            CredentialEvent::Deleted { destroy_at, bound_to } => {
                self.deleted = true;
                self.destroy_at = destroy_at;
                self.bound_to = bound_to;
            }
            CredentialEvent::Restored {} => {
                self.deleted = false;
                self.destroy_at = None;
            }
            CredentialEvent::VersionDestroyed { version } => drop(self.destroyed_versions.insert(version)),
            CredentialEvent::Destroyed { .. } => self.destroyed = true,
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
            name::check(&mut faults, "name", &name);
            if !KINDS.contains(&kind.as_str()) && !is_type_name(&kind) {
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
        CredentialCommand::Restore { .. } if state.is_live() => Ok(vec![]),
        CredentialCommand::Restore { now } if state.is_restorable(now) => Ok(vec![CredentialEvent::Restored {}]),
        // Told once, whoever destroys it first.
        CredentialCommand::RecordDestruction { versions } if state.deleted && !state.destroyed => {
            Ok(vec![CredentialEvent::Destroyed { versions }])
        }
        CredentialCommand::RecordDestruction { .. } if state.destroyed => Ok(vec![]),
        CredentialCommand::RecordErasure { .. } if !state.created || state.destroyed => Ok(vec![]),
        CredentialCommand::RecordErasure { versions } => {
            let known = |version: &i32| (1..=state.version).contains(version);
            let versions: BTreeSet<i32> = versions.into_iter().filter(known).collect();
            let new = versions.difference(&state.destroyed_versions);
            Ok(new.map(|version| CredentialEvent::VersionDestroyed { version: *version }).collect())
        }
        // A deleted one may be given up before its time.
        CredentialCommand::Delete { destroy_at: None, .. } if state.is_restorable_ever() => {
            Ok(vec![CredentialEvent::Deleted { destroy_at: None, bound_to: None }])
        }
        CredentialCommand::Tend { .. } if !state.is_live() => Ok(vec![]),
        _ if !state.is_live() => Err(gone()),
        CredentialCommand::Rotate { value } => Ok(vec![CredentialEvent::Rotated {
            version: value.version,
            key_version: value.key_version,
            value_hash: value.value_hash,
        }]),
        CredentialCommand::SetExpiry { expires_at, .. } if expires_at == state.expires_at => Ok(vec![]),
        CredentialCommand::SetExpiry { expires_at: Some(at), now } if at <= now => {
            Err(Rejection::field("expiresAt", "must be in the future"))
        }
        CredentialCommand::SetExpiry { expires_at, .. } => Ok(vec![CredentialEvent::ExpiryChanged { expires_at }]),
        CredentialCommand::Tend { now } => Ok(tend(state, now)),
        CredentialCommand::Delete { destroy_at, bound_to } => {
            Ok(vec![CredentialEvent::Deleted { destroy_at, bound_to }])
        }
        CredentialCommand::DestroyVersion { version } => destroy_version(state, version),
        CredentialCommand::RecordDestruction { .. } | CredentialCommand::Restore { .. } => Ok(vec![]),
    }
}

fn tend(state: &Credential, now: DateTime<Utc>) -> Vec<CredentialEvent> {
    let Some(expires_at) = state.expires_at else { return vec![] };
    match expiry::due(expires_at, state.warned, now) {
        None => vec![],
        Some(0) => vec![CredentialEvent::Expired { expires_at }],
        Some(days_left) => vec![CredentialEvent::ExpiryWarned { expires_at, days_left }],
    }
}

fn destroy_version(state: &Credential, version: i32) -> Result<Vec<CredentialEvent>, Rejection> {
    if version < 1 || version > state.version {
        return Err(Rejection::not_found(Code::ResourceNotFound, "version of this secret"));
    }
    if version == state.version {
        let message = "This is the present version: store a new value first, or delete the secret.";
        return Err(Rejection::new(Code::Conflict, message));
    }
    Ok(match state.destroyed_versions.contains(&version) {
        true => vec![],
        false => vec![CredentialEvent::VersionDestroyed { version }],
    })
}

aggregate!(Credential, "credential", CredentialCommand, CredentialEvent, decide);
