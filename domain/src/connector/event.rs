//! What happened to a connector instance.

use serde_json::Value;

use crate::{call::CallFacts, event::events, ids::CredentialId};

events! {
    pub enum ConnectorEvent {
        "connector.created" v "1" = Created {
            /// Name of its type: `slack`.
            connector_type: String,
            name: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            credential_id: Option<CredentialId>,
            /// What its type's schema allows; never a secret.
            config: Value,
        },
        "connector.updated" v "1" = Updated {
            #[serde(default, skip_serializing_if = "Option::is_none")]
            name: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            credential_id: Option<CredentialId>,
            /// As a whole.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            config: Option<Value>,
        },
        "connector.enabled" v "1" = Enabled {},
        "connector.disabled" v "1" = Disabled {},
        "connector.tested" v "1" = Tested {
            ok: bool,
            /// In words: what was tried and what is wrong.
            message: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            status: Option<u16>,
            elapsed_ms: u64,
            /// What is wrong, as one word for programs.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            problem: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            call: Option<CallFacts>,
        },
        "credential.read" v "1" = CredentialRead {
            credential_id: CredentialId,
            version: i32,
            purpose: String,
        },
        "connector.deleted" v "1" = Deleted {},
    }
}
