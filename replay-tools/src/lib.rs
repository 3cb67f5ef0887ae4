//! Auditors' tools: they read the log, fold it again, compare and print. They change nothing, open nothing that is
//! sealed, and call nobody.

mod error;
mod fold;
mod print;
mod redact;
mod session;
mod streams;
mod timeline;
mod verify;

pub use error::ReplayError;
pub use fold::rebuild;
pub use streams::{StreamFault, StreamReport};
pub use timeline::timeline;
pub use verify::{TableReport, VerifyOutcome, VerifyReport, verify};

/// How a tool runs and prints.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// One JSON document instead of tables.
    pub json: bool,
    /// Draw a progress bar on the terminal (standard error), where there is one.
    pub progress: bool,
    /// Events a transaction.
    pub batch: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self { json: false, progress: true, batch: 1_000 }
    }
}
