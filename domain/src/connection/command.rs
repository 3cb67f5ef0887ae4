//! What can be asked of a connection.

use super::{AuthScheme, Connection, ConnectionEvent, IngestionStatus, SpecChanges, SpecFacts, SpecSource};
use crate::{
    error::{Code, Faults, Rejection},
    ids::CredentialId,
    operation::SpecProblem,
};

/// Fields to change; absent ones stay.
#[derive(Debug, Default, Clone)]
pub struct ConnectionPatch {
    pub name: Option<String>,
    pub description: Option<String>,
    pub base_url: Option<String>,
    pub auth: Option<AuthScheme>,
    pub active: Option<bool>,
}

#[derive(Debug)]
pub enum ConnectionCommand {
    Create {
        name: String,
        description: Option<String>,
        source: SpecSource,
        base_url: Option<String>,
        auth: AuthScheme,
        credential: Option<CredentialId>,
    },
    Update(ConnectionPatch),
    AttachCredential {
        credential: CredentialId,
    },
    /// A new value was stored for the host that the connection has now.
    BindCredential {
        credential: CredentialId,
    },
    DetachCredential {
        credential: CredentialId,
    },
    /// With a new source, or the same again.
    Refresh {
        source: Option<SpecSource>,
    },
    StartIngestion {
        executor: String,
    },
    /// The outcome of the ingestion with this number; of an earlier one than the latest it comes too late.
    RecordSpec {
        number: u32,
        facts: SpecFacts,
        changes: SpecChanges,
    },
    FailIngestion {
        number: u32,
        errors: Vec<SpecProblem>,
    },
    RecordTest {
        ok: bool,
        message: String,
        status: Option<u16>,
        elapsed_ms: u64,
    },
    ReadCredential {
        credential: CredentialId,
        version: i32,
        purpose: String,
        /// Where it goes.
        host: Option<String>,
    },
    Delete,
}

pub(super) fn decide(state: &Connection, command: ConnectionCommand) -> Result<Vec<ConnectionEvent>, Rejection> {
    use ConnectionCommand::*;
    if let Create { name, description, source, base_url, auth, credential } = command {
        return create(state, name, description, source, base_url, auth, credential);
    }
    if !state.is_live() {
        return Err(Rejection::not_found(Code::ConnectionNotFound, "connection"));
    }
    match command {
        Create { .. } => Ok(vec![]),
        Update(patch) => update(state, patch),
        AttachCredential { credential } if state.credential == Some(credential) => Ok(vec![]),
        AttachCredential { credential } => Ok(vec![ConnectionEvent::CredentialAttached { credential_id: credential }]),
        BindCredential { .. } if state.credential_base == state.effective_base_url() => Ok(vec![]),
        BindCredential { credential } => Ok(vec![ConnectionEvent::CredentialAttached { credential_id: credential }]),
        DetachCredential { credential } if state.credential == Some(credential) => {
            Ok(vec![ConnectionEvent::CredentialDetached { credential_id: credential }])
        }
        DetachCredential { .. } => Ok(vec![]),
        Refresh { source } => refresh(state, source),
        StartIngestion { executor } => match state.ingestion {
            IngestionStatus::Pending | IngestionStatus::Running => {
                Ok(vec![ConnectionEvent::IngestionStarted { executor, number: state.ingestions.saturating_add(1) }])
            }
            _ => Ok(vec![]),
        },
        RecordSpec { number, facts, changes } if state.ingests(number) => {
            Ok(vec![ConnectionEvent::SpecRefreshed { facts, changes }])
        }
        FailIngestion { number, errors } if state.ingests(number) => {
            Ok(vec![ConnectionEvent::IngestionFailed { errors }])
        }
        // Somebody else finished this ingestion, or a later one has begun.
        RecordSpec { .. } | FailIngestion { .. } => Ok(vec![]),
        RecordTest { ok, message, status, elapsed_ms } => {
            Ok(vec![ConnectionEvent::Tested { ok, message, status, elapsed_ms }])
        }
        ReadCredential { credential, version, purpose, host } => {
            Ok(vec![ConnectionEvent::CredentialRead { credential_id: credential, version, purpose, host }])
        }
        Delete => Ok(vec![ConnectionEvent::Deleted {}]),
    }
}

fn create(
    state: &Connection,
    name: String,
    description: Option<String>,
    source: SpecSource,
    base_url: Option<String>,
    auth: AuthScheme,
    credential_id: Option<CredentialId>,
) -> Result<Vec<ConnectionEvent>, Rejection> {
    if state.created {
        return Err(Rejection::new(Code::Conflict, "This connection exists already."));
    }
    let mut faults = Faults::default();
    faults.length("name", &name, 1, 200);
    check_url(&mut faults, "baseUrl", base_url.as_deref());
    if let SpecSource::Url { url } = &source {
        check_url(&mut faults, "specUrl", Some(url));
    }
    if source == SpecSource::None && base_url.is_none() {
        faults.add("specUrl", "a connection needs specUrl, an uploaded spec, or at least a baseUrl");
    }
    auth.check(&mut faults);
    check_tls(&mut faults, base_url.as_deref(), &auth);
    faults.into_result()?;
    let risks = risks(&source, base_url.as_deref(), &auth);
    Ok(vec![ConnectionEvent::Created { name, description, source, base_url, auth, credential_id, risks }])
}

fn update(state: &Connection, patch: ConnectionPatch) -> Result<Vec<ConnectionEvent>, Rejection> {
    let mut faults = Faults::default();
    if let Some(name) = &patch.name {
        faults.length("name", name, 1, 200);
    }
    check_url(&mut faults, "baseUrl", patch.base_url.as_deref());
    if let Some(auth) = &patch.auth {
        auth.check(&mut faults);
    }
    let (base_url, auth) =
        (patch.base_url.as_ref().or(state.base_url.as_ref()), patch.auth.as_ref().unwrap_or(&state.auth));
    check_tls(&mut faults, base_url.map(String::as_str), auth);
    faults.into_result()?;
    // Only what differs becomes an event.
    let name = patch.name.filter(|n| *n != state.name);
    let description = patch.description.filter(|d| state.description.as_ref() != Some(d));
    let base_url = patch.base_url.filter(|b| state.base_url.as_ref() != Some(b));
    let auth = patch.auth.filter(|a| *a != state.auth);
    let active = patch.active.filter(|a| *a != state.active);
    if name.is_none() && description.is_none() && base_url.is_none() && auth.is_none() && active.is_none() {
        return Ok(vec![]);
    }
    Ok(vec![ConnectionEvent::Updated { name, description, base_url, auth, active }])
}

fn refresh(state: &Connection, source: Option<SpecSource>) -> Result<Vec<ConnectionEvent>, Rejection> {
    let source = source.unwrap_or_else(|| state.source.clone());
    if source == SpecSource::None {
        return Err(Rejection::field("specUrl", "this connection has no OpenAPI document to refresh"));
    }
    if state.ingestion == IngestionStatus::Running && source == state.source {
        return Ok(vec![]);
    }
    Ok(vec![ConnectionEvent::RefreshRequested { source }])
}

fn check_url(faults: &mut Faults, field: &str, url: Option<&str>) {
    let Some(url) = url else { return };
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        None => faults.add(field, "must be an absolute http:// or https:// URL"),
        Some(rest) if rest.is_empty() || rest.starts_with(['/', '?', '#', ':']) => {
            faults.add(field, "names no host");
        }
        Some(rest) if rest.split(['/', '?', '#']).next().is_some_and(|h| h.contains('@')) => {
            faults.add(field, "must not carry a user name or password; store a credential instead");
        }
        Some(_) if url.chars().any(|c| c.is_control() || c == '\\' || c == ' ') || url.len() > 2048 => {
            faults.add(field, "is no URL: it holds spaces, control characters or backslashes, or is too long");
        }
        Some(_) => {}
    }
}

/// A client certificate is shown in a TLS handshake, or not at all.
fn check_tls(faults: &mut Faults, base_url: Option<&str>, auth: &AuthScheme) {
    if *auth == AuthScheme::Mtls && base_url.is_some_and(|url| url.starts_with("http://")) {
        faults.add("baseUrl", "must be https: a client certificate is shown in a TLS handshake only");
    }
}

fn risks(source: &SpecSource, base_url: Option<&str>, auth: &AuthScheme) -> Vec<String> {
    let mut risks = Vec::new();
    let spec_url = if let SpecSource::Url { url } = source { Some(url.as_str()) } else { None };
    if [base_url, spec_url].into_iter().flatten().any(|u| u.starts_with("http://")) {
        risks.push("plain HTTP: requests and credentials travel unencrypted".to_owned());
    }
    if *auth == AuthScheme::None {
        risks.push("no authentication: anybody can call this API as you do".to_owned());
    }
    risks
}
