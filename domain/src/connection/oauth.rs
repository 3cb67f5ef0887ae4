//! A connection's grant: what was granted, renewed, lost and given back.

use chrono::{DateTime, Utc};

use super::{AuthScheme, Connection, ConnectionEvent, Health, Needs};
use crate::{
    error::{Code, Rejection},
    ids::CredentialId,
    oauth::{Because, Dialect, Grant, OauthClient, Refreshing, scope},
};

/// What a provider's answer holds besides the tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    pub credential: CredentialId,
    /// Of the credential: the one that holds the new tokens.
    pub version: i32,
    pub scopes: Vec<String>,
    pub expires_at: Option<DateTime<Utc>>,
    pub refreshable: bool,
}

#[derive(Debug)]
pub enum OauthCommand {
    /// A person has come back from the provider.
    Grant {
        provider: String,
        dialect: Dialect,
        granted: Granted,
        now: DateTime<Utc>,
    },
    /// Nothing, if it is not due (any more) or somebody is at it. With the read of the credential that it takes.
    BeginRefresh {
        because: Because,
        seen: Option<i32>,
        executor: String,
        lease_until: DateTime<Utc>,
        host: Option<String>,
        now: DateTime<Utc>,
    },
    /// The outcome of the renewal with this number, which began with the tokens of the version `from`.
    RecordRefresh {
        number: u32,
        from: i32,
        granted: Granted,
        rotated: bool,
        now: DateTime<Utc>,
    },
    FailRefresh {
        number: u32,
        reason: String,
        now: DateTime<Utc>,
    },
    /// The provider, or the calendar, says that it is over. Once for a grant.
    Lose {
        number: Option<u32>,
        reason: String,
        now: DateTime<Utc>,
    },
    /// Given back. `note`: what the provider did not do.
    Revoke {
        note: Option<String>,
        now: DateTime<Utc>,
    },
}

/// What a person does about it, in words.
pub const NEXT_STEP: &str = "connect it again: POST /api/v1/oauth/authorize with its connectionId, and open connectUrl";

pub(super) fn decide(state: &Connection, command: OauthCommand) -> Result<Vec<ConnectionEvent>, Rejection> {
    match command {
        OauthCommand::Grant { provider, dialect, granted, now } => Ok(grant(state, provider, dialect, granted, now)),
        OauthCommand::BeginRefresh { because, seen, executor, lease_until, host, now } => {
            Ok(begin(state, because, seen, executor, lease_until, host, now))
        }
        OauthCommand::RecordRefresh { number, from, granted, rotated, now } => {
            // One that was taken over may come late and holds the tokens that the provider gave, so that whatever became
            // of its successor is moot. Each grant and each renewal has a version of its own: where the present one is
            // still the one that this began with, the grant is the same, and nobody else has renewed it.
            let wanted = |grant: &Grant| grant.version == from && number <= grant.refreshes;
            if !state.grant.as_ref().is_some_and(wanted) || state.credential != Some(granted.credential) {
                return Ok(vec![]);
            }
            let mut events = vec![ConnectionEvent::OauthRefreshed {
                number,
                version: granted.version,
                scopes: granted.scopes,
                expires_at: granted.expires_at,
                refreshable: granted.refreshable,
                rotated,
                refreshed_at: now,
            }];
            events.extend(recovered(state, now));
            Ok(events)
        }
        OauthCommand::FailRefresh { number, reason, now } => Ok(match open(state, number) {
            Some(grant) => {
                vec![ConnectionEvent::OauthRefreshFailed { number, reason, retry_at: grant.pause_until(now) }]
            }
            None => vec![],
        }),
        OauthCommand::Lose { number, reason, now } => {
            let ours = |grant: &Grant| match number {
                Some(number) => grant.refreshing.as_ref().is_some_and(|refreshing| refreshing.number == number),
                None => true,
            };
            let live = state.grant.as_ref().is_some_and(|grant| grant.lost.is_none() && ours(grant));
            let from = state.standing.health;
            Ok(if live { vec![ConnectionEvent::OauthGrantExpired { from, reason, expired_at: now }] } else { vec![] })
        }
        OauthCommand::Revoke { note, now } => match &state.grant {
            Some(_) => Ok(vec![ConnectionEvent::OauthRevoked { note, revoked_at: now }]),
            None => Err(Rejection::new(Code::Conflict, "This connection has no grant to give back.")),
        },
    }
}

fn grant(
    state: &Connection,
    provider: String,
    dialect: Dialect,
    granted: Granted,
    now: DateTime<Utc>,
) -> Vec<ConnectionEvent> {
    let mut events = Vec::new();
    // Whoever agrees at the provider does so for the host that the connection has now.
    if state.credential == Some(granted.credential) && state.credential_base != state.effective_base_url() {
        events.push(ConnectionEvent::CredentialAttached { credential_id: granted.credential });
    }
    events.push(ConnectionEvent::OauthGranted {
        provider,
        dialect,
        credential_id: granted.credential,
        version: granted.version,
        scopes: granted.scopes,
        expires_at: granted.expires_at,
        refreshable: granted.refreshable,
        granted_at: now,
    });
    events.extend(recovered(state, now));
    events
}

/// New tokens are trusted until calls say otherwise.
fn recovered(state: &Connection, now: DateTime<Utc>) -> Option<ConnectionEvent> {
    let from = state.standing.health;
    (from == Health::CredentialExpired).then(|| ConnectionEvent::HealthChanged {
        from,
        to: Health::Healthy,
        reason: "the provider has given new tokens".into(),
        changed_at: now,
    })
}

fn begin(
    state: &Connection,
    because: Because,
    seen: Option<i32>,
    executor: String,
    lease_until: DateTime<Utc>,
    host: Option<String>,
    now: DateTime<Utc>,
) -> Vec<ConnectionEvent> {
    let (Some(grant), Some(credential)) = (&state.grant, state.credential) else { return vec![] };
    let idle = grant.refreshable && grant.lost.is_none() && !grant.is_under_way(now);
    if !idle || !grant.is_due(because, seen, now) {
        return vec![];
    }
    let number = grant.refreshes.saturating_add(1);
    vec![
        ConnectionEvent::OauthRefreshStarted { number, because, executor, lease_until },
        ConnectionEvent::CredentialRead {
            credential_id: credential,
            version: grant.version,
            purpose: "oauth_refresh".into(),
            host,
        },
    ]
}

fn open(state: &Connection, number: u32) -> Option<&Grant> {
    let is_open = |grant: &&Grant| grant.refreshing.as_ref().is_some_and(|refreshing| refreshing.number == number);
    state.grant.as_ref().filter(is_open)
}

impl Connection {
    /// Whose client it uses, when it is of this kind.
    pub fn oauth_client(&self) -> Option<&OauthClient> {
        client_of(&self.auth)
    }

    /// Scopes that a call needs by the document's word and the grant does not name; of several ways the one that lacks
    /// least. Nothing while nothing is granted.
    pub fn lacking_scopes(&self, needs: Option<&Needs>) -> Vec<String> {
        let (Some(grant), Some(needs)) = (&self.grant, needs) else { return Vec::new() };
        let usable = needs.iter().filter(|way| way.iter().all(|need| self.auth.covers(need).is_some()));
        let lacking = usable.map(|way| {
            let of = |scopes| scope::lacking(grant.dialect, &grant.scopes, scopes).into_iter().map(str::to_owned);
            way.iter().flat_map(|need| of(&need.scopes)).collect::<Vec<String>>()
        });
        lacking.min_by_key(Vec::len).unwrap_or_default()
    }
}

fn client_of(auth: &AuthScheme) -> Option<&OauthClient> {
    match auth {
        AuthScheme::Oauth2 { client } => Some(client),
        _ => None,
    }
}

/// What an event makes of the grant. `auth`: the scheme before it.
pub fn evolve(grant: &mut Option<Grant>, auth: &AuthScheme, event: &ConnectionEvent) {
    match event {
        ConnectionEvent::OauthGranted { .. } => *grant = granted(grant.as_ref(), event),
        ConnectionEvent::OauthRevoked { .. } | ConnectionEvent::CredentialDetached { .. } => *grant = None,
        // A client that changed has been granted nothing.
        ConnectionEvent::Updated { auth: Some(new), .. } => {
            let same = client_of(auth).zip(client_of(new)).is_some_and(|(before, after)| before.is_same(after));
            if !same {
                *grant = None;
            }
        }
        other => {
            if let Some(grant) = grant {
                change(grant, other);
            }
        }
    }
}

fn granted(before: Option<&Grant>, event: &ConnectionEvent) -> Option<Grant> {
    let ConnectionEvent::OauthGranted {
        provider, dialect, version, scopes, expires_at, refreshable, granted_at, ..
    } = event
    else {
        return None;
    };
    Some(Grant {
        provider: provider.clone(),
        dialect: *dialect,
        version: *version,
        scopes: scopes.clone(),
        obtained_at: *granted_at,
        expires_at: *expires_at,
        refreshable: *refreshable,
        // Numbers go on: a late outcome of a renewal before is none of this grant's.
        refreshes: before.map_or(0, |before| before.refreshes),
        refreshing: None,
        interrupted: false,
        renewed_at: None,
        refused: false,
        failures: 0,
        retry_at: None,
        lost: None,
    })
}

fn change(grant: &mut Grant, event: &ConnectionEvent) {
    match event {
        ConnectionEvent::OauthRefreshStarted { number, because, lease_until, .. } => {
            grant.interrupted |= grant.refreshing.is_some();
            grant.refreshes = *number;
            let (number, because, lease_until) = (*number, *because, *lease_until);
            grant.refreshing = Some(Refreshing { number, because, lease_until });
        }
        ConnectionEvent::OauthRefreshed { version, scopes, expires_at, refreshable, refreshed_at, .. } => {
            grant.refused = grant.refreshing.as_ref().is_some_and(|begun| begun.because == Because::Refused);
            grant.version = *version;
            grant.scopes = scopes.clone();
            (grant.obtained_at, grant.renewed_at) = (*refreshed_at, Some(*refreshed_at));
            grant.expires_at = *expires_at;
            grant.refreshable = *refreshable;
            (grant.refreshing, grant.interrupted) = (None, false);
            (grant.failures, grant.retry_at, grant.lost) = (0, None, None);
        }
        ConnectionEvent::OauthRefreshFailed { retry_at, .. } => {
            grant.refreshing = None;
            grant.failures = grant.failures.saturating_add(1);
            grant.retry_at = Some(*retry_at);
        }
        ConnectionEvent::OauthGrantExpired { reason, .. } => {
            grant.refreshing = None;
            grant.lost = Some(reason.clone());
        }
        _ => {}
    }
}
