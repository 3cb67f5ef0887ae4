//! What happened in an execution. Inputs and outputs are sealed; large ones lie in blobs.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    call::CallFacts,
    event::events,
    ids::{ConnectionId, ConnectorId, CredentialId, WorkflowId},
    sealed::Stored,
};

/// Why a step or an execution failed. `message` is public: no values, no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepError {
    /// `HTTP_500`, `TIMEOUT`, `NETWORK`, `EXPRESSION`, `EGRESS_BLOCKED`, `CREDENTIAL`, …
    pub code: String,
    pub message: String,
}

events! {
    pub enum ExecutionEvent {
        "execution.started" v "1" = Started {
            workflow_id: WorkflowId,
            workflow_version: i32,
            /// The blob of the pinned version.
            definition_hash: String,
            input: Stored,
            /// `manual`, `chat`, …
            trigger: String,
            /// Of the request that started it: everything the execution does carries it.
            correlation_id: Uuid,
            /// Of the request that started it: the called APIs see the same trace.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            traceparent: Option<String>,
            started_at: DateTime<Utc>,
        },
        "execution.step_started" v "1" = StepStarted {
            /// `fetch`, or inside a loop `each[3].send`.
            key: String,
            step_id: String,
            attempt: u32,
            /// The rendered request, without credentials.
            input: Stored,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            idempotency_key: Option<String>,
            /// May it be repeated when its outcome is unknown?
            repeatable: bool,
            executor: String,
            lease_until: DateTime<Utc>,
            started_at: DateTime<Utc>,
        },
        "credential.read" v "2" = CredentialRead {
            credential_id: CredentialId,
            version: i32,
            /// Whose call it is, when it is a connection's.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            connection_id: Option<ConnectionId>,
            /// The connector instance, when the step names one.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            connector_id: Option<ConnectorId>,
            purpose: String,
            key: String,
            attempt: u32,
            /// Where it goes.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            host: Option<String>,
        },
        "execution.step_completed" v "1" = StepCompleted {
            key: String,
            step_id: String,
            attempt: u32,
            /// `{output, status?, headers?}`.
            output: Stored,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            http_status: Option<u16>,
            duration_ms: u64,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            call: Option<CallFacts>,
            completed_at: DateTime<Utc>,
        },
        "execution.step_failed" v "1" = StepFailed {
            key: String,
            step_id: String,
            attempt: u32,
            error: StepError,
            /// What the server answered, when it did.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            output: Option<Stored>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            http_status: Option<u16>,
            duration_ms: u64,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            call: Option<CallFacts>,
            /// Present: another attempt follows at that time.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            retry_at: Option<DateTime<Utc>>,
            failed_at: DateTime<Utc>,
        },
        "execution.step_outcome_unknown" v "1" = StepOutcomeUnknown {
            key: String,
            step_id: String,
            attempt: u32,
            reason: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            call: Option<CallFacts>,
        },
        "execution.step_skipped" v "1" = StepSkipped { key: String, step_id: String },
        /// A container (condition, loop) was entered.
        "execution.step_entered" v "1" = StepEntered {
            key: String,
            step_id: String,
            /// The branch of a condition.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            branch: Option<bool>,
            /// The number of a loop's items.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            count: Option<u64>,
            started_at: DateTime<Utc>,
        },
        "execution.completed" v "1" = Completed { output: Stored, completed_at: DateTime<Utc> },
        "execution.failed" v "1" = Failed {
            #[serde(default, skip_serializing_if = "Option::is_none")]
            key: Option<String>,
            error: StepError,
            failed_at: DateTime<Utc>,
        },
        "execution.cancelled" v "1" = Cancelled { cancelled_at: DateTime<Utc> },
    }
}
