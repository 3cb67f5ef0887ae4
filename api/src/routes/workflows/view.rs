//! A workflow as clients see it, and what they send.

use poem_openapi::{Enum, Object};
use projections::{WorkflowVersionView, WorkflowView};
use serde_json::{Map, Value};

use crate::{pagination::Pagination, types::Time};

#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
pub enum WorkflowStatusName {
    Draft,
    Active,
    Paused,
}

impl From<WorkflowStatusName> for domain::workflow::Status {
    fn from(name: WorkflowStatusName) -> Self {
        match name {
            WorkflowStatusName::Draft => Self::Draft,
            WorkflowStatusName::Active => Self::Active,
            WorkflowStatusName::Paused => Self::Paused,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    pub name: String,
    #[oai(validator(max_length = 2000))]
    pub description: Option<String>,
    /// JSON Schema of the input; a bad input is 422.
    pub input_schema: Option<Value>,
    /// `[{id, name, type, …}]`: `api_call`, `condition`, `loop`, `transform`.
    pub steps: Vec<Value>,
    /// What the execution gives; every step's output when absent.
    pub output: Option<Value>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct PutWorkflowBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    pub name: String,
    #[oai(validator(max_length = 2000))]
    pub description: Option<String>,
    pub status: Option<WorkflowStatusName>,
    pub input_schema: Option<Value>,
    pub steps: Vec<Value>,
    pub output: Option<Value>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchWorkflowBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    pub name: Option<String>,
    #[oai(validator(max_length = 2000))]
    pub description: Option<String>,
    pub status: Option<WorkflowStatusName>,
    pub input_schema: Option<Value>,
    pub steps: Option<Vec<Value>>,
    pub output: Option<Value>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValidateWorkflowBody {
    pub name: Option<String>,
    pub description: Option<String>,
    pub input_schema: Option<Value>,
    pub steps: Vec<Value>,
    pub output: Option<Value>,
}

/// `{inputSchema?, steps?, output?}`: what is absent here is absent there.
pub fn definition(input_schema: Option<Value>, steps: Option<Vec<Value>>, output: Option<Value>) -> Map<String, Value> {
    let parts = [("inputSchema", input_schema), ("steps", steps.map(Value::Array)), ("output", output)];
    parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part?))).collect()
}

/// Without its steps: one line of a list.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct WorkflowSummaryJson {
    id: String,
    name: String,
    description: Option<String>,
    /// `draft`, `active` or `paused`.
    status: String,
    step_count: u32,
    /// Of the steps, from 1.
    current_version: i32,
    execution_count: i64,
    last_executed: Option<Time>,
    created_at: Time,
    updated_at: Time,
    version: i64,
}

impl From<WorkflowView> for WorkflowSummaryJson {
    fn from(view: WorkflowView) -> Self {
        Self {
            id: view.id.to_string(),
            name: view.name,
            description: view.description,
            status: view.status.as_str().to_owned(),
            step_count: view.step_count,
            current_version: view.current_version,
            execution_count: view.execution_count,
            last_executed: view.last_execution_at.map(Time),
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            version: view.version,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct WorkflowsJson {
    pub workflows: Vec<WorkflowSummaryJson>,
    pub pagination: Pagination,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct WorkflowJson {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    /// `draft`, `active` or `paused`.
    pub status: String,
    pub input_schema: Option<Value>,
    pub steps: Value,
    pub output: Option<Value>,
    pub step_count: u32,
    /// Of the steps, from 1.
    pub current_version: i32,
    pub execution_count: i64,
    pub last_executed: Option<Time>,
    pub created_at: Time,
    pub updated_at: Time,
    pub version: i64,
    /// After a write: what can be saved, but will not work as it is, with its place.
    pub warnings: Option<Vec<WorkflowFaultJson>>,
}

impl WorkflowJson {
    pub fn of(view: WorkflowView, mut definition: Value) -> Self {
        let mut part = |name: &str| definition.get_mut(name).map(Value::take);
        Self {
            id: view.id.to_string(),
            name: view.name,
            description: view.description,
            status: view.status.as_str().to_owned(),
            input_schema: part("inputSchema"),
            steps: part("steps").unwrap_or_else(|| Value::Array(Vec::new())),
            output: part("output"),
            step_count: view.step_count,
            current_version: view.current_version,
            execution_count: view.execution_count,
            last_executed: view.last_execution_at.map(Time),
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            version: view.version,
            warnings: None,
        }
    }
}

/// One immutable version.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct WorkflowVersionJson {
    version: i32,
    step_count: u32,
    /// SHA-256 of the stored definition, hex: what executions are pinned to.
    definition_hash: String,
    created_by: String,
    created_at: Time,
    /// Only of a single version.
    input_schema: Option<Value>,
    /// Only of a single version.
    steps: Option<Value>,
    /// Only of a single version.
    output: Option<Value>,
}

impl WorkflowVersionJson {
    pub fn of(view: WorkflowVersionView, definition: Option<Value>) -> Self {
        let mut definition = definition.unwrap_or_default();
        let mut part = |name: &str| definition.get_mut(name).map(Value::take);
        Self {
            version: view.version,
            step_count: view.step_count,
            definition_hash: view.definition_hash,
            created_by: view.created_by,
            created_at: view.created_at.into(),
            input_schema: part("inputSchema"),
            steps: part("steps"),
            output: part("output"),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct WorkflowVersionsJson {
    /// The newest 1,000, newest first.
    pub versions: Vec<WorkflowVersionJson>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct WorkflowFaultJson {
    pub field: String,
    pub message: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct WorkflowValidationJson {
    pub valid: bool,
    /// Every fault with its place.
    pub errors: Vec<WorkflowFaultJson>,
    /// What can be saved, but will not work as it is: calls that need a credential which their connection lacks.
    pub warnings: Vec<WorkflowFaultJson>,
}
