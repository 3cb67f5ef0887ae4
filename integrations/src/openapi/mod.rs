//! Reads an OpenAPI document (Swagger 2.0, OpenAPI 3.0, 3.1, and 3.2 as 3.1; JSON or YAML) into the normalised
//! operations that planner, validator and executor share.
//!
//! Synchronous, without a network; the clock only ends what takes too long. About one real document in five fails a
//! strict validator and is used all the same, so only what is no OpenAPI document, or breaks a cap, is refused;
//! everything else is a warning with its JSON pointer. The way of a document: bytes → `archive` → `reader` (its files,
//! and what they refer to) → `tape` (one flat table for JSON and YAML) → `refs` (what `$ref` means) → `document` and
//! its parts → [`SpecSummary`].

mod archive;
mod body;
mod builder;
mod context;
mod document;
mod index;
mod json;
mod operation;
mod parameter;
mod reader;
mod refs;
mod schema;
mod security;
mod server;
mod tape;
#[cfg(test)]
mod tests;
mod yaml;

use std::time::Duration;

use domain::operation::{SpecProblem, SpecSummary};
use serde::Serialize;

pub use reader::{Origin, Part, Reader};

/// What one document may cost. The defaults take every document of the public API directories we know of.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of the document with all its files, unpacked.
    pub max_bytes: usize,
    /// Levels of nesting. For JSON at most 127 take effect.
    pub max_depth: usize,
    /// Keys and values of the document together: what the parsed form costs in memory (12 bytes each).
    pub max_nodes: usize,
    pub max_operations: usize,
    /// `$ref`s of the document with all its files.
    pub max_refs: usize,
    /// Entries of an archive.
    pub max_files: usize,
    /// Other documents that are fetched because a reference leads there.
    pub max_fetches: usize,
    /// Work on one document; waiting for what is fetched does not count.
    pub max_time: Duration,
    /// Warnings kept; of the rest only the number is told.
    pub max_warnings: usize,
    /// Approximate bytes of the summary. Shared references let a small document unfold into a huge one.
    pub max_summary_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_bytes: 32 << 20,
            max_depth: 120,
            max_nodes: 4_000_000,
            max_operations: 20_000,
            max_refs: 500_000,
            max_files: 5_000,
            max_fetches: 200,
            max_time: Duration::from_secs(10),
            max_warnings: 200,
            max_summary_bytes: 96 << 20,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    Json,
    Yaml,
}

/// A document that was taken. Its warnings are in `summary.warnings`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingested {
    pub summary: SpecSummary,
    /// Of the first file.
    pub format: Format,
    /// How many files were read.
    pub files: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestErrorKind {
    /// More bytes than `Limits::max_bytes`.
    TooLarge,
    /// No OpenAPI document, or one that breaks another cap.
    Invalid,
}

/// A document that was refused. `problems` is never empty.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", summary_of(problems))]
pub struct IngestError {
    pub kind: IngestErrorKind,
    pub problems: Vec<SpecProblem>,
}

impl IngestError {
    /// `pointer` is empty where the whole document is meant; a message about syntax names line and column.
    fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let problem = SpecProblem { pointer: pointer.into(), message: message.into() };
        IngestError { kind: IngestErrorKind::Invalid, problems: vec![problem] }
    }

    fn too_large(message: String) -> Self {
        let problem = SpecProblem { pointer: String::new(), message };
        IngestError { kind: IngestErrorKind::TooLarge, problems: vec![problem] }
    }
}

fn summary_of(problems: &[SpecProblem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|p| if p.pointer.is_empty() { p.message.clone() } else { format!("{}: {}", p.pointer, p.message) })
        .collect();
    lines.join("; ")
}

/// Reads one document that refers to no other. Everything tolerable is in the summary's warnings.
///
/// # Errors
/// `TooLarge` when `bytes` exceeds the cap; `Invalid` for what is no OpenAPI document or breaks another cap.
pub fn ingest(bytes: &[u8], limits: &Limits) -> Result<Ingested, IngestError> {
    reader::check_size(bytes.len(), limits)?;
    let reader = match std::str::from_utf8(bytes) {
        Ok(text) => Reader::of_text(text, limits)?,
        // An archive, UTF-16, or nothing at all.
        Err(_) => Reader::new(bytes.to_vec(), &Origin::default(), limits)?,
    };
    reader.finish().map(|(ingested, _)| ingested)
}
