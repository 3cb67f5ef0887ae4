//! Workflows: steps over connected APIs, in versions that never change.

mod run;
mod view;

use commands::workflow::{self as use_cases, CreateWorkflow, UpdateWorkflow};
use domain::{
    error::{Code, FieldError},
    event::LogPosition,
    ids::WorkflowId,
};
use poem_openapi::{OpenApi, param::Path};
use projections::WorkflowView;
use run::{ExecuteWorkflowBody, WaitQuery};
pub(super) use run::{ExecutionStartedJson, started};
use serde_json::Value;
use view::{
    PatchWorkflowBody, PutWorkflowBody, ValidateWorkflowBody, WorkflowBody, WorkflowFaultJson, WorkflowJson,
    WorkflowValidationJson, WorkflowVersionJson, WorkflowVersionsJson, WorkflowsJson, definition,
};

use super::{
    Deleted, Tag,
    executions::{ExecutionJson, ExecutionsJson, WorkflowExecutionList},
};
use crate::{
    answer::{Answer, Either, Written},
    auth::{
        Permit,
        grant::{ExecutionRead, WorkflowExecute, WorkflowRead, WorkflowWrite},
    },
    body::Body,
    pagination::{Pagination, listing},
    problem::Problem,
    query::Asked,
    types::{Id, Ordinal},
};

pub struct WorkflowsApi;

listing! {
    /// What a list of workflows may be asked.
    pub struct WorkflowList sorted by "createdAt,updatedAt,name,lastExecutionAt,executionCount" {
        "status" = "some:draft,active,paused", "State.";
        "search" = "string", "Part of the name or description.";
    }
}

async fn find<P>(permit: &Permit<P>, id: WorkflowId) -> Result<WorkflowView, Problem> {
    let found = permit.reads().workflow(permit.workspace(), id).await?;
    found.ok_or_else(|| Problem::not_found(Code::WorkflowNotFound, "workflow"))
}

fn faults(found: Vec<FieldError>) -> Vec<WorkflowFaultJson> {
    found.into_iter().map(|fault| WorkflowFaultJson { field: fault.field, message: fault.message }).collect()
}

async fn with_steps<P>(permit: &Permit<P>, view: WorkflowView) -> Result<WorkflowJson, Problem> {
    let definition = use_cases::definition(permit.app(), permit.context(), &view.definition_hash).await?;
    Ok(WorkflowJson::of(view, definition))
}

async fn stored<const STATUS: u16>(
    permit: &Permit<WorkflowWrite>,
    id: WorkflowId,
    at: LogPosition,
    warnings: Vec<FieldError>,
    message: &str,
) -> Result<Written<WorkflowJson, STATUS>, Problem> {
    if permit.shows(at).await
        && let Some(view) = permit.reads().workflow(permit.workspace(), id).await?
    {
        let version = view.version;
        let mut workflow = with_steps(permit, view).await?;
        workflow.warnings = Some(faults(warnings));
        let answer = Answer::new(workflow);
        return Ok(Written::Usual(answer.message(message).version(version).at(at)));
    }
    Ok(permit.lagging(id, at))
}

#[OpenApi(tag = "Tag::Workflows")]
impl WorkflowsApi {
    /// List workflows
    #[oai(path = "/workflows", method = "get", operation_id = "listWorkflows")]
    async fn list(
        &self,
        permit: Permit<WorkflowRead>,
        asked: Asked<WorkflowList>,
    ) -> Result<Answer<WorkflowsJson>, Problem> {
        let WorkflowList { filter, page } = asked.0;
        let listed = permit.reads().workflows(permit.workspace(), &filter, &page).await?;
        let pagination = Pagination::of(&listed);
        Ok(Answer::new(WorkflowsJson { workflows: listed.items.into_iter().map(Into::into).collect(), pagination }))
    }

    /// Create a workflow
    ///
    /// Steps are checked against the connected documents: an unknown operation, connection or variable is 422, and
    /// every fault is named with its place.
    #[oai(path = "/workflows", method = "post", operation_id = "createWorkflow")]
    async fn create(
        &self,
        permit: Permit<WorkflowWrite>,
        body: Body<WorkflowBody>,
    ) -> Result<Written<WorkflowJson, 201>, Problem> {
        let WorkflowBody { name, description, input_schema, steps, output } = body.0;
        let definition = Value::Object(definition(input_schema, Some(steps), output));
        let input = CreateWorkflow { name, description, definition };
        let done = use_cases::create(permit.app(), permit.context(), input).await?;
        let (id, warnings) = done.value;
        stored(&permit, id, done.at, warnings, "Workflow created.").await
    }

    /// Validate a workflow
    ///
    /// Names every fault without saving anything.
    #[oai(path = "/workflows/validate", method = "post", operation_id = "validateWorkflow")]
    async fn validate(
        &self,
        permit: Permit<WorkflowWrite>,
        body: Body<ValidateWorkflowBody>,
    ) -> Result<Answer<WorkflowValidationJson>, Problem> {
        let ValidateWorkflowBody { input_schema, steps, output, .. } = body.0;
        let definition = Value::Object(definition(input_schema, Some(steps), output));
        let found = use_cases::validate(permit.app(), permit.context(), &definition).await?;
        let (errors, warnings) = (faults(found.errors), faults(found.warnings));
        Ok(Answer::new(WorkflowValidationJson { valid: errors.is_empty(), errors, warnings }))
    }

    /// Get a workflow
    ///
    /// With the steps of its current version.
    #[oai(path = "/workflows/:id", method = "get", operation_id = "getWorkflow")]
    async fn get(
        &self,
        permit: Permit<WorkflowRead>,
        id: Path<Id<WorkflowId>>,
    ) -> Result<Answer<WorkflowJson>, Problem> {
        let view = find(&permit, id.typed("id")?).await?;
        let version = view.version;
        Ok(Answer::new(with_steps(&permit, view).await?).version(version))
    }

    /// Replace a workflow
    ///
    /// Other steps become the next version; executions that run keep theirs.
    #[oai(path = "/workflows/:id", method = "put", operation_id = "replaceWorkflow")]
    async fn replace(
        &self,
        permit: Permit<WorkflowWrite>,
        id: Path<Id<WorkflowId>>,
        body: Body<PutWorkflowBody>,
    ) -> Result<Written<WorkflowJson>, Problem> {
        let id = id.typed("id")?;
        let expected = permit.expected_version()?;
        let PutWorkflowBody { name, description, status, input_schema, steps, output } = body.0;
        let input = UpdateWorkflow {
            name: Some(name),
            // An absent description is an empty one: this replaces.
            description: Some(description.unwrap_or_default()),
            definition: Some(Value::Object(definition(input_schema, Some(steps), output))),
            status: status.map(Into::into),
        };
        let done = use_cases::update(permit.app(), permit.context(), id, expected, input).await?;
        stored(&permit, id, done.at, done.value, "Workflow updated.").await
    }

    /// Change a workflow
    ///
    /// Fields that are absent stay. Other steps become the next version.
    #[oai(path = "/workflows/:id", method = "patch", operation_id = "updateWorkflow")]
    async fn update(
        &self,
        permit: Permit<WorkflowWrite>,
        id: Path<Id<WorkflowId>>,
        body: Body<PatchWorkflowBody>,
    ) -> Result<Written<WorkflowJson>, Problem> {
        let id = id.typed("id")?;
        let mut expected = permit.expected_version()?;
        let PatchWorkflowBody { name, description, status, input_schema, steps, output } = body.0;
        let parts = definition(input_schema, steps, output);
        let mut whole = None;
        if !parts.is_empty() {
            let view = find(&permit, id).await?;
            let mut present = use_cases::definition(permit.app(), permit.context(), &view.definition_hash).await?;
            if let Some(map) = present.as_object_mut() {
                map.extend(parts);
            }
            // What is completed here must be what is changed there.
            expected = expected.or(Some(view.version));
            whole = Some(present);
        }
        let input = UpdateWorkflow { name, description, definition: whole, status: status.map(Into::into) };
        let done = use_cases::update(permit.app(), permit.context(), id, expected, input).await?;
        stored(&permit, id, done.at, done.value, "Workflow updated.").await
    }

    /// Delete a workflow
    ///
    /// Its executions and its versions stay readable.
    #[oai(path = "/workflows/:id", method = "delete", operation_id = "deleteWorkflow")]
    async fn delete(
        &self,
        permit: Permit<WorkflowWrite>,
        id: Path<Id<WorkflowId>>,
    ) -> Result<Answer<Deleted>, Problem> {
        let id = id.typed("id")?;
        let done = use_cases::delete(permit.app(), permit.context(), id).await?;
        permit.wrote(done.at);
        Ok(Answer::new(Deleted::of(id)).message("Workflow deleted.").at(done.at))
    }

    /// List a workflow's versions
    #[oai(path = "/workflows/:id/versions", method = "get", operation_id = "listWorkflowVersions")]
    async fn versions(
        &self,
        permit: Permit<WorkflowRead>,
        id: Path<Id<WorkflowId>>,
    ) -> Result<Answer<WorkflowVersionsJson>, Problem> {
        let found = permit.reads().workflow_versions(permit.workspace(), id.typed("id")?).await?;
        if found.is_empty() {
            return Err(Problem::not_found(Code::WorkflowNotFound, "workflow"));
        }
        let versions = found.into_iter().map(|view| WorkflowVersionJson::of(view, None)).collect();
        Ok(Answer::new(WorkflowVersionsJson { versions }))
    }

    /// Get a workflow's version
    ///
    /// With its steps, exactly as executions of it run them.
    #[oai(path = "/workflows/:id/versions/:n", method = "get", operation_id = "getWorkflowVersion")]
    async fn version(
        &self,
        permit: Permit<WorkflowRead>,
        id: Path<Id<WorkflowId>>,
        /// From 1.
        n: Path<Ordinal>,
    ) -> Result<Answer<WorkflowVersionJson>, Problem> {
        let id = id.typed("id")?;
        let number = n.number("n")?;
        let found = permit.reads().workflow_version(permit.workspace(), id, number).await?;
        let view = found.ok_or_else(|| Problem::not_found(Code::WorkflowNotFound, "workflow version"))?;
        let definition = use_cases::definition(permit.app(), permit.context(), &view.definition_hash).await?;
        Ok(Answer::new(WorkflowVersionJson::of(view, Some(definition))))
    }

    /// Execute a workflow
    ///
    /// Starts an execution of the current version: 202 with its id. With `?wait=30s` the answer waits for the end
    /// and is 200 with the finished execution, or 202 when time is up.
    #[oai(path = "/workflows/:id/execute", method = "post", operation_id = "executeWorkflow")]
    async fn execute(
        &self,
        permit: Permit<WorkflowExecute>,
        id: Path<Id<WorkflowId>>,
        wait: Asked<WaitQuery>,
        body: Body<ExecuteWorkflowBody>,
    ) -> Result<Either<Answer<ExecutionJson>, Answer<ExecutionStartedJson, 202>>, Problem> {
        let (id, input) = (id.typed("id")?, body.0.input.unwrap_or_default());
        let done = commands::execution::start(permit.app(), permit.context(), id, input, "manual").await?;
        run::answer(&permit, id, done, wait.0).await
    }

    /// List a workflow's executions
    ///
    /// Newest first.
    #[oai(path = "/workflows/:id/executions", method = "get", operation_id = "listWorkflowExecutions")]
    async fn executions(
        &self,
        permit: Permit<ExecutionRead>,
        id: Path<Id<WorkflowId>>,
        asked: Asked<WorkflowExecutionList>,
    ) -> Result<Answer<ExecutionsJson>, Problem> {
        let workflow = find(&permit, id.typed("id")?).await?;
        let WorkflowExecutionList { filter, page } = asked.0;
        let filter = filter.with("workflowId", Some(workflow.id.to_string()));
        let listed = permit.reads().executions(permit.workspace(), &filter, &page).await?;
        Ok(Answer::new(ExecutionsJson::of(listed)))
    }
}
