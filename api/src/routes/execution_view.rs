//! An execution and its steps as clients see them.

use chrono::{DateTime, Utc};
use domain::call::CallFacts;
use poem_openapi::{Enum, Object};
use projections::{Attempt, ExecutionStepView, ExecutionView, Listed};
use serde_json::Value;

use super::name_of;
use crate::{pagination::Pagination, types::Time};

/// Why a step or an execution failed.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct StepErrorJson {
    /// `HTTP_500`, `TIMEOUT`, `NETWORK`, `EXPRESSION`, …
    code: String,
    message: String,
}

impl From<domain::execution::StepError> for StepErrorJson {
    fn from(error: domain::execution::StepError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

/// A call to the outside, as the log has it: no query values, no headers, no bodies.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct CallJson {
    method: String,
    host: String,
    path: String,
    /// Absent: no answer.
    status: Option<u16>,
    duration_ms: u64,
    request_bytes: u64,
    /// Decompressed.
    response_bytes: u64,
    /// Times that it was sent.
    attempts: u32,
    redirects: u32,
}

impl From<CallFacts> for CallJson {
    fn from(call: CallFacts) -> Self {
        Self {
            method: call.method,
            host: call.host,
            path: call.path,
            status: call.status,
            duration_ms: call.duration_ms,
            request_bytes: call.request_bytes,
            response_bytes: call.response_bytes,
            attempts: call.attempts,
            redirects: call.redirects,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct AttemptJson {
    attempt: u32,
    /// `running`, `completed`, `failed`, `outcome_unknown` or `abandoned`.
    status: String,
    started_at: Time,
    completed_at: Option<Time>,
    /// Milliseconds.
    duration: Option<u64>,
    http_status: Option<u16>,
    error: Option<StepErrorJson>,
    /// What was sent as idempotency key to the called API.
    idempotency_key: Option<String>,
    /// When the next attempt is due.
    retry_at: Option<Time>,
    /// What was called.
    call: Option<CallJson>,
}

impl From<Attempt> for AttemptJson {
    fn from(attempt: Attempt) -> Self {
        Self {
            attempt: attempt.attempt,
            status: name_of(attempt.status),
            started_at: attempt.started_at.into(),
            completed_at: attempt.ended_at.map(Time),
            duration: attempt.duration_ms,
            http_status: attempt.http_status,
            error: attempt.error.map(Into::into),
            idempotency_key: attempt.idempotency_key,
            retry_at: attempt.retry_at.map(Time),
            call: attempt.call.map(Into::into),
        }
    }
}

/// One instance of a step: a loop's step has one for each item (`each[3].send`).
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct StepJson {
    /// The instance's key: for `resolve`.
    id: String,
    /// The step in the workflow.
    step_id: String,
    name: String,
    /// `running`, `entered`, `retrying`, `completed`, `failed`, `skipped` or `outcome_unknown`.
    status: String,
    /// The request as rendered, without credentials.
    input: Option<Value>,
    /// The decoded body.
    output: Option<Value>,
    /// Of the response.
    headers: Option<Value>,
    http_status: Option<u16>,
    error: Option<StepErrorJson>,
    /// A condition's branch.
    branch: Option<bool>,
    /// A loop's number of items.
    item_count: Option<u64>,
    attempts: Vec<AttemptJson>,
    started_at: Option<Time>,
    completed_at: Option<Time>,
    /// Milliseconds, over all attempts.
    duration: Option<i64>,
}

fn duration(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Option<i64> {
    Some((to? - from?).num_milliseconds().max(0))
}

impl StepJson {
    pub fn of(view: ExecutionStepView, input: Option<Value>, output: Option<Value>) -> Self {
        // Stored as `{output, status?, headers?}`.
        let mut stored = output.unwrap_or_default();
        let mut part = |name: &str| stored.get_mut(name).map(Value::take);
        Self {
            id: view.key,
            name: view.step_id.clone(),
            step_id: view.step_id,
            status: name_of(view.status),
            input,
            output: part("output"),
            headers: part("headers"),
            http_status: view.http_status,
            error: view.error.map(Into::into),
            branch: view.branch,
            item_count: view.item_count,
            attempts: view.attempts.into_iter().map(Into::into).collect(),
            started_at: view.started_at.map(Time),
            completed_at: view.ended_at.map(Time),
            duration: duration(view.started_at, view.ended_at),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct ExecutionJson {
    id: String,
    workflow_id: String,
    workflow_version: i32,
    /// `pending`, `running`, `completed`, `failed`, `cancelled` or `outcome_unknown`.
    status: String,
    /// `manual`, `chat`.
    trigger: String,
    started_by: String,
    input: Option<Value>,
    output: Option<Value>,
    error: Option<StepErrorJson>,
    /// The step that failed the execution.
    failed_step: Option<String>,
    /// In the order in which they began; the first 1,000.
    steps: Vec<StepJson>,
    step_count: i32,
    successful_steps: i32,
    started_at: Time,
    completed_at: Option<Time>,
    /// Milliseconds.
    duration: Option<i64>,
    version: i64,
}

impl ExecutionJson {
    pub fn of(view: ExecutionView, input: Option<Value>, output: Option<Value>, steps: Vec<StepJson>) -> Self {
        Self {
            id: view.id.to_string(),
            workflow_id: view.workflow_id.to_string(),
            workflow_version: view.workflow_version,
            status: view.status.as_str().to_owned(),
            trigger: view.trigger,
            started_by: view.started_by,
            input,
            output,
            error: view.error.map(Into::into),
            failed_step: view.failed_step,
            steps,
            step_count: view.step_count,
            successful_steps: view.completed_step_count,
            started_at: view.started_at.into(),
            completed_at: view.ended_at.map(Time),
            duration: duration(Some(view.started_at), view.ended_at),
            version: view.version,
        }
    }
}

/// Without steps, input and output: one line of a list.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct ExecutionSummaryJson {
    id: String,
    workflow_id: String,
    workflow_version: i32,
    status: String,
    trigger: String,
    started_by: String,
    error: Option<StepErrorJson>,
    failed_step: Option<String>,
    step_count: i32,
    successful_steps: i32,
    started_at: Time,
    completed_at: Option<Time>,
    duration: Option<i64>,
    version: i64,
}

impl From<ExecutionView> for ExecutionSummaryJson {
    fn from(view: ExecutionView) -> Self {
        Self {
            id: view.id.to_string(),
            workflow_id: view.workflow_id.to_string(),
            workflow_version: view.workflow_version,
            status: view.status.as_str().to_owned(),
            trigger: view.trigger,
            started_by: view.started_by,
            error: view.error.map(Into::into),
            failed_step: view.failed_step,
            step_count: view.step_count,
            successful_steps: view.completed_step_count,
            started_at: view.started_at.into(),
            completed_at: view.ended_at.map(Time),
            duration: duration(Some(view.started_at), view.ended_at),
            version: view.version,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct ExecutionsJson {
    executions: Vec<ExecutionSummaryJson>,
    pagination: Pagination,
}

impl ExecutionsJson {
    pub fn of(listed: Listed<ExecutionView>) -> Self {
        let pagination = Pagination::of(&listed);
        Self { executions: listed.items.into_iter().map(Into::into).collect(), pagination }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct ExecutionStatusJson {
    execution_id: String,
    status: String,
    /// Steps that are done, and the one under way.
    current_step: i64,
    /// Steps of the workflow; more when a loop runs them several times.
    total_steps: i64,
    /// Percent of the steps that are done.
    progress: i64,
    started_at: Time,
    completed_at: Option<Time>,
    last_activity: Time,
}

impl ExecutionStatusJson {
    pub fn of(view: ExecutionView, planned: Option<u32>, steps: &[ExecutionStepView]) -> Self {
        let seen = i64::from(view.step_count);
        let done = i64::from(view.completed_step_count);
        let total = i64::from(planned.unwrap_or(0)).max(seen).max(1);
        let ended = view.ended_at.is_some();
        let latest = steps.iter().flat_map(|step| [step.started_at, step.ended_at]).flatten().max();
        let activity = latest.max(view.ended_at).unwrap_or(view.started_at).max(view.started_at);
        let complete = view.status == domain::execution::ExecutionStatus::Completed;
        Self {
            execution_id: view.id.to_string(),
            status: view.status.as_str().to_owned(),
            current_step: if ended { done } else { (done + 1).min(total) },
            total_steps: total,
            progress: if complete { 100 } else { done.min(total) * 100 / total },
            started_at: view.started_at.into(),
            completed_at: view.ended_at.map(Time),
            last_activity: activity.into(),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct ExecutionCancelledJson {
    execution_id: String,
    status: String,
    cancelled_at: Option<Time>,
}

impl ExecutionCancelledJson {
    pub fn of(view: ExecutionView) -> Self {
        Self {
            execution_id: view.id.to_string(),
            status: view.status.as_str().to_owned(),
            cancelled_at: view.ended_at.map(Time),
        }
    }
}

#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
pub enum OutcomeName {
    Completed,
    Failed,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResolveBody {
    pub outcome: OutcomeName,
    /// What the step gave, for `completed`.
    pub output: Option<Value>,
}
