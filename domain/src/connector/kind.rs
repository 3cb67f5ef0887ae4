//! How a type of connector is told: its actions with their JSON Schemas, and what its credential and its instances hold.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A type of connector, as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorType {
    /// `slack`: what steps, instances and credentials call it.
    pub name: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    /// May an action be called without a credential?
    pub credential_required: bool,
    /// JSON Schema of a credential's `data`.
    pub credential: Value,
    /// JSON Schema of an instance's `config`.
    pub config: Value,
    pub actions: Vec<Action>,
}

impl ConnectorType {
    pub fn action(&self, name: &str) -> Option<&Action> {
        self.actions.iter().find(|action| action.name == name)
    }

    /// `send_message, update_message`, for messages.
    pub fn action_names(&self) -> String {
        self.actions.iter().map(|action| action.name).collect::<Vec<_>>().join(", ")
    }
}

/// One thing that a connector does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    pub name: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    /// May it be repeated when nobody knows what came of it?
    pub repeat: Repeat,
    /// JSON Schema of what a step gives it.
    pub input: Value,
    /// JSON Schema of the step's output.
    pub output: Value,
}

/// May an action be repeated when its outcome is unknown?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// It only reads.
    Safe,
    /// The service does it once for one key, and the key is sent.
    Keyed,
    /// The same, for so many seconds: then the service has forgotten the key.
    KeyedFor(u32),
    /// Done twice it is as if done once.
    Natural,
    /// The input's `method` decides, as for any HTTP call.
    ByMethod,
    /// A person has to say what came of it.
    Never,
}

impl Repeat {
    pub fn as_str(self) -> &'static str {
        match self {
            Repeat::Safe => "safe",
            Repeat::Keyed | Repeat::KeyedFor(_) => "keyed",
            Repeat::Natural => "natural",
            Repeat::ByMethod => "by_method",
            Repeat::Never => "never",
        }
    }

    /// Can a key be sent along?
    pub fn takes_key(self) -> bool {
        matches!(self, Repeat::Keyed | Repeat::KeyedFor(_) | Repeat::ByMethod)
    }
}

/// Names that types of connectors may have; credentials of a type are called the same.
pub fn is_type_name(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
