//! A connection: an authenticated instance of an API, with or without an OpenAPI document.

mod approval;
mod auth;
#[cfg(test)]
mod auth_tests;
mod command;
mod event;
pub mod health;
pub mod oauth;
#[cfg(test)]
mod oauth_tests;
mod resolve;
mod schedule;
pub mod security;
pub mod template;
#[cfg(test)]
mod tests;

pub use approval::{Approval, Approvals, Gate, is_among, origin};
pub use auth::{
    ACCESS_TOKEN, AuthScheme, CLIENT_SECRET, Certificate, HeaderTemplate, KeyPlace, NamedScheme, Part, REFRESH_TOKEN,
};
pub use command::{ConnectionCommand, ConnectionPatch};
pub use event::{AffectedWorkflow, ConnectionEvent, DocumentVia, SpecChanges, SpecFacts};
pub use health::{Health, Standing};
pub use oauth::{Granted, OauthCommand};
pub use resolve::{NamedValue, Shape, Wanted};
pub use schedule::{LONGEST_INTERVAL, next_refresh};
pub use security::{Needs, Sending, SpecSecurity};
use serde::{Deserialize, Serialize};

use crate::{aggregate::aggregate, ids::CredentialId, oauth::Grant, operation::SpecProblem};

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
    /// As it is sent; `FromDocument` as long as the document has not decided.
    pub auth: AuthScheme,
    /// What the document decided, or is to: it does so again when it is read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
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
    /// How calls went lately.
    #[serde(default)]
    pub standing: Standing,
    /// The last ingestion failed because there was no document to read.
    pub unreachable: bool,
    /// Hours between refreshes by schedule; 0: there are none.
    pub refresh_interval: u32,
    /// How often a refresh was asked for: the first ingestion may take a cached document, later ones ask the server.
    pub refreshes: u32,
    /// Hosts that wait for an admin, and what admins said.
    #[serde(default, skip_serializing_if = "is_default")]
    pub approvals: Approvals,
    /// Origins that were in a private range when they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<String>,
    /// Of `oauth2`: what the provider has granted, and how it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Connection {
    pub fn is_live(&self) -> bool {
        self.created && !self.deleted
    }

    /// Is this the document that is known, read to the same operations?
    pub fn has(&self, facts: &SpecFacts) -> bool {
        // Facts of older builds know nothing of security: the same document is a new version then.
        let same = |known: &SpecFacts| {
            known.spec_hash == facts.spec_hash
                && known.operations_hash == facts.operations_hash
                && known.security == facts.security
        };
        self.facts.as_ref().is_some_and(same)
    }

    /// Does the schedule ask for its document?
    pub fn is_refreshed_by_schedule(&self) -> bool {
        let resting = matches!(self.ingestion, IngestionStatus::Succeeded | IngestionStatus::Failed);
        self.active && self.refresh_interval > 0 && resting && matches!(self.source, SpecSource::Url { .. })
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

    /// The origin of its base URL.
    pub fn origin(&self) -> Option<String> {
        self.effective_base_url().as_deref().and_then(origin)
    }

    /// What goes on a call with these needs, or why that cannot be told.
    pub fn sending(&self, needs: Option<&Needs>) -> Result<Sending, String> {
        if let Some(why) = self.undecided() {
            return Err(why);
        }
        Ok(self.auth.sending(needs, self.wanted.is_some()))
    }

    /// Why it is not known how requests are authenticated; `None` when it is.
    pub fn undecided(&self) -> Option<String> {
        let AuthScheme::FromDocument { wanted } = &self.auth else { return None };
        match &self.facts {
            None => Some("the document that says how to authenticate has not been read yet".to_owned()),
            Some(facts) => wanted.resolve(Some(&facts.security)).err(),
        }
    }

    /// Is a credential of this kind one that its requests can carry? What the document decided may have been stored as
    /// what was given.
    pub fn takes(&self, kind: &str) -> bool {
        kind == self.auth.credential_kind() || self.wanted.as_ref().is_some_and(|wanted| wanted.as_str() == kind)
    }

    fn set_auth(&mut self, auth: AuthScheme) {
        self.wanted = match &auth {
            AuthScheme::FromDocument { wanted } => Some(wanted.clone()),
            _ => None,
        };
        self.auth = auth;
    }

    fn evolve(&mut self, event: ConnectionEvent) {
        self.approvals.evolve(&event);
        oauth::evolve(&mut self.grant, &self.auth, &event);
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
                self.set_auth(auth);
                self.credential = credential_id;
                self.credential_base = self.base_url.as_deref().map(trimmed);
            }
            ConnectionEvent::Updated { name, description, base_url, auth, active, refresh_interval } => {
                self.name = name.unwrap_or_else(|| std::mem::take(&mut self.name));
                self.description = description.or(self.description.take());
                self.base_url = base_url.or(self.base_url.take());
                if let Some(auth) = auth {
                    self.set_auth(auth);
                }
                self.active = active.unwrap_or(self.active);
                self.refresh_interval = refresh_interval.unwrap_or(self.refresh_interval);
            }
            ConnectionEvent::AuthResolved { auth } => self.auth = auth,
            ConnectionEvent::CredentialAttached { credential_id } => {
                self.credential = Some(credential_id);
                self.credential_base = self.effective_base_url();
            }
            ConnectionEvent::CredentialDetached { .. } => {
                self.credential = None;
                self.credential_base = None;
            }
            ConnectionEvent::RefreshRequested { source, .. } => {
                self.source = source;
                self.refreshes += 1;
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
                self.unreachable = false;
                // The first document names the host; a later one, or a changed base URL, does not move the credential.
                if first && self.credential.is_some() && self.credential_base.is_none() && self.base_url.is_none() {
                    self.credential_base = self.effective_base_url();
                }
            }
            ConnectionEvent::SpecUnchanged { .. } => {
                self.ingestion = IngestionStatus::Succeeded;
                self.errors.clear();
                self.unreachable = false;
            }
            ConnectionEvent::IngestionFailed { errors, unreachable } => {
                self.ingestion = IngestionStatus::Failed;
                self.errors = errors;
                self.unreachable = unreachable;
            }
            ConnectionEvent::Deleted {} => self.deleted = true,
            ConnectionEvent::PrivateRangeNoted { hosts } => self.private.extend(hosts),
            ConnectionEvent::HealthChanged { to, changed_at, .. } => {
                let worked = self.standing.worked || to == Health::Healthy;
                self.standing = Standing { health: to, since: Some(changed_at), worked };
            }
            ConnectionEvent::Tested { ok, .. } => self.standing.worked |= ok,
            ConnectionEvent::OauthGrantExpired { expired_at, .. } => {
                self.standing =
                    Standing { health: Health::CredentialExpired, since: Some(expired_at), ..self.standing };
            }
            ConnectionEvent::DocumentsFetched { .. }
            | ConnectionEvent::HostApprovalRequired { .. }
            | ConnectionEvent::HostApprovalLifted { .. }
            | ConnectionEvent::ApprovalRequested { .. }
            | ConnectionEvent::HostApproved { .. }
            | ConnectionEvent::HostRejected { .. }
            | ConnectionEvent::OauthGranted { .. }
            | ConnectionEvent::OauthRefreshStarted { .. }
            | ConnectionEvent::OauthRefreshed { .. }
            | ConnectionEvent::OauthRefreshFailed { .. }
            | ConnectionEvent::OauthRevoked { .. }
            | ConnectionEvent::CredentialRead { .. } => {}
        }
    }
}

fn trimmed(base: &str) -> String {
    base.trim_end_matches('/').to_owned()
}

/// Said wherever a credential would leave its host.
pub const BOUND: &str = "The credential was stored for another host and goes nowhere else: if this host is \
                         right, store the credential again.";

/// Said wherever a credential would travel as something that it is not.
pub const OTHER_KIND: &str = "The stored credential was made for another authType: store it again.";

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
        // `https:///host` names no host here and one in a browser's eyes: it is no server.
        return origin(server).map(|_| server.trim_end_matches('/').to_owned());
    }
    let SpecSource::Url { url } = source else { return None };
    let (scheme, rest) = url.split_once("://")?;
    if let Some(host) = server.strip_prefix("//") {
        let server = format!("{scheme}://{}", host.trim_end_matches('/'));
        return origin(&server).map(|_| server);
    }
    let host = rest.split(['/', '?', '#']).next()?;
    let path = server.trim_start_matches('.').trim_matches('/');
    Some(if path.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{path}") })
}

aggregate!(Connection, "connection", ConnectionCommand, ConnectionEvent, command::decide);
