//! How a use case ends.

use domain::{
    error::{Code, Rejection},
    event::{DecodeError, LogPosition},
};
use event_store::{AppendError, BlobError, LoadError};
use vault::VaultError;

/// A write's answer and its place in the log; `LogPosition::START` when nothing had to be written.
#[derive(Debug, Clone, Copy)]
pub struct Done<T> {
    pub value: T,
    pub at: LogPosition,
}

impl<T> Done<T> {
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Done<U> {
        Done { value: f(self.value), at: self.at }
    }
}

pub type Outcome<T> = Result<Done<T>, Failure>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The caller's fault, told to the caller.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Try again later; nothing was written, or it is unknown whether it was.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Ours; told to the log only.
    #[error("internal: {0}")]
    Internal(String),
}

impl Failure {
    pub fn rejected(code: Code, message: impl Into<String>) -> Self {
        Failure::Rejected(Rejection::new(code, message))
    }

    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Failure::Rejected(r) if r.code == Code::Conflict && r.details.is_empty() && r.message == CHANGED)
    }
}

pub(crate) const CHANGED: &str = "Somebody else changed this at the same time; read it again and repeat.";

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Conflict => Failure::rejected(Code::Conflict, CHANGED),
            AppendError::KeyTaken => Failure::rejected(
                Code::IdempotencyConflict,
                "A request with this Idempotency-Key is under way or has been carried out.",
            ),
            AppendError::TooLarge(reason) => Failure::rejected(Code::PayloadTooLarge, format!("This is {reason}.")),
            AppendError::Refused(reason) => Failure::Internal(reason),
            AppendError::Unavailable(reason) => Failure::Unavailable(reason),
            AppendError::Overloaded => Failure::Unavailable("too many commands are waiting".into()),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Database(e) => Failure::Unavailable(e.to_string()),
            // During a rolling upgrade: a node of the newer build can do it.
            LoadError::Decode(e @ DecodeError::Newer { .. }) => Failure::Unavailable(e.to_string()),
            other => Failure::Internal(other.to_string()),
        }
    }
}

impl From<BlobError> for Failure {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Database(e) => Failure::Unavailable(e.to_string()),
            other => Failure::Internal(other.to_string()),
        }
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        match error {
            e @ (VaultError::Database(_) | VaultError::MasterKeyUnavailable(_)) => Failure::Unavailable(e.to_string()),
            other => Failure::Internal(other.to_string()),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Failure::Internal(error.to_string())
    }
}

impl From<event_store::DatabaseError> for Failure {
    fn from(error: event_store::DatabaseError) -> Self {
        Failure::Unavailable(error.to_string())
    }
}
