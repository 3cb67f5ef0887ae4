//! What happened to a connection.

use serde::{Deserialize, Serialize};

use super::{AuthScheme, SpecSource};
use crate::{event::events, ids::CredentialId, operation::SpecProblem};

/// What the ingester found in a document; the document and its operations are blobs named by hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecFacts {
    /// SHA-256 of the document's bytes, hex.
    pub spec_hash: String,
    /// SHA-256 of the normalised operations' blob, hex.
    pub operations_hash: String,
    pub spec_version: String,
    pub title: String,
    pub api_version: String,
    /// `json` or `yaml`.
    pub format: String,
    pub size: u64,
    /// Of how many files it was put together; 1 where nothing outside was referred to.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub files: u32,
    pub endpoint_count: u32,
    pub webhook_count: u32,
    pub servers: Vec<String>,
    /// The first 50; `warning_count` has them all.
    pub warnings: Vec<SpecProblem>,
    pub warning_count: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn one() -> u32 {
    1
}

fn is_one(files: &u32) -> bool {
    *files == 1
}

/// Operations by `METHOD /path`, compared with the spec before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecChanges {
    pub added: u32,
    pub removed: u32,
    pub changed: u32,
    /// The first 50 sentences.
    pub breaking: Vec<String>,
}

events! {
    pub enum ConnectionEvent {
        "connection.created" v "1" = Created {
            name: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            description: Option<String>,
            source: SpecSource,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            base_url: Option<String>,
            auth: AuthScheme,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            credential_id: Option<CredentialId>,
            risks: Vec<String>,
        },
        "connection.updated" v "1" = Updated {
            #[serde(default, skip_serializing_if = "Option::is_none")]
            name: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            description: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            base_url: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            auth: Option<AuthScheme>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            active: Option<bool>,
        },
        "connection.credential_attached" v "1" = CredentialAttached { credential_id: CredentialId },
        "connection.credential_detached" v "1" = CredentialDetached { credential_id: CredentialId },
        "connection.refresh_requested" v "1" = RefreshRequested { source: SpecSource },
        "connection.ingestion_started" v "1" = IngestionStarted {
            executor: String,
            /// Counts the connection's ingestions from 1; 0 in events from before they were numbered.
            #[serde(default, skip_serializing_if = "is_zero")]
            number: u32,
        },
        "connection.spec_refreshed" v "1" = SpecRefreshed { facts: SpecFacts, changes: SpecChanges },
        "connection.ingestion_failed" v "1" = IngestionFailed { errors: Vec<SpecProblem> },
        "connection.tested" v "1" = Tested {
            ok: bool,
            /// In words: what was tried and what is wrong.
            message: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            status: Option<u16>,
            elapsed_ms: u64,
        },
        "credential.read" v "1" = CredentialRead {
            credential_id: CredentialId,
            version: i32,
            purpose: String,
            /// Where it goes.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            host: Option<String>,
        },
        "connection.deleted" v "1" = Deleted {},
    }
}
