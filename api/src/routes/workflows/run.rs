//! Starting an execution, and waiting for its end when the client wants to.

use std::time::Duration;

use commands::{Done, execution::Started};
use domain::{
    execution::ExecutionStatus,
    ids::{ExecutionId, WorkflowId},
};
use poem_openapi::Object;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    answer::{Answer, Either},
    auth::Permit,
    problem::Problem,
    query::{Params, QuerySet},
    routes::executions::{self, ExecutionJson},
    types::Time,
};

/// Longer waits belong to the client.
const MOST_WAIT: Duration = Duration::from_secs(120);
/// The read model is looked at this often, once the log says that the execution has ended.
const LOOK: Duration = Duration::from_millis(10);
const MOST_LOOK: Duration = Duration::from_secs(2);

/// How long the answer may wait for the end.
pub struct WaitQuery(Option<Duration>);

impl QuerySet for WaitQuery {
    const NOTES: &'static [&'static str] =
        &["query|wait|string|How long to wait for the end, up to 2m: `500ms`, `30s`, `1m`."];

    fn read(params: &mut Params) -> Self {
        let Some(text) = params.text("wait") else { return Self(None) };
        let wait = domain::workflow::parse_duration(&text).map(Duration::from_millis).filter(|d| *d <= MOST_WAIT);
        if wait.is_none() {
            params.faults.add("wait", "must be a duration up to 2m, such as 500ms, 30s or 1m");
        }
        Self(wait)
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecuteWorkflowBody {
    /// As the workflow's `inputSchema` wants it; an empty object when absent.
    pub input: Option<Value>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct ExecutionStartedJson {
    execution_id: String,
    workflow_id: String,
    status: String,
    started_at: Time,
}

pub fn started(
    id: ExecutionId,
    workflow: WorkflowId,
    started_at: chrono::DateTime<chrono::Utc>,
) -> ExecutionStartedJson {
    ExecutionStartedJson {
        execution_id: id.to_string(),
        workflow_id: workflow.to_string(),
        status: ExecutionStatus::Running.as_str().to_owned(),
        started_at: started_at.into(),
    }
}

/// 202 at once, or 200 with the finished execution when it ends in time.
pub async fn answer<P>(
    permit: &Permit<P>,
    workflow: WorkflowId,
    done: Done<Started>,
    wait: WaitQuery,
) -> Result<Either<Answer<ExecutionJson>, Answer<ExecutionStartedJson, 202>>, Problem> {
    permit.wrote(done.at);
    let Started { id, started_at, warnings } = done.value;
    let said = |what: &str| std::iter::once(what.to_owned()).chain(warnings.clone()).collect::<Vec<_>>().join(" ");
    if let WaitQuery(Some(limit)) = wait
        && commands::execution::wait(permit.app(), id, limit).await?
        && let Some(json) = finished(permit, id).await?
    {
        let answer = Answer::new(json).at(done.at);
        return Ok(Either::Usual(if warnings.is_empty() { answer } else { answer.message(said("Done.")) }));
    }
    let answer = Answer::new(started(id, workflow, started_at)).message(said("Workflow execution started."));
    Ok(Either::Else(answer.at(done.at)))
}

/// The execution as the read model shows it, once that shows the end too.
async fn finished<P>(permit: &Permit<P>, id: ExecutionId) -> Result<Option<ExecutionJson>, Problem> {
    let deadline = Instant::now() + MOST_LOOK;
    loop {
        let view = permit.reads().execution(permit.workspace(), id).await?;
        let ended = |status: ExecutionStatus| status.is_terminal() || status == ExecutionStatus::OutcomeUnknown;
        if let Some(view) = view.filter(|view| ended(view.status)) {
            return Ok(Some(executions::detail(permit, view).await?));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}
