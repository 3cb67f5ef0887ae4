//! Executions: runs of workflows, with every step's input, output, times and attempts.

use commands::execution::{self as use_cases, Resolution};
use domain::{
    error::{Code, Faults},
    event::LogPosition,
    ids::ExecutionId,
};
use poem_openapi::{OpenApi, param::Path};
use projections::ExecutionView;
use serde_json::Value;

use super::{Tag, execution_view::*};
use crate::{
    answer::{Answer, Stored, Written},
    auth::{
        Permit,
        grant::{ExecutionControl, ExecutionRead},
    },
    body::Body,
    pagination::listing,
    problem::Problem,
    query::Asked,
    types::{Id, Segment},
};

pub struct ExecutionsApi;

listing! {
    /// What the list of all executions may be asked.
    pub struct ExecutionList sorted by "startedAt,createdAt,endedAt,status" {
        "status" = "some:pending,running,completed,failed,cancelled,outcome_unknown", "State.";
        "workflowId" = "id:wf", "Of this workflow.";
        "trigger" = "string", "What started it: manual, chat.";
        "startedBy" = "string", "The id of the user or key that started it.";
    }
}

listing! {
    /// What the list of one workflow's executions may be asked.
    pub struct WorkflowExecutionList sorted by "startedAt,createdAt,endedAt,status" {
        "status" = "some:pending,running,completed,failed,cancelled,outcome_unknown", "State.";
        "trigger" = "string", "What started it: manual, chat.";
    }
}

async fn find<P>(permit: &Permit<P>, id: ExecutionId) -> Result<ExecutionView, Problem> {
    let found = permit.reads().execution(permit.workspace(), id).await?;
    found.ok_or_else(|| Problem::not_found(Code::ExecutionNotFound, "execution"))
}

/// The execution with its steps; sealed parts are opened for this reader.
pub(super) async fn detail<P>(permit: &Permit<P>, view: ExecutionView) -> Result<ExecutionJson, Problem> {
    let steps = permit.reads().steps(permit.workspace(), view.id).await?;
    let (app, context) = (permit.app(), permit.context());
    let input = commands::open::value(app, context, "execution.input", &view.input).await;
    let output = match &view.output {
        Some(output) => commands::open::value(app, context, "execution.output", output).await,
        None => None,
    };
    let mut shown = Vec::with_capacity(steps.len());
    for step in steps {
        let input = match &step.input {
            Some(input) => commands::open::value(app, context, "step.input", input).await,
            None => None,
        };
        let output = match &step.output {
            Some(output) => commands::open::value(app, context, "step.output", output).await,
            None => None,
        };
        shown.push(StepJson::of(step, input, output));
    }
    Ok(ExecutionJson::of(view, input, output, shown))
}

async fn stored(
    permit: &Permit<ExecutionControl>,
    id: ExecutionId,
    at: LogPosition,
) -> Result<Written<ExecutionJson>, Problem> {
    if permit.shows(at).await {
        let view = find(permit, id).await?;
        let version = view.version;
        return Ok(Written::Usual(Answer::new(detail(permit, view).await?).version(version).at(at)));
    }
    Ok(permit.lagging(id, at))
}

#[OpenApi(tag = "Tag::Executions")]
impl ExecutionsApi {
    /// List executions
    ///
    /// Newest first, over all workflows.
    #[oai(path = "/executions", method = "get", operation_id = "listExecutions")]
    async fn list(
        &self,
        permit: Permit<ExecutionRead>,
        asked: Asked<ExecutionList>,
    ) -> Result<Answer<ExecutionsJson>, Problem> {
        let ExecutionList { filter, page } = asked.0;
        let listed = permit.reads().executions(permit.workspace(), &filter, &page).await?;
        Ok(Answer::new(ExecutionsJson::of(listed)))
    }

    /// Get an execution
    ///
    /// With each step's input, output, times and attempts. Inputs and outputs are sealed in the log and opened here.
    #[oai(path = "/executions/:id", method = "get", operation_id = "getExecution")]
    async fn get(
        &self,
        permit: Permit<ExecutionRead>,
        id: Path<Id<ExecutionId>>,
    ) -> Result<Answer<ExecutionJson>, Problem> {
        let view = find(&permit, id.typed("id")?).await?;
        let version = view.version;
        Ok(Answer::new(detail(&permit, view).await?).version(version))
    }

    /// Get an execution's progress
    ///
    /// Small, for polling.
    #[oai(path = "/executions/:id/status", method = "get", operation_id = "getExecutionStatus")]
    async fn status(
        &self,
        permit: Permit<ExecutionRead>,
        id: Path<Id<ExecutionId>>,
    ) -> Result<Answer<ExecutionStatusJson>, Problem> {
        let view = find(&permit, id.typed("id")?).await?;
        let (workflow, version) = (view.workflow_id, view.workflow_version);
        let pinned = permit.reads().workflow_version(permit.workspace(), workflow, version).await?;
        let steps = permit.reads().steps(permit.workspace(), view.id).await?;
        Ok(Answer::new(ExecutionStatusJson::of(view, pinned.map(|v| v.step_count), &steps)))
    }

    /// Cancel an execution
    ///
    /// No further step begins. A step under way may still take effect; its outcome is recorded.
    #[oai(path = "/executions/:id/cancel", method = "post", operation_id = "cancelExecution")]
    async fn cancel(
        &self,
        permit: Permit<ExecutionControl>,
        id: Path<Id<ExecutionId>>,
    ) -> Result<Written<ExecutionCancelledJson>, Problem> {
        let id = id.typed("id")?;
        let done = use_cases::cancel(permit.app(), permit.context(), id).await?;
        if !permit.shows(done.at).await {
            let answer = Answer::new(Stored { id: id.to_string() }).at(done.at);
            return Ok(Written::Else(answer.message("Execution cancelled.")));
        }
        let view = find(&permit, id).await?;
        Ok(Written::Usual(Answer::new(ExecutionCancelledJson::of(view)).message("Execution cancelled.").at(done.at)))
    }

    /// Resolve a step whose outcome is unknown
    ///
    /// When a call was cut off after it may have taken effect, and repeating it is not safe, a person looks and says
    /// what became of it: `completed` (with its output) or `failed`.
    #[oai(path = "/executions/:id/steps/:stepKey/resolve", method = "post", operation_id = "resolveStep")]
    async fn resolve(
        &self,
        permit: Permit<ExecutionControl>,
        id: Path<Id<ExecutionId>>,
        /// The step's `id` in the execution.
        #[oai(name = "stepKey")]
        step_key: Path<Segment>,
        body: Body<ResolveBody>,
    ) -> Result<Written<ExecutionJson>, Problem> {
        let id = id.typed("id")?;
        let mut faults = Faults::default();
        if body.0.output.is_some() && matches!(body.0.outcome, OutcomeName::Failed) {
            faults.add("output", "goes with the outcome completed only");
        }
        faults.into_result()?;
        let resolution = match body.0.outcome {
            OutcomeName::Completed => Resolution::Completed(body.0.output.unwrap_or(Value::Null)),
            OutcomeName::Failed => Resolution::Failed,
        };
        let done = use_cases::resolve(permit.app(), permit.context(), id, step_key.0.0, resolution).await?;
        stored(&permit, id, done.at).await
    }
}

pub(super) use super::execution_view::{ExecutionJson, ExecutionsJson};
