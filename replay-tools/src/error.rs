//! Why a tool could not run: exit code 2.

use projections::RebuildError;

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the database cannot be read: {0}")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Fold(#[from] RebuildError),
    #[error("the read models are not those of this build: {}", .0.join("; "))]
    Schema(Vec<String>),
    #[error("{0:?} is no id: give a TypeID (conn_…, exec_…, wf_…) or a UUID")]
    Id(String),
    #[error("the log has no events of {0}")]
    NoEvents(String),
    #[error("the report cannot be written: {0}")]
    Output(#[from] std::io::Error),
    #[error("the report cannot be printed: {0}")]
    Json(#[from] serde_json::Error),
}

impl ReplayError {
    /// The process' exit code.
    pub fn exit_code(&self) -> u8 {
        2
    }
}
