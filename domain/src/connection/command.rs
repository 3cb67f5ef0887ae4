//! What can be asked of a connection.

use chrono::{DateTime, Utc};

use super::{
    AuthScheme, Connection, ConnectionEvent, Gate, IngestionStatus, OauthCommand, SpecChanges, SpecFacts, SpecSource,
    Wanted, approval,
    event::DocumentVia,
    health::{Change, Health},
    oauth,
    schedule::LONGEST_INTERVAL,
};
use crate::{
    call::CallFacts,
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
    /// What is known of the hosts that come with it.
    pub gate: Gate,
    /// Hours between refreshes by schedule; 0 ends them.
    pub refresh_interval: Option<u32>,
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
        gate: Gate,
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
    /// The schedule's: nothing, if another refresh was asked for since `after` of them.
    RefreshDue {
        after: u32,
    },
    /// Nothing, if another one began since `after` of them: two must not fetch the same document.
    StartIngestion {
        executor: String,
        after: u32,
    },
    /// The outcome of the ingestion with this number; of an earlier one than the latest it comes too late.
    RecordSpec {
        number: u32,
        facts: SpecFacts,
        changes: SpecChanges,
        via: DocumentVia,
        gate: Gate,
    },
    /// Of the named hosts; of every one that waits or was rejected when none is named.
    Approve {
        hosts: Option<Vec<String>>,
    },
    /// Of every host that waits; of those approved before when none does.
    Reject {
        reason: Option<String>,
    },
    /// The requests that an ingestion has made, whatever came of it.
    RecordFetches {
        calls: Vec<CallFacts>,
    },
    FailIngestion {
        number: u32,
        errors: Vec<SpecProblem>,
        unreachable: bool,
    },
    RecordTest {
        ok: bool,
        message: String,
        status: Option<u16>,
        elapsed_ms: u64,
        problem: Option<String>,
        call: Option<CallFacts>,
        /// What the test says of the connection's health; a person who asks wants to see it at once.
        health: Option<Change>,
        now: DateTime<Utc>,
    },
    /// Seen by real traffic. `seen` is the state that it was seen in: whoever was faster, decides.
    ChangeHealth {
        seen: Health,
        change: Change,
        now: DateTime<Utc>,
    },
    ReadCredential {
        credential: CredentialId,
        version: i32,
        purpose: String,
        /// Where it goes.
        host: Option<String>,
    },
    Oauth(OauthCommand),
    Delete,
}

/// Requests of one ingestion that are kept in the log; of further ones the number.
const FETCHES_SHOWN: usize = 50;

pub(super) fn decide(state: &Connection, command: ConnectionCommand) -> Result<Vec<ConnectionEvent>, Rejection> {
    use ConnectionCommand::*;
    if let Create { name, description, source, base_url, auth, credential, gate } = command {
        let mut events = create(state, name, description, source.clone(), base_url.clone(), auth, credential)?;
        events.extend(approval::note(&[], &gate));
        events.extend(approval::ask(state, &gate, (&source, base_url.as_deref(), None)));
        return Ok(events);
    }
    if !state.is_live() {
        return Err(Rejection::not_found(Code::ConnectionNotFound, "connection"));
    }
    match command {
        Create { .. } => Ok(vec![]),
        Update(patch) => update(state, patch),
        AttachCredential { credential } if state.credential == Some(credential) => Ok(vec![]),
        AttachCredential { credential } => {
            // A grant's tokens are in the one before: it ends with it.
            let before = state.credential.filter(|_| state.grant.is_some());
            let detached = before.map(|credential_id| ConnectionEvent::CredentialDetached { credential_id });
            let attached = ConnectionEvent::CredentialAttached { credential_id: credential };
            Ok(detached.into_iter().chain([attached]).collect())
        }
        // Tokens go where a person has agreed to, and a client's secret goes to the provider: see `OauthCommand::Grant`.
        BindCredential { .. } if state.oauth_client().is_some() => Ok(vec![]),
        BindCredential { .. } if state.credential_base == state.effective_base_url() => Ok(vec![]),
        BindCredential { credential } => Ok(vec![ConnectionEvent::CredentialAttached { credential_id: credential }]),
        DetachCredential { credential } if state.credential == Some(credential) => {
            Ok(vec![ConnectionEvent::CredentialDetached { credential_id: credential }])
        }
        DetachCredential { .. } => Ok(vec![]),
        Refresh { source } => refresh(state, source),
        RefreshDue { after } if state.is_refreshed_by_schedule() && state.refreshes == after => {
            Ok(vec![ConnectionEvent::RefreshRequested { source: state.source.clone(), scheduled: true }])
        }
        RefreshDue { .. } => Ok(vec![]),
        StartIngestion { executor, after } => match state.ingestion {
            IngestionStatus::Pending | IngestionStatus::Running if state.ingestions == after => {
                Ok(vec![ConnectionEvent::IngestionStarted { executor, number: state.ingestions.saturating_add(1) }])
            }
            _ => Ok(vec![]),
        },
        RecordSpec { number, facts, via, gate, .. } if state.ingests(number) && state.has(&facts) => {
            let asked = approval::ask(state, &gate, (&state.source, state.base_url.as_deref(), Some(&facts)));
            let mut events = vec![ConnectionEvent::SpecUnchanged { spec_hash: facts.spec_hash, via }];
            events.extend(asked);
            Ok(events)
        }
        RecordSpec { number, facts, changes, via, gate } if state.ingests(number) => {
            let resolved = decided(state.wanted.as_ref(), &state.auth, &facts);
            let asked = approval::ask(state, &gate, (&state.source, state.base_url.as_deref(), Some(&facts)));
            let mut events = vec![ConnectionEvent::SpecRefreshed { facts, changes, via: Some(via) }];
            events.extend(resolved);
            events.extend(asked);
            Ok(events)
        }
        RecordFetches { calls } if calls.is_empty() => Ok(vec![]),
        RecordFetches { mut calls } => {
            let more = u32::try_from(calls.len().saturating_sub(FETCHES_SHOWN)).unwrap_or(u32::MAX);
            calls.truncate(FETCHES_SHOWN);
            Ok(vec![ConnectionEvent::DocumentsFetched { calls, more }])
        }
        Approve { hosts } => approval::approve(state, hosts),
        Reject { reason } => approval::reject(state, reason),
        FailIngestion { number, errors, unreachable } if state.ingests(number) => {
            Ok(vec![ConnectionEvent::IngestionFailed { errors, unreachable }])
        }
        // Somebody else finished this ingestion, or a later one has begun.
        RecordSpec { .. } | FailIngestion { .. } => Ok(vec![]),
        RecordTest { ok, message, status, elapsed_ms, problem, call, health, now } => {
            let mut events = vec![ConnectionEvent::Tested { ok, message, status, elapsed_ms, problem, call }];
            events.extend(health.and_then(|change| change_health(state, change, now)));
            Ok(events)
        }
        ChangeHealth { seen, change, now } if seen == state.standing.health => {
            Ok(change_health(state, change, now).into_iter().collect())
        }
        ChangeHealth { .. } => Ok(vec![]),
        ReadCredential { credential, version, purpose, host } => {
            Ok(vec![ConnectionEvent::CredentialRead { credential_id: credential, version, purpose, host }])
        }
        Oauth(command) => oauth::decide(state, command),
        Delete => Ok(vec![ConnectionEvent::Deleted {}]),
    }
}

/// One event for a change, none for what is so already.
fn change_health(state: &Connection, change: Change, now: DateTime<Utc>) -> Option<ConnectionEvent> {
    let (from, Change { to, reason }) = (state.standing.health, change);
    (from != to).then_some(ConnectionEvent::HealthChanged { from, to, reason, changed_at: now })
}

fn create(
    state: &Connection,
    name: String,
    description: Option<String>,
    source: SpecSource,
    base_url: Option<String>,
    mut auth: AuthScheme,
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
    decide_without(&source, &mut auth, &mut faults);
    check_tls(&mut faults, base_url.as_deref(), &auth);
    faults.into_result()?;
    let made = Connection { source, base_url, auth, ..Connection::default() };
    let risks = made.risks();
    let Connection { source, base_url, auth, .. } = made;
    Ok(vec![ConnectionEvent::Created { name, description, source, base_url, auth, credential_id, risks }])
}

/// Without a document nothing is left to decide later.
fn decide_without(source: &SpecSource, auth: &mut AuthScheme, faults: &mut Faults) {
    let AuthScheme::FromDocument { wanted } = &*auth else { return };
    if *source != SpecSource::None {
        return;
    }
    match wanted.resolve(None) {
        Ok(resolved) => *auth = resolved,
        Err(why) => faults.add("authType", why),
    }
}

/// What a document makes of it, when that is something else than before.
fn decided(wanted: Option<&Wanted>, present: &AuthScheme, facts: &SpecFacts) -> Option<ConnectionEvent> {
    let auth = wanted?.resolve(Some(&facts.security)).ok()?;
    (auth != *present).then_some(ConnectionEvent::AuthResolved { auth })
}

fn update(state: &Connection, mut patch: ConnectionPatch) -> Result<Vec<ConnectionEvent>, Rejection> {
    let mut faults = Faults::default();
    if let Some(name) = &patch.name {
        faults.length("name", name, 1, 200);
    }
    check_url(&mut faults, "baseUrl", patch.base_url.as_deref());
    if let Some(auth) = &mut patch.auth {
        auth.check(&mut faults);
        decide_without(&state.source, auth, &mut faults);
    }
    if let Some(hours) = patch.refresh_interval.filter(|hours| *hours != 0) {
        match &state.source {
            SpecSource::Url { .. } if hours <= LONGEST_INTERVAL => {}
            SpecSource::Url { .. } => {
                faults.add("refreshInterval", format!("must be 1 to {LONGEST_INTERVAL} hours, or 0"))
            }
            _ => faults.add("refreshInterval", "only a document from a URL can be refreshed by schedule"),
        }
    }
    let (base_url, auth) =
        (patch.base_url.as_ref().or(state.base_url.as_ref()), patch.auth.as_ref().unwrap_or(&state.auth));
    check_tls(&mut faults, base_url.map(String::as_str), auth);
    faults.into_result()?;
    // Only what differs becomes an event.
    let name = patch.name.filter(|n| *n != state.name);
    let description = patch.description.filter(|d| state.description.as_ref() != Some(d));
    let base_url = patch.base_url.filter(|b| state.base_url.as_ref() != Some(b));
    let asked = |auth: &AuthScheme| matches!(auth, AuthScheme::FromDocument { wanted } if state.wanted.as_ref() == Some(wanted));
    let auth = patch.auth.filter(|a| *a != state.auth && !asked(a));
    let active = patch.active.filter(|a| *a != state.active);
    let refresh_interval = patch.refresh_interval.filter(|hours| *hours != state.refresh_interval);
    let mut resolved = None;
    if let (Some(auth @ AuthScheme::FromDocument { wanted }), Some(facts)) = (&auth, &state.facts) {
        resolved = decided(Some(wanted), auth, facts);
    }
    let moved = base_url.clone();
    let unfit = auth.as_ref().and_then(|auth| state.credential.filter(|_| !state.auth.keeps_credential(auth)));
    let event = ConnectionEvent::Updated { name, description, base_url, auth, active, refresh_interval };
    let nothing = ConnectionEvent::Updated {
        name: None,
        description: None,
        base_url: None,
        auth: None,
        active: None,
        refresh_interval: None,
    };
    if event == nothing {
        return Ok(vec![]);
    }
    let mut events = vec![event];
    events.extend(unfit.map(|credential_id| ConnectionEvent::CredentialDetached { credential_id }));
    events.extend(resolved);
    if let Some(base) = moved {
        events.extend(approval::note(&state.private, &patch.gate));
        events.extend(approval::ask(state, &patch.gate, (&state.source, Some(&base), None)));
    }
    Ok(events)
}

fn refresh(state: &Connection, source: Option<SpecSource>) -> Result<Vec<ConnectionEvent>, Rejection> {
    let source = source.unwrap_or_else(|| state.source.clone());
    if source == SpecSource::None {
        return Err(Rejection::field("specUrl", "this connection has no OpenAPI document to refresh"));
    }
    if state.ingestion == IngestionStatus::Running && source == state.source {
        return Ok(vec![]);
    }
    Ok(vec![ConnectionEvent::RefreshRequested { source, scheduled: false }])
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
