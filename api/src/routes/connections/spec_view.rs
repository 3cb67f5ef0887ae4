//! Documents, their versions and what differs between them, as clients see it.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    connection::AffectedWorkflow,
    drift::{Drift, SpecChange},
};
use poem_openapi::Object;
use projections::{Asked, ConnectionSpecView, ConnectionView};

use super::view::ChangesJson;
use crate::{routes::name_of, types::Time};

/// One change between two versions of a document.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct SpecChangeJson {
    /// `GET /customers/{id}`; `document` for what belongs to no operation.
    operation: String,
    /// Where in it: ``query parameter `limit` ``, ``response 200, property `email` ``.
    place: String,
    /// What changed there: `is now required`.
    change: String,
    breaking: bool,
}

impl From<SpecChange> for SpecChangeJson {
    fn from(change: SpecChange) -> Self {
        let SpecChange { operation, place, what, breaking } = change;
        Self { operation, place, change: what, breaking }
    }
}

/// A workflow whose present version calls changed operations.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct AffectedWorkflowJson {
    id: String,
    name: String,
    version: i32,
    /// `METHOD /path`, at most 50.
    operations: Vec<String>,
}

impl From<AffectedWorkflow> for AffectedWorkflowJson {
    fn from(workflow: AffectedWorkflow) -> Self {
        let AffectedWorkflow { workflow_id, name, version, operations } = workflow;
        Self { id: workflow_id.to_string(), name, version, operations }
    }
}

/// What a refresh found.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct RefreshJson {
    connection_id: String,
    /// `SUCCEEDED`.
    ingestion_status: String,
    /// Is the document another one than before?
    spec_changed: bool,
    document_version: i32,
    endpoint_count: u32,
    endpoints_updated: u32,
    new_endpoints: u32,
    removed_endpoints: u32,
    /// The first 50, each naming operation and place.
    breaking_changes: Vec<String>,
    breaking_count: u32,
    /// The first 50 of all changes, breaking ones first.
    changes: Vec<SpecChangeJson>,
    change_count: u32,
    /// The first 50 whose present version calls a changed operation.
    affected_workflows: Vec<AffectedWorkflowJson>,
    affected_workflow_count: u32,
    /// The first 50 that had not ended and call a changed operation.
    running_executions: Vec<String>,
    running_execution_count: u32,
    /// Milliseconds that the refresh took.
    response_time: u64,
}

impl RefreshJson {
    /// `before`: the version when the refresh was asked for.
    pub fn of(view: ConnectionView, before: i32, response_time: u64) -> Self {
        let changes = ChangesJson::from(view.changes.unwrap_or_default());
        Self {
            connection_id: view.id.to_string(),
            ingestion_status: view.ingestion_status.as_str().to_owned(),
            spec_changed: view.spec_number != before,
            document_version: view.spec_number,
            endpoint_count: view.endpoint_count,
            endpoints_updated: changes.changed,
            new_endpoints: changes.added,
            removed_endpoints: changes.removed,
            breaking_changes: changes.breaking_changes,
            breaking_count: changes.breaking_count,
            changes: changes.details,
            change_count: changes.detail_count,
            affected_workflows: changes.affected_workflows,
            affected_workflow_count: changes.affected_workflow_count,
            running_executions: changes.running_executions,
            running_execution_count: changes.running_execution_count,
            response_time,
        }
    }
}

/// A refresh that goes on.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct RefreshUnderWayJson {
    pub connection_id: String,
    /// `PENDING` or `RUNNING`.
    pub ingestion_status: String,
    /// Milliseconds so far.
    pub response_time: u64,
}

/// Who wanted a document to be read.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AskedJson {
    /// `user`, `api_key` or `system`.
    kind: String,
    id: String,
    /// By the connection's schedule.
    scheduled: bool,
    at: Time,
}

impl From<Asked> for AskedJson {
    fn from(asked: Asked) -> Self {
        Self { kind: asked.kind.as_str().to_owned(), id: asked.id, scheduled: asked.scheduled, at: asked.at.into() }
    }
}

/// One version of a connection's document.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct SpecVersionJson {
    /// From 1.
    version: i32,
    /// SHA-256 of the document, hex.
    hash: String,
    /// Of the OpenAPI format: `2.0`, `3.0.3`, `3.1.0`.
    spec_version: String,
    title: String,
    api_version: String,
    /// `json` or `yaml`.
    format: String,
    /// Bytes.
    size: u64,
    endpoint_count: u32,
    webhook_count: u32,
    /// Operations, against the version before.
    added: u32,
    removed: u32,
    changed: u32,
    breaking: u32,
    /// `fetched`, `not_modified`, `cache` or `upload`; absent for what an older server took.
    via: Option<String>,
    asked_by: Option<AskedJson>,
    created_at: Time,
    /// The document itself, to the byte.
    document: Option<String>,
    /// Instead of it: an uploaded archive, in base64.
    archive: Option<String>,
}

impl SpecVersionJson {
    pub fn of(view: ConnectionSpecView, document: Option<Vec<u8>>) -> Self {
        let (document, archive) = match document.map(String::from_utf8) {
            Some(Ok(text)) => (Some(text), None),
            Some(Err(binary)) => (None, Some(STANDARD.encode(binary.as_bytes()))),
            None => (None, None),
        };
        Self {
            version: view.number,
            hash: view.spec_hash,
            spec_version: view.spec_version,
            title: view.title,
            api_version: view.api_version,
            format: view.format,
            size: view.size,
            endpoint_count: view.endpoint_count,
            webhook_count: view.webhook_count,
            added: view.added,
            removed: view.removed,
            changed: view.changed,
            breaking: view.breaking,
            via: view.via.map(name_of),
            asked_by: view.asked.map(Into::into),
            created_at: view.created_at.into(),
            document,
            archive,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct SpecHistoryJson {
    /// When the newest version was last seen as it is.
    pub checked_at: Option<Time>,
    /// The newest 1,000, newest first.
    pub history: Vec<SpecVersionJson>,
}

/// What differs between two versions.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct SpecDiffJson {
    from: i32,
    to: i32,
    /// `METHOD /path`.
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
    breaking_changes: Vec<String>,
    breaking_count: u64,
    /// Breaking ones first; at most 5,000.
    changes: Vec<SpecChangeJson>,
    change_count: u64,
}

impl SpecDiffJson {
    pub fn of(from: i32, to: i32, drift: Drift) -> Self {
        Self {
            from,
            to,
            added: drift.added,
            removed: drift.removed,
            changed: drift.changed,
            breaking_changes: drift.details.iter().filter(|d| d.breaking).map(ToString::to_string).collect(),
            breaking_count: drift.breaking_count as u64,
            changes: drift.details.into_iter().map(Into::into).collect(),
            change_count: drift.detail_count as u64,
        }
    }
}
