//! Read models: every answer to a question is derived from the log, here, and can be derived again.
//!
//! A view is a file: its rows, its queries (methods of `ReadModels`, the tenant first) and its fold. The fold is pure
//! (no clock, no randomness, no side effect), so that folding the log again gives the same rows; `Projector` keeps the
//! live tables, `rebuild` folds beside them. Sealed values pass through sealed: there is no key here.

#[cfg(test)]
extern crate self as projections;

#[cfg(test)]
#[path = "../tests/it/log.rs"]
#[allow(dead_code, reason = "a part of what the other tests use")]
mod log;
#[cfg(test)]
mod panics;
#[cfg(test)]
#[path = "../../tests/support/postgres.rs"]
mod postgres;
#[cfg(test)]
mod tutorial;

mod accounts;
mod api_keys;
mod apply;
mod audit;
mod cells;
mod connections;
mod connectors;
mod credential_usage;
mod credentials;
mod cursor;
mod deliveries;
mod documents;
mod executions;
mod fault;
mod fold;
mod list;
mod loading;
mod online;
mod operations;
mod pace;
mod plans;
mod progress;
mod projector;
mod quarantine;
mod read;
mod rebuild;
mod record;
mod resource;
mod row;
mod shadow;
mod source;
mod specs;
mod statement;
mod steps;
mod system;
mod table;
mod view;
mod webhooks;
mod workflow_operations;
mod workflows;

pub use accounts::{UserView, WorkspaceView};
pub use api_keys::{ApiKeyStatus, ApiKeyView};
pub use audit::AuditFilter;
pub use connections::{ConnectionStatus, ConnectionView, LastTest, ObservedLimit};
pub use connectors::{ConnectorView, LastConnectorTest};
pub use credential_usage::{BlastRadius, Reached, Source, Touch};
pub use credentials::{CredentialReadView, CredentialVersionView, CredentialView};
pub use deliveries::{DeliveryAttempt, DeliveryView};
pub use documents::CachedDocumentView;
pub use executions::ExecutionView;
pub use list::{COUNT_LIMIT, DEFAULT_LIMIT, ListFilter, Listed, MAX_LIMIT, Page};
pub use online::{OnlineError, OnlineOptions, OnlineReport, RebuildPhase, RebuildProgress, rebuild_online};
pub use operations::{OperationView, endpoint_id};
pub use plans::PlanView;
pub use progress::Progress;
pub use projector::{Batch, CHECKPOINT, Projector};
pub use quarantine::{QuarantineEntry, Quarantined, quarantine};
pub use read::{QueryError, ReadModels};
pub use rebuild::{
    Checksum, Checksums, LiveState, RebuildError, RebuildReport, checksums, live_state, rebuild, schema_differences,
};
pub use resource::{resource_id, resource_of};
pub use specs::{Asked, ConnectionSpecView};
pub use steps::{Attempt, AttemptStatus, ExecutionStepView};
pub use system::{Due, DueDelivery, DueIngestion, DueRefresh, Lag, RebuildStatus, SystemReads};
pub use view::{Schema, TABLES, decode_fault};
pub use webhooks::{WebhookStatus, WebhookView};
pub use workflow_operations::{Callers, CallingWorkflow};
pub use workflows::{WorkflowVersionView, WorkflowView};
