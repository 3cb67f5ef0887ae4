//! What happened to a connection.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{AuthScheme, SpecSecurity, SpecSource, health::Health};
use crate::{
    call::CallFacts,
    drift::SpecChange,
    event::events,
    ids::{CredentialId, ExecutionId, WorkflowId},
    oauth::{Because, Dialect},
    operation::SpecProblem,
};

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
    #[serde(default, skip_serializing_if = "SpecSecurity::is_empty")]
    pub security: SpecSecurity,
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

/// Where an ingestion had its document from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentVia {
    /// From its server, as a whole.
    Fetched,
    /// The server said that the cached one is still the one.
    NotModified,
    /// From the cache, within its time to live.
    Cache,
    /// It was uploaded.
    Upload,
}

/// A workflow whose present version calls operations that a refresh changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AffectedWorkflow {
    pub workflow_id: WorkflowId,
    pub name: String,
    pub version: i32,
    /// `METHOD /path`, at most 50.
    pub operations: Vec<String>,
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
    /// Breaking changes in all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub breaking_count: u32,
    /// The first 50 changes, breaking ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<SpecChange>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub detail_count: u32,
    /// The first 50 that call a changed operation; found in the read models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workflows: Vec<AffectedWorkflow>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub workflow_count: u32,
    /// The first 50 that had not ended, of any version that calls a changed operation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executions: Vec<ExecutionId>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub execution_count: u32,
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
            /// Hours; 0 ends the refreshes by schedule.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            refresh_interval: Option<u32>,
        },
        /// The document decided what `FromDocument` left to it.
        "connection.auth_resolved" v "1" = AuthResolved { auth: AuthScheme },
        "connection.credential_attached" v "1" = CredentialAttached { credential_id: CredentialId },
        "connection.credential_detached" v "1" = CredentialDetached { credential_id: CredentialId },
        "connection.refresh_requested" v "1" = RefreshRequested {
            source: SpecSource,
            /// By the schedule, not by a person.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            scheduled: bool,
        },
        "connection.ingestion_started" v "1" = IngestionStarted {
            executor: String,
            /// Counts the connection's ingestions from 1; 0 in events from before they were numbered.
            #[serde(default, skip_serializing_if = "is_zero")]
            number: u32,
        },
        "connection.spec_refreshed" v "1" = SpecRefreshed {
            facts: SpecFacts,
            changes: SpecChanges,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            via: Option<DocumentVia>,
        },
        "connection.spec_unchanged" v "1" = SpecUnchanged { spec_hash: String, via: DocumentVia },
        /// What was asked of the servers of its documents. Repetitions by the client are counted in the call.
        "connection.documents_fetched" v "1" = DocumentsFetched {
            calls: Vec<CallFacts>,
            /// Calls beyond those listed.
            #[serde(default, skip_serializing_if = "is_zero")]
            more: u32,
        },
        "connection.ingestion_failed" v "1" = IngestionFailed {
            errors: Vec<SpecProblem>,
            /// There was no document to read; `errors` say why.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            unreachable: bool,
        },
        /// A host is in a private range: a note, not a refusal.
        "connection.private_range_noted" v "1" = PrivateRangeNoted { hosts: Vec<String> },
        /// From here on only hosts that are approved are called. `known` are so already: approved for the workspace, or
        /// called before the organization asked for approvals.
        "connection.host_approval_required" v "1" = HostApprovalRequired { known: Vec<String> },
        /// The organization asks for approvals no more.
        "connection.host_approval_lifted" v "1" = HostApprovalLifted {},
        /// Hosts that nobody has approved: nothing is called there before somebody does.
        "connection.approval_requested" v "1" = ApprovalRequested { hosts: Vec<String> },
        "connection.host_approved" v "1" = HostApproved { hosts: Vec<String> },
        "connection.host_rejected" v "1" = HostRejected {
            hosts: Vec<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            reason: Option<String>,
        },
        "connection.tested" v "1" = Tested {
            ok: bool,
            /// In words: what was tried and what is wrong.
            message: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            status: Option<u16>,
            elapsed_ms: u64,
            /// What is wrong, as one word for programs: `dns`, `tls_expired`, `unauthorised` …
            #[serde(default, skip_serializing_if = "Option::is_none")]
            problem: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            call: Option<CallFacts>,
        },
        "connection.health_changed" v "1" = HealthChanged {
            from: Health,
            to: Health,
            /// In words: what was seen.
            reason: String,
            changed_at: DateTime<Utc>,
        },
        "connection.oauth_granted" v "1" = OauthGranted {
            /// For people.
            provider: String,
            #[serde(default)]
            dialect: Dialect,
            credential_id: CredentialId,
            /// Of the credential: the one that holds the tokens.
            version: i32,
            scopes: Vec<String>,
            /// Of the access token; absent: it does not say.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            expires_at: Option<DateTime<Utc>>,
            /// A refresh token came with it.
            refreshable: bool,
            granted_at: DateTime<Utc>,
        },
        /// Until an outcome with this number is recorded, or the lease is over, nobody else does the same.
        "connection.oauth_refresh_started" v "1" = OauthRefreshStarted {
            number: u32,
            because: Because,
            executor: String,
            lease_until: DateTime<Utc>,
        },
        "connection.oauth_refreshed" v "1" = OauthRefreshed {
            number: u32,
            version: i32,
            scopes: Vec<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            expires_at: Option<DateTime<Utc>>,
            refreshable: bool,
            /// The provider gave another refresh token.
            rotated: bool,
            refreshed_at: DateTime<Utc>,
        },
        /// For the moment: the grant may be good.
        "connection.oauth_refresh_failed" v "1" = OauthRefreshFailed {
            number: u32,
            reason: String,
            retry_at: DateTime<Utc>,
        },
        /// It is over: revoked at the provider, or ended without a way to renew it. The connection's health is
        /// `credential_expired` from here on.
        "connection.oauth_grant_expired" v "1" = OauthGrantExpired {
            from: Health,
            /// In words, with the next step.
            reason: String,
            expired_at: DateTime<Utc>,
        },
        /// Given back by a person.
        "connection.oauth_revoked" v "1" = OauthRevoked {
            /// What the provider did not do.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            note: Option<String>,
            revoked_at: DateTime<Utc>,
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
