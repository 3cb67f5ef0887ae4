//! A workflow: steps over connected APIs, in versions that never change.

pub mod action;
pub mod check;
pub mod definition;
mod fields;
pub mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use check::Bindings;
pub use definition::{Binding, Definition, Step, StepKind};
pub use fields::parse_duration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    aggregate::aggregate,
    error::{Code, Faults, FieldError, Rejection},
    event::events,
};

/// One immutable version: what executions are pinned to. Also the content of the definition's blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// `Definition::to_json`.
    pub definition: Value,
    pub bindings: BTreeMap<String, Binding>,
}

events! {
    pub enum WorkflowEvent {
        "workflow.created" v "1" = Created {
            name: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            description: Option<String>,
            version: i32,
            /// SHA-256 of the blob that holds `Version` as JSON, hex.
            definition_hash: String,
            step_count: u32,
        },
        "workflow.updated" v "1" = Updated {
            #[serde(default, skip_serializing_if = "Option::is_none")]
            name: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            description: Option<String>,
            /// Present when the steps changed: a new version.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            version: Option<i32>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            definition_hash: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            step_count: Option<u32>,
        },
        "workflow.status_changed" v "1" = StatusChanged { status: Status },
        "workflow.deleted" v "1" = Deleted {},
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Draft,
    #[default]
    Active,
    Paused,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Draft => "draft",
            Status::Active => "active",
            Status::Paused => "paused",
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct WorkflowPatch {
    pub name: Option<String>,
    pub description: Option<String>,
    /// Hash and step count of a new version's blob.
    pub definition: Option<(String, u32)>,
    pub status: Option<Status>,
}

#[derive(Debug)]
pub enum WorkflowCommand {
    Create { name: String, description: Option<String>, definition_hash: String, step_count: u32 },
    Update(WorkflowPatch),
    Delete,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Workflow {
    pub created: bool,
    pub deleted: bool,
    pub name: String,
    pub description: Option<String>,
    pub status: Status,
    pub version: i32,
    /// Definition hashes, version 1 first.
    pub versions: Vec<String>,
}

impl Workflow {
    pub fn is_live(&self) -> bool {
        self.created && !self.deleted
    }

    pub fn definition_hash(&self) -> Option<&str> {
        self.versions.last().map(String::as_str)
    }

    fn evolve(&mut self, event: WorkflowEvent) {
        match event {
            WorkflowEvent::Created { name, description, version, definition_hash, .. } => {
                self.created = true;
                self.name = name;
                self.description = description;
                self.version = version;
                self.versions.push(definition_hash);
            }
            WorkflowEvent::Updated { name, description, version, definition_hash, .. } => {
                self.name = name.unwrap_or_else(|| std::mem::take(&mut self.name));
                self.description = description.or(self.description.take());
                self.version = version.unwrap_or(self.version);
                self.versions.extend(definition_hash);
            }
            WorkflowEvent::StatusChanged { status } => self.status = status,
            WorkflowEvent::Deleted {} => self.deleted = true,
        }
    }
}

fn decide(state: &Workflow, command: WorkflowCommand) -> Result<Vec<WorkflowEvent>, Rejection> {
    match command {
        WorkflowCommand::Create { .. } if state.created => {
            Err(Rejection::new(Code::Conflict, "This workflow exists already."))
        }
        WorkflowCommand::Create { name, description, definition_hash, step_count } => {
            let mut faults = Faults::default();
            faults.length("name", &name, 1, 200);
            faults.into_result()?;
            Ok(vec![WorkflowEvent::Created { name, description, version: 1, definition_hash, step_count }])
        }
        _ if !state.is_live() => Err(Rejection::not_found(Code::WorkflowNotFound, "workflow")),
        WorkflowCommand::Delete => Ok(vec![WorkflowEvent::Deleted {}]),
        WorkflowCommand::Update(patch) => update(state, patch),
    }
}

fn update(state: &Workflow, patch: WorkflowPatch) -> Result<Vec<WorkflowEvent>, Rejection> {
    let mut faults = Faults::default();
    if let Some(name) = &patch.name {
        faults.length("name", name, 1, 200);
    }
    faults.into_result()?;
    let name = patch.name.filter(|n| *n != state.name);
    let description = patch.description.filter(|d| state.description.as_ref() != Some(d));
    let definition = patch.definition.filter(|(hash, _)| state.definition_hash() != Some(hash));
    let mut events = Vec::new();
    if name.is_some() || description.is_some() || definition.is_some() {
        let version = definition.as_ref().map(|_| state.version + 1);
        let (definition_hash, step_count) = definition.unzip();
        events.push(WorkflowEvent::Updated { name, description, version, definition_hash, step_count });
    }
    if let Some(status) = patch.status.filter(|s| *s != state.status) {
        events.push(WorkflowEvent::StatusChanged { status });
    }
    Ok(events)
}

/// Every way in which an execution's input breaks the workflow's `inputSchema`; fields start with `input`.
pub fn check_input(schema: &Value, input: &Value) -> Vec<FieldError> {
    let Ok(validator) = jsonschema::validator_for(schema) else {
        return vec![FieldError::new("input", "the workflow's inputSchema is no valid JSON Schema")];
    };
    let field = |pointer: &str| {
        let dotted = pointer.split('/').filter(|p| !p.is_empty()).map(|p| match p.parse::<usize>() {
            Ok(index) => format!("[{index}]"),
            Err(_) => format!(".{}", p.replace("~1", "/").replace("~0", "~")),
        });
        format!("input{}", dotted.collect::<String>())
    };
    validator.iter_errors(input).map(|e| FieldError::new(field(e.instance_path().as_str()), e.to_string())).collect()
}

aggregate!(Workflow, "workflow", WorkflowCommand, WorkflowEvent, decide);
