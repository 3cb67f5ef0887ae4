//! What goes into the planner and what comes out: requests, drafts, candidates and errors.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest request that is read, in bytes. A longer one is refused, not cut: what was cut could be the "don't".
pub const MAX_REQUEST_BYTES: usize = 8_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Assistant,
}

/// An earlier turn of the conversation, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

/// A request in plain English. `context` is the caller's own and is never sent to a model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanRequest {
    pub message: String,
    #[serde(default)]
    pub previous: Vec<Message>,
    #[serde(default)]
    pub context: Value,
}

/// An operation that was considered. `score` is relative to the best one (1.0).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    pub connection_id: String,
    pub method: String,
    pub endpoint: String,
    pub summary: String,
    pub score: f32,
}

/// Tokens that the model reported, over all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// A workflow that nobody has confirmed yet. `steps` have the step JSON of the HTTP API; `inputSchema` says what
/// the run needs as `input.*`; `questions` has one sentence for each of those; `confidence` is 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDraft {
    pub name: String,
    pub steps: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    pub explanation: String,
    pub confidence: f32,
    pub candidates: Vec<Candidate>,
    pub warnings: Vec<String>,
    pub questions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// Which planner spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannerKind {
    Llm,
    Offline,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    pub draft: PlanDraft,
    pub planner: PlannerKind,
}

/// Why there is no plan. The sentences are safe to show: they hold no secret and no provider's text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error("The request is empty: say what the workflow shall do.")]
    EmptyRequest,
    #[error("The request has {length} bytes, more than the {MAX_REQUEST_BYTES} that are read: say it in fewer words.")]
    TooLong { length: usize },
    #[error("No API operation is connected yet: create a connection with an OpenAPI document first.")]
    NoOperations,
    #[error("No connected operation fits {}: connect the API that does it, or say it in the API's own words.", quoted(.parts))]
    NothingFits { parts: Vec<String> },
    #[error("The model can't be used: {reason}.")]
    Unavailable { reason: String },
    #[error("The model's answer is no plan: {reason}.")]
    BadAnswer { reason: String },
}

fn quoted(parts: &[String]) -> String {
    parts.iter().map(|p| format!("\"{p}\"")).collect::<Vec<_>>().join(", ")
}

impl PlanRequest {
    /// The message, trimmed; refuses an empty and an oversized one.
    pub fn checked(&self) -> Result<&str, PlanError> {
        let message = self.message.trim();
        if self.message.len() > MAX_REQUEST_BYTES {
            return Err(PlanError::TooLong { length: self.message.len() });
        }
        if !message.chars().any(char::is_alphanumeric) {
            return Err(PlanError::EmptyRequest);
        }
        Ok(message)
    }
}
