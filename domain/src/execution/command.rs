//! What can be asked of an execution: by people (start, cancel, resolve) and by its executor (everything else).

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Execution, ExecutionEvent, ExecutionStatus, StepError, StepRun, StepStatus};
use crate::{
    call::CallFacts,
    error::{Code, Rejection},
    ids::{ConnectionId, ConnectorId, CredentialId, WorkflowId},
    sealed::Stored,
};

/// Which step instance.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRef {
    pub key: String,
    pub step_id: String,
}

/// A credential that an attempt will read.
#[derive(Debug, Clone, PartialEq)]
pub struct CredentialUse {
    pub credential: CredentialId,
    pub version: i32,
    /// Whose call it is, when it is a connection's.
    pub connection: Option<ConnectionId>,
    /// The connector instance, when the step names one.
    pub connector: Option<ConnectorId>,
    /// `api_call` or `connector`.
    pub purpose: &'static str,
    /// Where it goes.
    pub host: Option<String>,
}

#[derive(Debug, Clone)]
pub enum ExecutionCommand {
    Start {
        workflow: WorkflowId,
        workflow_version: i32,
        definition_hash: String,
        input: Stored,
        trigger: String,
        correlation_id: Uuid,
        traceparent: Option<String>,
        now: DateTime<Utc>,
    },
    StartStep {
        step: StepRef,
        attempt: u32,
        input: Stored,
        idempotency_key: Option<String>,
        repeatable: bool,
        executor: String,
        lease_until: DateTime<Utc>,
        /// The credential the attempt will read: recorded with the attempt, before the plaintext exists.
        credential: Option<CredentialUse>,
        now: DateTime<Utc>,
    },
    /// Another read within an attempt that is under way: of an access token that was renewed. Nothing, when it is not.
    ReadCredential {
        key: String,
        attempt: u32,
        credential: CredentialUse,
    },
    CompleteStep {
        step: StepRef,
        output: Stored,
        http_status: Option<u16>,
        duration_ms: u64,
        call: Option<CallFacts>,
        now: DateTime<Utc>,
    },
    FailStep {
        step: StepRef,
        error: StepError,
        output: Option<Stored>,
        http_status: Option<u16>,
        duration_ms: u64,
        call: Option<CallFacts>,
        retry_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    },
    MarkUnknown {
        step: StepRef,
        reason: String,
        call: Option<CallFacts>,
    },
    /// A person's word about an unknown outcome.
    ResolveStep {
        key: String,
        /// The effect took place: go on with this output; else the step failed.
        output: Option<Stored>,
        now: DateTime<Utc>,
    },
    SkipStep {
        step: StepRef,
    },
    EnterStep {
        step: StepRef,
        branch: Option<bool>,
        count: Option<u64>,
        now: DateTime<Utc>,
    },
    Complete {
        output: Stored,
        now: DateTime<Utc>,
    },
    Fail {
        key: Option<String>,
        error: StepError,
        now: DateTime<Utc>,
    },
    Cancel {
        now: DateTime<Utc>,
    },
}

fn read(credential: CredentialUse, key: String, attempt: u32) -> ExecutionEvent {
    let CredentialUse { credential, version, connection, connector, purpose, host } = credential;
    ExecutionEvent::CredentialRead {
        credential_id: credential,
        version,
        connection_id: connection,
        connector_id: connector,
        purpose: purpose.to_owned(),
        key,
        attempt,
        host,
    }
}

pub(super) fn decide(state: &Execution, command: ExecutionCommand) -> Result<Vec<ExecutionEvent>, Rejection> {
    use ExecutionCommand::*;
    if let Start { workflow, workflow_version, definition_hash, input, trigger, correlation_id, traceparent, now } =
        command
    {
        if state.status != ExecutionStatus::Pending {
            return Err(Rejection::new(Code::Conflict, "This execution exists already."));
        }
        return Ok(vec![ExecutionEvent::Started {
            workflow_id: workflow,
            workflow_version,
            definition_hash,
            input,
            trigger,
            correlation_id,
            traceparent,
            started_at: now,
        }]);
    }
    if state.status == ExecutionStatus::Pending {
        return Err(Rejection::not_found(Code::ExecutionNotFound, "execution"));
    }
    if state.status.is_terminal() && !ends_a_running_step(state, &command) {
        let message = format!("This execution has ended already: it is {}.", state.status.as_str());
        return Err(Rejection::new(Code::ExecutionAlreadyCompleted, message));
    }
    Ok(match command {
        Start { .. } => vec![],
        StartStep { step, attempt, input, idempotency_key, repeatable, executor, lease_until, credential, now } => {
            let mut events = vec![ExecutionEvent::StepStarted {
                key: step.key.clone(),
                step_id: step.step_id,
                attempt,
                input,
                idempotency_key,
                repeatable,
                executor,
                lease_until,
                started_at: now,
            }];
            events.extend(credential.map(|credential| read(credential, step.key, attempt)));
            events
        }
        ReadCredential { key, attempt, credential } => {
            let runs = |run: &StepRun| run.status == StepStatus::Running && run.attempt == attempt;
            match state.steps.get(&key).is_some_and(runs) {
                true => vec![read(credential, key, attempt)],
                false => vec![],
            }
        }
        CompleteStep { step, output, http_status, duration_ms, call, now } => {
            let attempt = attempt_of(state, &step.key);
            let StepRef { key, step_id } = step;
            vec![ExecutionEvent::StepCompleted {
                key,
                step_id,
                attempt,
                output,
                http_status,
                duration_ms,
                call,
                completed_at: now,
            }]
        }
        FailStep { step, error, output, http_status, duration_ms, call, retry_at, now } => {
            let attempt = attempt_of(state, &step.key);
            let StepRef { key, step_id } = step;
            vec![ExecutionEvent::StepFailed {
                key,
                step_id,
                attempt,
                error,
                output,
                http_status,
                duration_ms,
                call,
                retry_at,
                failed_at: now,
            }]
        }
        MarkUnknown { step, reason, call } => {
            let attempt = attempt_of(state, &step.key);
            let StepRef { key, step_id } = step;
            vec![ExecutionEvent::StepOutcomeUnknown { key, step_id, attempt, reason, call }]
        }
        ResolveStep { key, output, now } => resolve(state, key, output, now)?,
        SkipStep { step } => vec![ExecutionEvent::StepSkipped { key: step.key, step_id: step.step_id }],
        EnterStep { step, branch, count, now } => {
            vec![ExecutionEvent::StepEntered { key: step.key, step_id: step.step_id, branch, count, started_at: now }]
        }
        Complete { output, now } => vec![ExecutionEvent::Completed { output, completed_at: now }],
        Fail { key, error, now } => vec![ExecutionEvent::Failed { key, error, failed_at: now }],
        Cancel { now } => vec![ExecutionEvent::Cancelled { cancelled_at: now }],
    })
}

/// Cancelled while a call was under way: what came of it is still told.
fn ends_a_running_step(state: &Execution, command: &ExecutionCommand) -> bool {
    use ExecutionCommand::*;
    let (CompleteStep { step, .. } | FailStep { step, .. } | MarkUnknown { step, .. }) = command else { return false };
    state.status == ExecutionStatus::Cancelled
        && state.steps.get(&step.key).is_some_and(|s| s.status == StepStatus::Running)
}

fn attempt_of(state: &Execution, key: &str) -> u32 {
    state.steps.get(key).map_or(1, |s| s.attempt.max(1))
}

fn resolve(
    state: &Execution,
    key: String,
    output: Option<Stored>,
    now: DateTime<Utc>,
) -> Result<Vec<ExecutionEvent>, Rejection> {
    let unknown = state.steps.get(&key).filter(|s| s.status == StepStatus::OutcomeUnknown);
    let Some(step) = unknown else {
        return Err(Rejection::new(Code::Conflict, format!("The outcome of step {key:?} is not unknown.")));
    };
    let (step_id, attempt) = (step.step_id.clone(), step.attempt);
    Ok(vec![match output {
        Some(output) => ExecutionEvent::StepCompleted {
            key,
            step_id,
            attempt,
            output,
            http_status: None,
            duration_ms: 0,
            call: None,
            completed_at: now,
        },
        None => ExecutionEvent::StepFailed {
            key,
            step_id,
            attempt,
            error: StepError {
                code: "RESOLVED_AS_FAILED".into(),
                message: "A person said that it did not take place.".into(),
            },
            output: None,
            http_status: None,
            duration_ms: 0,
            call: None,
            retry_at: None,
            failed_at: now,
        },
    }])
}
