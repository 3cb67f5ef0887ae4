//! A connection: an authenticated instance of an API, with or without an OpenAPI document.

mod auth;
mod command;
mod event;
pub mod template;
#[cfg(test)]
mod tests;

pub use auth::{AuthScheme, Certificate, HeaderTemplate, KeyPlace, Part};
pub use command::{ConnectionCommand, ConnectionPatch};
pub use event::{ConnectionEvent, SpecChanges, SpecFacts};
use serde::{Deserialize, Serialize};

use crate::{aggregate::aggregate, ids::CredentialId, operation::SpecProblem};

/// Where the document comes from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum SpecSource {
    Url {
        url: String,
    },
    /// An uploaded document or archive: the blob's SHA-256, hex.
    Upload {
        blob: String,
        /// Which file of the archive is the document; found when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<String>,
    },
    /// Plain HTTP: requests are written by hand.
    #[default]
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IngestionStatus {
    #[default]
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl IngestionStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            IngestionStatus::Pending => "PENDING",
            IngestionStatus::Running => "RUNNING",
            IngestionStatus::Succeeded => "SUCCEEDED",
            IngestionStatus::Failed => "FAILED",
        }
    }
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Connection {
    pub created: bool,
    pub deleted: bool,
    pub name: String,
    pub description: Option<String>,
    pub source: SpecSource,
    /// As the user gave it; see `effective_base_url`.
    pub base_url: Option<String>,
    pub auth: AuthScheme,
    pub credential: Option<CredentialId>,
    /// The base URL the credential was stored for; it goes to that origin and to no other. Absent while the document
    /// that will name it is not read yet.
    pub credential_base: Option<String>,
    pub active: bool,
    pub ingestion: IngestionStatus,
    /// Who ingests, or did last.
    pub ingester: Option<String>,
    /// How many have begun: the number of the one that may record its outcome.
    pub ingestions: u32,
    pub facts: Option<SpecFacts>,
    pub errors: Vec<SpecProblem>,
}

impl Connection {
    pub fn is_live(&self) -> bool {
        self.created && !self.deleted
    }

    /// The ingestion of this number is under way, and no later one.
    pub fn ingests(&self, number: u32) -> bool {
        self.ingestion == IngestionStatus::Running && self.ingestions == number
    }

    /// The user's base URL, else the document's first server, made absolute by the document's own URL.
    pub fn effective_base_url(&self) -> Option<String> {
        if let Some(base) = &self.base_url {
            return Some(trimmed(base));
        }
        let server = self.facts.as_ref().and_then(|f| f.servers.first()).map_or("/", String::as_str);
        absolute(server, &self.source)
    }

    fn evolve(&mut self, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Created { name, description, source, base_url, auth, credential_id, .. } => {
                self.created = true;
                self.active = true;
                self.ingestion =
                    if source == SpecSource::None { IngestionStatus::Succeeded } else { IngestionStatus::Pending };
                self.name = name;
                self.description = description;
                self.source = source;
                self.base_url = base_url;
                self.auth = auth;
                self.credential = credential_id;
                self.credential_base = self.base_url.as_deref().map(trimmed);
            }
            ConnectionEvent::Updated { name, description, base_url, auth, active } => {
                self.name = name.unwrap_or_else(|| std::mem::take(&mut self.name));
                self.description = description.or(self.description.take());
                self.base_url = base_url.or(self.base_url.take());
                self.auth = auth.unwrap_or_else(|| std::mem::take(&mut self.auth));
                self.active = active.unwrap_or(self.active);
            }
            ConnectionEvent::CredentialAttached { credential_id } => {
                self.credential = Some(credential_id);
                self.credential_base = self.effective_base_url();
            }
            ConnectionEvent::CredentialDetached { .. } => {
                self.credential = None;
                self.credential_base = None;
            }
            ConnectionEvent::RefreshRequested { source } => {
                self.source = source;
                self.ingestion = IngestionStatus::Pending;
            }
            ConnectionEvent::IngestionStarted { executor, number } => {
                self.ingestion = IngestionStatus::Running;
                self.ingestions = if number == 0 { self.ingestions.saturating_add(1) } else { number };
                self.ingester = Some(executor);
            }
            ConnectionEvent::SpecRefreshed { facts, .. } => {
                let first = self.facts.is_none();
                self.ingestion = IngestionStatus::Succeeded;
                self.facts = Some(facts);
                self.errors.clear();
                // The first document names the host; a later one, or a changed base URL, does not move the credential.
                if first && self.credential.is_some() && self.credential_base.is_none() && self.base_url.is_none() {
                    self.credential_base = self.effective_base_url();
                }
            }
            ConnectionEvent::IngestionFailed { errors } => {
                self.ingestion = IngestionStatus::Failed;
                self.errors = errors;
            }
            ConnectionEvent::Deleted {} => self.deleted = true,
            ConnectionEvent::Tested { .. } | ConnectionEvent::CredentialRead { .. } => {}
        }
    }
}

fn trimmed(base: &str) -> String {
    base.trim_end_matches('/').to_owned()
}

/// Host and port of a URL, for people: where something goes.
pub fn host_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// Joins a server of the document with the URL the document came from.
pub fn absolute(server: &str, source: &SpecSource) -> Option<String> {
    if server.starts_with("http://") || server.starts_with("https://") {
        return Some(server.trim_end_matches('/').to_owned());
    }
    let SpecSource::Url { url } = source else { return None };
    let (scheme, rest) = url.split_once("://")?;
    if let Some(host) = server.strip_prefix("//") {
        return Some(format!("{scheme}://{}", host.trim_end_matches('/')));
    }
    let host = rest.split(['/', '?', '#']).next()?;
    let path = server.trim_start_matches('.').trim_matches('/');
    Some(if path.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{path}") })
}

aggregate!(Connection, "connection", ConnectionCommand, ConnectionEvent, command::decide);
