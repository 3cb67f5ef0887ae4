//! Plain English to a plan, and a confirmed plan to an execution.

use commands::chat::{self as use_cases, PlanRequest, Planned};
use domain::{error::Faults, ids::PlanId};
use poem_openapi::{Enum, Object, OpenApi};
use serde_json::Value;

use super::{
    Tag,
    workflows::{ExecutionStartedJson, started},
};
use crate::{
    answer::Answer,
    auth::{
        Permit,
        grant::{PlanWrite, WorkflowExecute},
    },
    body::Body,
    problem::Problem,
    types::Id,
};

pub struct ChatApi;

#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "lowercase")]
enum Speaker {
    User,
    Assistant,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct MessageBody {
    role: Speaker,
    #[oai(validator(max_length = 4000))]
    content: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct ContextBody {
    /// Oldest first.
    #[oai(validator(max_items = 50))]
    previous_messages: Option<Vec<MessageBody>>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct ChatBody {
    /// What is wanted, in plain English.
    #[oai(validator(min_length = 1, max_length = 4000))]
    message: String,
    context: Option<ContextBody>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct ExecutePlanBody {
    /// With `planHash`: runs exactly the plan that was shown.
    plan_id: Option<Id<PlanId>>,
    #[oai(validator(max_length = 64))]
    plan_hash: Option<String>,
    /// Instead of a plan: plans and runs at once, if nothing is written.
    #[oai(validator(min_length = 1, max_length = 4000))]
    message: Option<String>,
    input: Option<Value>,
}

/// A draft: nothing of it has run.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct PlanJson {
    plan_id: String,
    /// What a confirmation is bound to.
    plan_hash: String,
    /// `{name, steps, inputSchema?}`.
    workflow: Value,
    explanation: String,
    /// 0 to 1.
    confidence: f64,
    /// `llm` or `offline`.
    planner: String,
    /// Operations that were considered.
    candidates: Vec<Value>,
    warnings: Vec<String>,
    /// What to answer for a better plan.
    questions: Vec<String>,
    /// Does a step change something outside? Then it needs a confirmation.
    writes: bool,
}

impl From<Planned> for PlanJson {
    fn from(planned: Planned) -> Self {
        Self {
            plan_id: planned.plan_id.to_string(),
            plan_hash: planned.plan_hash,
            workflow: planned.workflow,
            explanation: planned.explanation,
            confidence: planned.confidence,
            planner: planned.planner,
            candidates: planned.candidates,
            warnings: planned.warnings,
            questions: planned.questions,
            writes: planned.writes,
        }
    }
}

impl ChatBody {
    fn into_request(self) -> PlanRequest {
        let previous = self.context.and_then(|context| context.previous_messages).unwrap_or_default();
        let previous = previous.into_iter().map(|message| {
            let role = match message.role {
                Speaker::User => "user",
                Speaker::Assistant => "assistant",
            };
            (role.to_owned(), message.content)
        });
        PlanRequest { message: self.message, previous: previous.collect() }
    }
}

/// Which of the two ways to start was meant.
enum Start {
    Plan(PlanId, String),
    Message(String),
}

impl ExecutePlanBody {
    fn start(&self) -> Result<Start, Problem> {
        let mut faults = Faults::default();
        match (&self.plan_id, &self.plan_hash, &self.message) {
            (Some(id), Some(hash), None) => return Ok(Start::Plan(id.typed("planId")?, hash.clone())),
            (None, None, Some(message)) => return Ok(Start::Message(message.clone())),
            (None, None, None) => faults.add("planId", "give planId and planHash of a plan, or a message"),
            (Some(_), None, None) => faults.add("planHash", "is required: the hash of the plan as it was shown"),
            (None, Some(_), None) => faults.add("planId", "is required beside planHash"),
            (_, _, Some(_)) => faults.add("message", "give planId and planHash of a plan, or a message, not both"),
        }
        Err(Problem::invalid(faults.0))
    }
}

#[OpenApi(tag = "Tag::Chat")]
impl ChatApi {
    /// Draft a plan
    ///
    /// From plain English to a workflow over the connected APIs. Nothing is run: look at the plan, then confirm it
    /// with `POST chat/execute`. `planner` says who spoke: the language model, or the offline planner.
    #[oai(path = "/chat", method = "post", operation_id = "draftPlan")]
    async fn plan(&self, permit: Permit<PlanWrite>, body: Body<ChatBody>) -> Result<Answer<PlanJson>, Problem> {
        let done = use_cases::plan(permit.app(), permit.context(), body.0.into_request()).await?;
        permit.wrote(done.at);
        Ok(Answer::new(done.value.into()).at(done.at))
    }

    /// Execute a plan
    ///
    /// With `planId` and `planHash`: runs exactly the plan that was shown. With a `message`: plans and runs at once,
    /// but only if no step writes; else 409 `CONFIRMATION_REQUIRED` with the plan in `data`.
    #[oai(path = "/chat/execute", method = "post", operation_id = "executePlan")]
    async fn execute(
        &self,
        permit: Permit<WorkflowExecute>,
        body: Body<ExecutePlanBody>,
    ) -> Result<Answer<ExecutionStartedJson, 202>, Problem> {
        let start = body.0.start()?;
        let input = body.0.input.unwrap_or_default();
        let done = match start {
            Start::Plan(id, hash) => use_cases::execute(permit.app(), permit.context(), id, &hash, input).await?,
            Start::Message(message) => {
                use_cases::plan_and_execute(permit.app(), permit.context(), message, input).await?
            }
        };
        permit.wrote(done.at);
        let run = done.value;
        let json = started(run.execution_id, run.workflow_id, run.started_at);
        Ok(Answer::new(json).message("Workflow execution started.").at(done.at))
    }
}
