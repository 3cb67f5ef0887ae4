//! Step instances of executions: their attempts, and what went in and came out (sealed).

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    call::CallFacts,
    event::RecordedEvent,
    execution::{ExecutionEvent, StepError, StepStatus},
    ids::{ExecutionId, WorkspaceId},
    sealed::Stored,
};
use serde::{Deserialize, Serialize};

use crate::row::{Key, id, row};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptStatus {
    Running,
    Completed,
    Failed,
    OutcomeUnknown,
    /// Its executor went away and the step was repeated.
    Abandoned,
}

/// One try of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    pub attempt: u32,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub status: AttemptStatus,
    pub error: Option<StepError>,
    pub http_status: Option<u16>,
    pub duration_ms: Option<u64>,
    pub idempotency_key: Option<String>,
    /// When the next attempt is due.
    pub retry_at: Option<DateTime<Utc>>,
    /// What was called, when something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallFacts>,
}

row! {
    /// One step instance: a loop's step has one for each item (`each[3].send`).
    pub struct ExecutionStepView in "execution_steps" by ["execution_id", "key"]
        = |row| Key::pair(row.execution_id, row.key.as_str());
    {
        #[serde(with = "id")]
        pub execution_id: ExecutionId,
        pub key: String,
        #[serde(with = "id")]
        pub workspace_id: WorkspaceId,
        pub step_id: String,
        /// Sequence of the step's first event: the order in which steps began.
        pub ordinal: i64,
        pub status: StepStatus,
        pub attempts: Vec<Attempt>,
        /// The last attempt, from 1; 0 for steps that act on nothing outside.
        pub attempt: u32,
        /// The rendered request, without credentials.
        pub input: Option<Stored>,
        /// `{output, status?, headers?}`.
        pub output: Option<Stored>,
        pub error: Option<StepError>,
        pub http_status: Option<u16>,
        /// A condition's branch.
        pub branch: Option<bool>,
        /// A loop's number of items.
        pub item_count: Option<u64>,
        pub started_at: Option<DateTime<Utc>>,
        pub ended_at: Option<DateTime<Utc>>,
    }
}

/// The step instance that an event is about: key and step id.
pub(crate) fn step_of(event: &ExecutionEvent) -> Option<(&str, &str)> {
    match event {
        ExecutionEvent::StepStarted { key, step_id, .. }
        | ExecutionEvent::StepCompleted { key, step_id, .. }
        | ExecutionEvent::StepFailed { key, step_id, .. }
        | ExecutionEvent::StepOutcomeUnknown { key, step_id, .. }
        | ExecutionEvent::StepSkipped { key, step_id }
        | ExecutionEvent::StepEntered { key, step_id, .. } => Some((key, step_id)),
        ExecutionEvent::Started { .. }
        | ExecutionEvent::CredentialRead { .. }
        | ExecutionEvent::Completed { .. }
        | ExecutionEvent::Failed { .. }
        | ExecutionEvent::Cancelled { .. } => None,
    }
}

/// A step before its first event.
pub(crate) fn unborn(recorded: &RecordedEvent, key: &str, step_id: &str) -> ExecutionStepView {
    ExecutionStepView {
        execution_id: ExecutionId(recorded.aggregate_id),
        key: key.to_owned(),
        workspace_id: WorkspaceId(recorded.workspace_id),
        step_id: step_id.to_owned(),
        ordinal: recorded.sequence,
        status: StepStatus::Running,
        attempts: vec![],
        attempt: 0,
        input: None,
        output: None,
        error: None,
        http_status: None,
        branch: None,
        item_count: None,
        started_at: None,
        ended_at: None,
    }
}

/// Folds one event into its step.
pub(crate) fn fold(step: &mut ExecutionStepView, event: &ExecutionEvent, recorded_at: DateTime<Utc>) {
    match event {
        ExecutionEvent::StepStarted { attempt, input, idempotency_key, started_at, .. } => {
            for open in step.attempts.iter_mut().filter(|a| a.status == AttemptStatus::Running) {
                open.status = AttemptStatus::Abandoned;
            }
            step.attempts.push(Attempt {
                attempt: *attempt,
                started_at: *started_at,
                ended_at: None,
                status: AttemptStatus::Running,
                error: None,
                http_status: None,
                duration_ms: None,
                idempotency_key: idempotency_key.clone(),
                retry_at: None,
                call: None,
            });
            step.status = StepStatus::Running;
            step.attempt = *attempt;
            step.input = Some(input.clone());
            step.started_at.get_or_insert(*started_at);
            step.ended_at = None;
        }
        ExecutionEvent::StepCompleted { attempt, output, http_status, duration_ms, call, completed_at, .. } => {
            if let Some(tried) = tried(step, *attempt) {
                tried.call = call.clone();
                tried.status = AttemptStatus::Completed;
                tried.ended_at = Some(*completed_at);
                tried.http_status = *http_status;
                tried.duration_ms = Some(*duration_ms);
            }
            step.status = StepStatus::Completed;
            step.output = Some(output.clone());
            step.error = None;
            step.http_status = *http_status;
            end(step, *completed_at, *duration_ms);
        }
        ExecutionEvent::StepFailed {
            attempt,
            error,
            output,
            http_status,
            duration_ms,
            call,
            retry_at,
            failed_at,
            ..
        } => {
            if let Some(tried) = tried(step, *attempt) {
                tried.call = call.clone();
                tried.status = AttemptStatus::Failed;
                tried.ended_at = Some(*failed_at);
                tried.error = Some(error.clone());
                tried.http_status = *http_status;
                tried.duration_ms = Some(*duration_ms);
                tried.retry_at = *retry_at;
            }
            step.status = if retry_at.is_some() { StepStatus::Retrying } else { StepStatus::Failed };
            step.output = output.clone();
            step.error = Some(error.clone());
            step.http_status = *http_status;
            end(step, *failed_at, *duration_ms);
            if retry_at.is_some() {
                step.ended_at = None;
            }
        }
        ExecutionEvent::StepOutcomeUnknown { attempt, reason, call, .. } => {
            let error = StepError { code: "OUTCOME_UNKNOWN".to_owned(), message: reason.clone() };
            if let Some(tried) = tried(step, *attempt) {
                // A failed one may turn out so later: what is known of its call stays.
                tried.call = call.clone().or(tried.call.take());
                tried.status = AttemptStatus::OutcomeUnknown;
                tried.ended_at = Some(recorded_at);
                tried.error = Some(error.clone());
            }
            step.status = StepStatus::OutcomeUnknown;
            step.error = Some(error);
        }
        ExecutionEvent::StepSkipped { .. } => {
            step.status = StepStatus::Skipped;
            step.ended_at = Some(recorded_at);
        }
        ExecutionEvent::StepEntered { branch, count, started_at, .. } => {
            step.status = StepStatus::Entered;
            step.branch = *branch;
            step.item_count = *count;
            step.started_at.get_or_insert(*started_at);
        }
        ExecutionEvent::Started { .. }
        | ExecutionEvent::CredentialRead { .. }
        | ExecutionEvent::Completed { .. }
        | ExecutionEvent::Failed { .. }
        | ExecutionEvent::Cancelled { .. } => {}
    }
}

fn tried(step: &mut ExecutionStepView, attempt: u32) -> Option<&mut Attempt> {
    step.attempts.iter_mut().rev().find(|a| a.attempt == attempt)
}

/// Steps that act on nothing outside have no start event: theirs is as long ago as they took.
fn end(step: &mut ExecutionStepView, at: DateTime<Utc>, duration_ms: u64) {
    let took = TimeDelta::milliseconds(i64::try_from(duration_ms).unwrap_or(0).min(86_400_000));
    step.started_at.get_or_insert(at - took);
    step.ended_at = Some(at);
}
