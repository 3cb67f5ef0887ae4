//! An execution: one run of one pinned workflow version.
//!
//! The log remembers (`event`), the interpreter decides (`interpret`), an executor acts. The attempt is recorded
//! before the effect, the outcome after it, by the executor whose append succeeds.

mod action;
mod command;
mod event;
pub mod interpret;
mod request;
pub mod retry;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use action::RenderedAction;
use chrono::{DateTime, Utc};
pub use command::{CredentialUse, ExecutionCommand, StepRef};
pub use event::{ExecutionEvent, StepError};
pub use interpret::{Effect, Run, next_effects};
pub use request::{Rendered, RenderedCall};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{aggregate::aggregate, ids::WorkflowId, sealed::Stored};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionStatus {
    #[default]
    Pending,
    Running,
    Completed,
    Failed,
    Cancelled,
    OutcomeUnknown,
}

impl ExecutionStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            ExecutionStatus::Pending => "pending",
            ExecutionStatus::Running => "running",
            ExecutionStatus::Completed => "completed",
            ExecutionStatus::Failed => "failed",
            ExecutionStatus::Cancelled => "cancelled",
            ExecutionStatus::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// Nothing further happens by itself.
    pub fn is_terminal(self) -> bool {
        matches!(self, ExecutionStatus::Completed | ExecutionStatus::Failed | ExecutionStatus::Cancelled)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    #[default]
    Running,
    /// A container whose children run.
    Entered,
    Retrying,
    Completed,
    Failed,
    Skipped,
    OutcomeUnknown,
}

/// One step instance (a loop's step has one for each item).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StepRun {
    pub step_id: String,
    pub status: StepStatus,
    pub attempt: u32,
    pub executor: String,
    pub lease_until: Option<DateTime<Utc>>,
    pub retry_at: Option<DateTime<Utc>>,
    pub repeatable: bool,
    /// Of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When the first attempt began of which nobody knows whether it took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled_since: Option<DateTime<Utc>>,
    pub output: Option<Stored>,
    pub branch: Option<bool>,
    pub count: Option<u64>,
    pub error: Option<StepError>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Execution {
    pub status: ExecutionStatus,
    pub workflow: WorkflowId,
    pub workflow_version: i32,
    pub definition_hash: String,
    pub input: Option<Stored>,
    pub correlation_id: Uuid,
    #[serde(default)]
    pub traceparent: Option<String>,
    pub started_at: Option<DateTime<Utc>>,
    pub steps: BTreeMap<String, StepRun>,
    pub output: Option<Stored>,
    pub error: Option<StepError>,
}

impl Execution {
    fn evolve(&mut self, event: ExecutionEvent) {
        match event {
            ExecutionEvent::Started {
                workflow_id,
                workflow_version,
                definition_hash,
                input,
                correlation_id,
                traceparent,
                started_at,
                ..
            } => {
                self.correlation_id = correlation_id;
                self.traceparent = traceparent;
                self.status = ExecutionStatus::Running;
                self.workflow = workflow_id;
                self.workflow_version = workflow_version;
                self.definition_hash = definition_hash;
                self.input = Some(input);
                self.started_at = Some(started_at);
            }
            ExecutionEvent::StepStarted {
                key,
                step_id,
                attempt,
                repeatable,
                executor,
                lease_until,
                started_at,
                ..
            } => {
                let step = self.step(key, step_id);
                // Taken over: the attempt before was never heard of again.
                if step.status == StepStatus::Running {
                    step.unsettled_since = step.unsettled_since.or(step.started_at);
                }
                step.started_at = Some(started_at);
                step.status = StepStatus::Running;
                step.attempt = attempt;
                step.repeatable = repeatable;
                step.executor = executor;
                step.lease_until = Some(lease_until);
                step.retry_at = None;
            }
            ExecutionEvent::StepCompleted { key, step_id, output, .. } => {
                let step = self.step(key, step_id);
                step.status = StepStatus::Completed;
                step.output = Some(output);
                step.lease_until = None;
                self.leave_unknown();
            }
            ExecutionEvent::StepFailed { key, step_id, error, output, http_status, retry_at, .. } => {
                let step = self.step(key, step_id);
                if retry::may_have_acted(&error.code, http_status) {
                    step.unsettled_since = step.unsettled_since.or(step.started_at);
                }
                step.status = if retry_at.is_some() { StepStatus::Retrying } else { StepStatus::Failed };
                step.retry_at = retry_at;
                step.error = Some(error);
                step.output = output;
                step.lease_until = None;
                self.leave_unknown();
            }
            ExecutionEvent::StepOutcomeUnknown { key, step_id, .. } => {
                self.step(key, step_id).status = StepStatus::OutcomeUnknown;
                if !self.status.is_terminal() {
                    self.status = ExecutionStatus::OutcomeUnknown;
                }
            }
            ExecutionEvent::StepSkipped { key, step_id } => self.step(key, step_id).status = StepStatus::Skipped,
            ExecutionEvent::StepEntered { key, step_id, branch, count, .. } => {
                let step = self.step(key, step_id);
                step.status = StepStatus::Entered;
                step.branch = branch;
                step.count = count;
            }
            ExecutionEvent::Completed { output, .. } => {
                self.status = ExecutionStatus::Completed;
                self.output = Some(output);
            }
            ExecutionEvent::Failed { error, .. } => {
                self.status = ExecutionStatus::Failed;
                self.error = Some(error);
            }
            ExecutionEvent::Cancelled { .. } => self.status = ExecutionStatus::Cancelled,
            ExecutionEvent::CredentialRead { .. } => {}
        }
    }

    /// A person resolved the last unknown outcome: the execution runs on.
    fn leave_unknown(&mut self) {
        let unknown = self.steps.values().any(|s| s.status == StepStatus::OutcomeUnknown);
        if self.status == ExecutionStatus::OutcomeUnknown && !unknown {
            self.status = ExecutionStatus::Running;
        }
    }

    fn step(&mut self, key: String, step_id: String) -> &mut StepRun {
        let step = self.steps.entry(key).or_default();
        step.step_id = step_id;
        step
    }
}

aggregate!(Execution, "execution", ExecutionCommand, ExecutionEvent, command::decide);
