//! Workflows: save, change, delete, check.

mod actions;
mod create;
mod delete;
pub(crate) mod save;
mod update;
mod validate;

use std::sync::Arc;

pub use create::{CreateWorkflow, create};
pub use delete::delete;
use domain::{
    error::Code,
    ids::WorkflowId,
    workflow::{Definition, Version},
};
pub(crate) use save::{lacking_grants, save};
use serde_json::Value;
pub use update::{UpdateWorkflow, update};
pub use validate::{Findings, validate};

use crate::{App, Context, Failure};

fn target(id: WorkflowId) -> (uuid::Uuid, Code, &'static str) {
    (id.0, Code::WorkflowNotFound, "workflow")
}

/// The `{inputSchema?, steps, output?}` of a version, by its hash.
pub async fn definition(app: &App, _context: &Context, definition_hash: &str) -> Result<Value, Failure> {
    Ok(version(app, definition_hash).await?.definition)
}

pub(crate) async fn version(app: &App, definition_hash: &str) -> Result<Version, Failure> {
    let bytes = app.store().blob(definition_hash).await?;
    serde_json::from_slice(&bytes).map_err(|e| Failure::Internal(e.to_string()))
}

/// A pinned version, parsed: what an executor runs.
#[derive(Debug)]
pub struct Pinned {
    pub definition: Definition,
    pub bindings: domain::workflow::Bindings,
}

pub async fn pinned(app: &App, definition_hash: &str) -> Result<Arc<Pinned>, Failure> {
    let version = version(app, definition_hash).await?;
    let definition = Definition::parse(&version.definition)
        .map_err(|faults| Failure::Internal(format!("a stored definition does not parse: {faults:?}")))?;
    Ok(Arc::new(Pinned { definition, bindings: version.bindings }))
}
