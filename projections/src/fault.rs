//! Why a batch could not be applied: the database's fault (try again) or an event's (set it aside).

use event_store::BlobError;

const DIVISION_BY_ZERO: &str = "22012";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The connection, the server, the schema: the same events may well succeed later.
    #[error("the database: {0}")]
    Database(sqlx::Error),
    /// The checkpoint is not where it was.
    #[error("the checkpoint was moved by somebody else")]
    Moved,
    /// This event cannot be applied, now or later.
    #[error("{0}")]
    Event(String),
}

impl From<sqlx::Error> for Fault {
    /// Only what a value can cause is an event's fault: data exceptions (22), constraints (23), program limits (54).
    /// A missing table or a lost privilege must stop the projector, not empty the log into quarantine.
    fn from(error: sqlx::Error) -> Self {
        let class = match &error {
            sqlx::Error::Database(e) => e.code().map(|c| c.chars().take(2).collect::<String>()),
            _ => None,
        };
        let divided = matches!(&error, sqlx::Error::Database(e) if e.code().as_deref() == Some(DIVISION_BY_ZERO));
        match class.as_deref() {
            // Only the guard of the checkpoint divides.
            _ if divided => Fault::Moved,
            Some("22" | "23" | "54") => Fault::Event(error.to_string()),
            _ => Fault::Database(error),
        }
    }
}

impl From<BlobError> for Fault {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Database(error) => error.into(),
            other => Fault::Event(other.to_string()),
        }
    }
}
