//! Reads an OpenAPI document (Swagger 2.0, OpenAPI 3.0, 3.1, and 3.2 as 3.1; JSON or YAML) into the normalised
//! operations that planner, validator and executor share.
//!
//! Pure and synchronous: no network, no clock. About one real document in five fails a strict validator and is used
//! all the same, so only what is no OpenAPI document, or breaks a cap, is refused; everything else is a warning with
//! its JSON pointer. The way of a document: bytes → `tape` (one flat table for JSON and YAML) → `refs` (what
//! `$ref` means) → `document` and its parts → [`SpecSummary`].

mod body;
mod context;
mod document;
mod json;
mod operation;
mod parameter;
mod refs;
mod schema;
mod security;
mod server;
mod tape;
#[cfg(test)]
mod tests;
mod yaml;

use domain::operation::{SpecProblem, SpecSummary};
use serde::Serialize;

/// What one document may cost. The defaults take every document of the public API directories we know of.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of the document as fetched.
    pub max_bytes: usize,
    /// Levels of nesting. For JSON at most 127 take effect.
    pub max_depth: usize,
    /// Keys and values of the document together: what the parsed form costs in memory (12 bytes each).
    pub max_nodes: usize,
    pub max_operations: usize,
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
            max_warnings: 200,
            max_summary_bytes: 192 << 20,
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
    pub format: Format,
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
}

fn summary_of(problems: &[SpecProblem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|p| if p.pointer.is_empty() { p.message.clone() } else { format!("{}: {}", p.pointer, p.message) })
        .collect();
    lines.join("; ")
}

/// Reads one document. Everything tolerable is in the summary's warnings.
///
/// # Errors
/// `TooLarge` when `bytes` exceeds the cap; `Invalid` for what is no OpenAPI document or breaks another cap.
pub fn ingest(bytes: &[u8], limits: &Limits) -> Result<Ingested, IngestError> {
    if bytes.len() > limits.max_bytes || u32::try_from(bytes.len()).is_err() {
        let message = format!("the document has {} bytes, more than the {} allowed", bytes.len(), limits.max_bytes);
        let problems = vec![SpecProblem { pointer: String::new(), message }];
        return Err(IngestError { kind: IngestErrorKind::TooLarge, problems });
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let message = format!("the document is not UTF-8 text: bad byte at offset {}", error.valid_up_to());
            return Err(IngestError::invalid("", message));
        }
    };
    let format = sniff(text)?;
    let parsed = match format {
        Format::Json => json::parse(text, limits),
        Format::Yaml => yaml::parse(text, limits),
    };
    let doc = parsed.map_err(|message| IngestError::invalid("", message))?;
    Ok(Ingested { summary: document::read(&doc, limits)?, format })
}

/// Tells JSON from YAML by the first characters, and refuses what is plainly something else.
fn sniff(text: &str) -> Result<Format, IngestError> {
    let start = text.trim_start();
    if start.is_empty() {
        return Err(IngestError::invalid("", "the document is empty"));
    }
    if start.starts_with('<') {
        let head: String = start.chars().take(1024).collect::<String>().to_ascii_lowercase();
        let html = head.contains("<!doctype html") || head.contains("<html") || head.contains("<head");
        let what = if html { "an HTML page" } else { "an XML document" };
        return Err(IngestError::invalid("", format!("this is {what}, not an OpenAPI document")));
    }
    // A YAML document may begin with a flow mapping too, but then its keys are rarely quoted.
    let json = match start.strip_prefix('{') {
        Some(rest) => rest.trim_start().starts_with(['"', '}']) || rest.trim_start().is_empty(),
        None => start.starts_with('['),
    };
    Ok(if json { Format::Json } else { Format::Yaml })
}
