//! The planner that asks a model, through any OpenAI-compatible endpoint.
//!
//! The model is an untrusted user: it is offered a handful of operations as tools and only its choice of them comes
//! back. Its answer goes through the same checks as anyone's plan; faults are told to it, twice at most.

mod answer;
mod check;
mod client;
mod prompt;
mod tools;

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};

use self::{answer::Answer, check::Checked, client::ModelClient, tools::Tool};
use super::{
    catalog::Catalog,
    choose, clauses,
    lexicon::{is_stop_word, is_weak},
    retrieve::{candidates, retrieve},
    text::{plain, words},
    types::{PlanDraft, PlanError, PlanRequest, Role, Usage},
};

/// Answers that are sent back with their faults before the plan is given up.
const MAX_REPAIRS: usize = 2;

/// Where the model is. `base_url` ends before `/chat/completions`; `timeout` is for the whole plan, repairs
/// included; `max_candidates` operations are offered at most.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    pub base_url: String,
    pub api_key: SecretString,
    pub model: String,
    pub timeout: Duration,
    pub max_candidates: usize,
}

impl ModelConfig {
    /// The usual timeout (30 s) and number of candidates (12).
    pub fn new(base_url: impl Into<String>, api_key: SecretString, model: impl Into<String>) -> Self {
        let (base_url, model) = (base_url.into(), model.into());
        Self { base_url, api_key, model, timeout: Duration::from_secs(30), max_candidates: 12 }
    }
}

/// Plans a request with a model.
///
/// # Errors
/// As the offline planner's; besides `Unavailable` (no answer, refused, too slow) and `BadAnswer` (no plan in it, or
/// still faulty after [`MAX_REPAIRS`] repairs). The caller may fall back to the offline planner.
pub async fn plan_with_model(
    catalog: &Catalog,
    request: &PlanRequest,
    config: &ModelConfig,
) -> Result<PlanDraft, PlanError> {
    let message = request.checked()?;
    if catalog.is_empty() {
        return Err(PlanError::NoOperations);
    }
    let retrieved = retrieve(catalog, &conversation(request, message), config.max_candidates.max(1));
    if retrieved.is_empty() {
        return Err(PlanError::NothingFits { parts: vec![plain(message, 120)] });
    }
    let tools: Vec<Tool<'_>> = retrieved.iter().enumerate().map(|(i, (doc, _))| Tool::new(catalog, i, *doc)).collect();
    let client = ModelClient::new(config)?;
    let work = converse(&client, request, message, &tools);
    let seconds = config.timeout.as_secs_f32();
    let slow = |_| PlanError::Unavailable { reason: format!("it did not answer within {seconds} seconds") };
    let (checked, usage, repairs) = tokio::time::timeout(config.timeout, work).await.map_err(slow)??;
    let confidence = confidence(catalog, message, &tools, &checked, repairs);
    Ok(PlanDraft {
        name: checked.name.clone().unwrap_or_else(|| plain(message, 60)),
        explanation: checked.explanation(catalog, &tools),
        input_schema: checked.inputs.schema(),
        questions: checked.inputs.questions.clone(),
        steps: checked.steps,
        confidence,
        candidates: candidates(catalog, &retrieved),
        warnings: Vec::new(),
        usage,
    })
}

/// What was asked so far, last turns first: an edit ("change its subject") needs the operations of what it edits.
fn conversation(request: &PlanRequest, message: &str) -> String {
    let earlier = request.previous.iter().rev().filter(|m| m.role == Role::User).take(3);
    earlier.fold(message.to_owned(), |text, turn| format!("{text}. {}", plain(&turn.content, 500)))
}

/// Asks, checks, and sends faults back, until the plan is sound or the repairs are used up.
async fn converse(
    client: &ModelClient<'_>,
    request: &PlanRequest,
    message: &str,
    tools: &[Tool<'_>],
) -> Result<(Checked, Option<Usage>, usize), PlanError> {
    let definitions: Vec<Value> = tools.iter().map(|t| t.definition.clone()).collect();
    let mut messages = prompt::messages(request, message);
    let mut usage: Option<Usage> = None;
    let mut repairs = 0;
    loop {
        let reply = client.complete(&messages, &definitions).await?;
        add_usage(&mut usage, &reply);
        let faults = match Answer::read(&reply) {
            Ok(answer) => match check::check(&answer, tools) {
                Ok(checked) => return Ok((checked, usage, repairs)),
                Err(faults) => faults,
            },
            // Prose or broken JSON: there is nothing to repair, but it may be asked for a plan again.
            Err(fault) => vec![fault],
        };
        if repairs == MAX_REPAIRS {
            return Err(PlanError::BadAnswer { reason: plain(&faults.join("; "), 400) });
        }
        repairs += 1;
        messages.push(json!({"role": "assistant", "content": answer::digest(&reply)}));
        messages.push(json!({"role": "user", "content": prompt::repair(&faults)}));
    }
}

fn add_usage(total: &mut Option<Usage>, reply: &Value) {
    let Some(reported) = reply.get("usage").filter(|u| u.is_object()) else { return };
    let count = |name: &str| reported.get(name).and_then(Value::as_u64).unwrap_or(0);
    let sum = total.get_or_insert_with(Usage::default);
    sum.prompt_tokens = sum.prompt_tokens.saturating_add(count("prompt_tokens"));
    sum.completion_tokens = sum.completion_tokens.saturating_add(count("completion_tokens"));
}

/// How sure, from what can be measured, not from what the model says of itself:
/// `0.5 · coverage + 0.3 · wired + 0.2`, minus 0.1 for each repair, within 0.05 and 0.95. *Coverage*: the share of
/// the request's meaningful words that any chosen operation speaks of; *wired*: the share of arguments that are not
/// asked as inputs.
fn confidence(catalog: &Catalog, message: &str, tools: &[Tool<'_>], checked: &Checked, repairs: usize) -> f32 {
    let content: Vec<String> = clauses::split(message).iter().flat_map(|c| choose::content_words(catalog, c)).collect();
    let content: Vec<String> = if content.is_empty() {
        words(message).into_iter().filter(|w| !is_stop_word(w) && !is_weak(w)).collect()
    } else {
        content
    };
    let spoken = |word: &String| {
        let one = std::slice::from_ref(word);
        checked.used.iter().any(|&t| choose::coverage(catalog, one, tools[t].doc) > 0.0)
    };
    let covered = content.iter().filter(|w| spoken(w)).count() as f32 / content.len().max(1) as f32;
    let wired = 1.0 - checked.asked as f32 / checked.arguments.max(1) as f32;
    let rounded = ((0.5 * covered + 0.3 * wired + 0.2 - 0.1 * repairs as f32) * 100.0).round() / 100.0;
    rounded.clamp(0.05, 0.95)
}
