//! An access token that is good: the present one, or a renewed one. One renewal at a time, over all nodes.
//!
//! On a node the renewal is a task of its own (see `turns`), and whoever needs it waits for its end; over nodes
//! `connection.oauth_refresh_started` decides, and the others look at the connection's stream until its outcome is there. A
//! node that dies in between leaves that event without an outcome: when its lease is over the next one tries with the
//! refresh token that is stored, and what the provider says to that is the outcome.

use std::time::Duration;

use chrono::TimeDelta;
use domain::{
    connection::{Connection, ConnectionCommand, ConnectionEvent, Granted, OauthCommand, host_of, oauth::NEXT_STEP},
    credential::{Credential, CredentialCommand},
    error::{Code, Rejection},
    event::LogPosition,
    ids::{ConnectionId, CredentialId},
    oauth::{Because, Fault, FaultKind, Grant, OauthClient},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    authorize::titled,
    sentence, tokens,
    turns::{self, Turn},
};
use crate::{
    App, Context, Failure, connection,
    ports::OauthParty,
    secret, stored_credential,
    unit::{Unit, change},
};

/// After this a renewal counts as lost. The provider has 10 seconds for its answer; the rest is below.
const LEASE: TimeDelta = TimeDelta::seconds(45);
/// So long somebody waits for a renewal: longer than a lease, so that the next one is seen.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a provider's metadata may take.
const METADATA: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
/// What a provider gave is worth trying to store for so long.
const STORING: Duration = Duration::from_secs(20);
/// Versions that are kept behind the present one: attempts that have begun still read them.
const KEPT: i32 = 2;
const RACES: usize = 8;

/// How it stands with a connection's access token.
#[derive(Debug, Clone, PartialEq)]
pub enum Fresh {
    /// This version of the credential holds a good one.
    Version(i32),
    /// Nobody has connected it yet, in words.
    NotConnected(String),
    /// A person must connect it again, in words.
    Lost(String),
    /// Just now it cannot be renewed, in words.
    Failed(String),
}

impl Fresh {
    /// One word for programs, and what is wrong.
    pub fn fault(&self) -> Option<(&'static str, &str)> {
        match self {
            Fresh::Version(_) => None,
            Fresh::NotConnected(words) => Some(("OAUTH_NOT_CONNECTED", words)),
            Fresh::Lost(words) => Some(("OAUTH_GRANT_LOST", words)),
            Fresh::Failed(words) => Some(("OAUTH_REFRESH_FAILED", words)),
        }
    }
}

/// `seen`: the version that was refused, or that the person who asks has seen.
pub async fn fresh(
    app: &App,
    context: &Context,
    id: ConnectionId,
    because: Because,
    seen: Option<i32>,
) -> Result<Fresh, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = connection::load(app, context.actor.workspace, id).await?.state;
        let Some(grant) = usable(&state) else { return Ok(Fresh::NotConnected(not_connected())) };
        if let Some(reason) = &grant.lost {
            return Ok(Fresh::Lost(reason.clone()));
        }
        let now = app.now();
        if !grant.is_due(because, seen, now) {
            return Ok(Fresh::Version(grant.version));
        }
        if !grant.refreshable {
            return without_refresh_token(app, context, id, grant).await;
        }
        let (work, whose) = (app.clone(), context.clone());
        let (ours, told) = app.renewals().join(app, id, || turn(work, whose, id, because, seen));
        match turns::outcome(told, deadline).await? {
            Some(Turn::Renewed(standing)) => return Ok(standing),
            Some(Turn::Found(standing)) if ours => return Ok(standing),
            // What was found for another's reason may not hold for ours.
            Some(_) if Instant::now() < deadline => {}
            _ => return Ok(too_long()),
        }
    }
}

fn too_long() -> Fresh {
    Fresh::Failed("The access token is being renewed, and that takes too long.".into())
}

/// Renews it, or waits until another node has.
async fn turn(
    app: App,
    context: Context,
    id: ConnectionId,
    because: Because,
    seen: Option<i32>,
) -> Result<Turn, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Whoever had the turn before may have done it.
        let state = connection::load(&app, context.actor.workspace, id).await?.state;
        let Some(grant) = usable(&state).filter(|grant| grant.lost.is_none()) else { return Ok(Turn::Gone) };
        let now = app.now();
        if !grant.is_due(because, seen, now) {
            return Ok(Turn::Found(Fresh::Version(grant.version)));
        }
        if let Some(at) = grant.retry_at.filter(|at| *at > now && because != Because::Asked) {
            // What is still good is used; a provider that is down is not asked by everybody.
            return Ok(Turn::Found(match grant.is_over(now) {
                false if because != Because::Refused => Fresh::Version(grant.version),
                _ => Fresh::Failed(format!("The access token cannot be renewed before {}.", at.format("%H:%M:%S UTC"))),
            }));
        }
        if app.renewals().is_closed() || Instant::now() >= deadline {
            return Ok(Turn::Found(too_long()));
        }
        if !grant.is_under_way(now)
            && let Some(renewed) = renew(&app, &context, id, &state, because, seen).await?
        {
            return Ok(Turn::Renewed(renewed));
        }
        // Another node is at it.
        sleep(LOOK).await;
    }
}

/// The keeper's: does nothing when it is not due any more.
pub async fn renew_due(app: &App, context: &Context, id: ConnectionId) -> Result<(), Failure> {
    match fresh(app, context, id, Because::Schedule, None).await {
        Ok(_) => Ok(()),
        // Deleted meanwhile.
        Err(Failure::Rejected(rejection)) if rejection.code == Code::ConnectionNotFound => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn usable(state: &Connection) -> Option<&Grant> {
    state.oauth_client()?;
    state.credential?;
    state.grant.as_ref()
}

/// What to say of a connection that nobody has authorized.
pub fn not_connected() -> String {
    format!("The connection is not authorized yet: {}.", NEXT_STEP.replace("it again", "it"))
}

/// It ends, or was refused, and there is nothing to renew it with.
async fn without_refresh_token(
    app: &App,
    context: &Context,
    id: ConnectionId,
    grant: &Grant,
) -> Result<Fresh, Failure> {
    let now = app.now();
    if !grant.is_over(now) {
        // Refused, or nearly over: the call will show.
        return Ok(Fresh::Version(grant.version));
    }
    let reason =
        format!("The access token has ended, and {} gave nothing to renew it with: {NEXT_STEP}.", grant.provider);
    lose(app, context, id, None, &reason).await?;
    Ok(Fresh::Lost(reason))
}

async fn lose(
    app: &App,
    context: &Context,
    id: ConnectionId,
    number: Option<u32>,
    reason: &str,
) -> Result<(), Failure> {
    let now = app.now();
    let command =
        |_: &Connection| Ok(ConnectionCommand::Oauth(OauthCommand::Lose { number, reason: reason.to_owned(), now }));
    change(app, context, connection::target(id), None, command).await?;
    Ok(())
}

/// `None`: another node was faster.
async fn renew(
    app: &App,
    context: &Context,
    id: ConnectionId,
    state: &Connection,
    because: Because,
    seen: Option<i32>,
) -> Result<Option<Fresh>, Failure> {
    let (Some(client), Some(credential)) = (state.oauth_client(), state.credential) else { return Ok(None) };
    let host = client.token_url.as_deref().or(client.issuer.as_deref()).and_then(host_of);
    let now = app.now();
    let begin = |_: &Connection| {
        Ok(ConnectionCommand::Oauth(OauthCommand::BeginRefresh {
            because,
            seen,
            executor: context.actor.id.clone(),
            lease_until: now + LEASE,
            host: host.clone(),
            now,
        }))
    };
    let done = change(app, &context.without_claim(), connection::target(id), None, begin).await?;
    let begun = done.value.iter().find_map(|event| match event {
        ConnectionEvent::OauthRefreshStarted { number, .. } => Some(*number),
        _ => None,
    });
    let Some(number) = begun else { return Ok(None) };
    let read = done.value.iter().find_map(|event| match event {
        ConnectionEvent::CredentialRead { version, .. } => Some(*version),
        _ => None,
    });
    let version = read.unwrap_or_default();
    let work = Renewal { app, context, id, number, credential, version, client };
    work.run(done.at).await.map(Some)
}

/// One renewal that is in the log.
struct Renewal<'a> {
    app: &'a App,
    context: &'a Context,
    id: ConnectionId,
    number: u32,
    credential: CredentialId,
    version: i32,
    client: &'a OauthClient,
}

impl Renewal<'_> {
    async fn run(&self, committed_at: LogPosition) -> Result<Fresh, Failure> {
        let workspace = self.context.actor.workspace;
        let opened = tokens::opened(self.app, workspace, self.credential, self.version, committed_at).await;
        let values = match opened {
            Ok(values) => values,
            Err(failure @ Failure::Unavailable(_)) => {
                self.fail("The stored tokens cannot be opened just now.").await?;
                return Err(failure);
            }
            Err(failure) => {
                tracing::warn!(connection = %self.id, %failure, "stored tokens cannot be opened");
                return self.lost("cannot be asked: the stored tokens cannot be opened").await;
            }
        };
        let endpoints = timeout(METADATA, self.app.ports().oauth.endpoints(workspace, self.client)).await;
        let late = || Err(Fault::new(FaultKind::Unreachable, "does not give its metadata in time"));
        let endpoints = match endpoints.unwrap_or_else(|_| late()) {
            Ok(endpoints) => endpoints,
            Err(fault) => return self.failed(&titled(self.client), &fault).await,
        };
        let mut values = values;
        let newest = self.app.store().load::<Credential>(self.credential.0).await?.state.version;
        if newest != self.version {
            // The client's secret was changed since.
            let (purpose, url) = ("oauth_refresh", &endpoints.token);
            let which = (self.credential, newest);
            values.client_secret =
                tokens::version(self.app, self.context, self.id, which, purpose, url).await?.client_secret;
        }
        let Some(refresh) = &values.refresh else {
            return self.lost("has no refresh token stored").await;
        };
        let party =
            OauthParty { workspace, client: self.client, endpoints: &endpoints, secret: values.client_secret.as_ref() };
        match self.app.ports().oauth.refresh(party, refresh).await {
            Ok(tokens) => {
                let rotated = tokens.refresh.is_some();
                self.store(values.renewed(&tokens), &tokens, rotated).await
            }
            Err(Fault { kind: FaultKind::GrantGone, words }) => self.lost(&words).await,
            Err(fault) => self.failed(&endpoints.title, &fault).await,
        }
    }

    async fn failed(&self, title: &str, fault: &Fault) -> Result<Fresh, Failure> {
        let words = sentence(title, fault);
        self.fail(&words).await?;
        Ok(Fresh::Failed(words))
    }

    async fn fail(&self, words: &str) -> Result<(), Failure> {
        let (number, now) = (self.number, self.app.now());
        let command = |_: &Connection| {
            Ok(ConnectionCommand::Oauth(OauthCommand::FailRefresh { number, reason: words.to_owned(), now }))
        };
        change(self.app, &self.context.without_claim(), connection::target(self.id), None, command).await?;
        Ok(())
    }

    async fn lost(&self, words: &str) -> Result<Fresh, Failure> {
        let state = connection::load(self.app, self.context.actor.workspace, self.id).await?.state;
        let interrupted = state.grant.is_some_and(|grant| grant.interrupted);
        let why = match interrupted {
            true => {
                " A renewal before was interrupted after the provider may have answered, so its refresh token may be used up."
            }
            false => "",
        };
        let reason =
            format!("{}{why} The grant is over: {NEXT_STEP}.", super::sentence_of(&titled(self.client), words));
        lose(self.app, &self.context.without_claim(), self.id, Some(self.number), &reason).await?;
        Ok(Fresh::Lost(reason))
    }

    /// Stored before anybody uses it. A refresh token that is lost here is lost for good, so the log gets time.
    async fn store(
        &self,
        values: tokens::Values,
        tokens: &crate::ports::OauthTokens,
        rotated: bool,
    ) -> Result<Fresh, Failure> {
        let text = values.text()?;
        let deadline = Instant::now() + STORING;
        let mut races = 0;
        loop {
            match self.append(&text, values.refresh.is_some(), tokens, rotated).await {
                Ok(version) => {
                    self.prune(version).await;
                    return Ok(match version {
                        Some(version) => Fresh::Version(version),
                        None => Fresh::Failed("The connection was changed while its token was renewed.".into()),
                    });
                }
                Err(failure) if failure.is_conflict() && races < RACES => races += 1,
                Err(Failure::Unavailable(reason)) if Instant::now() < deadline => {
                    tracing::warn!(connection = %self.id, %reason, "a renewed token waits to be stored");
                    sleep(Duration::from_millis(250)).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// `None`: another renewal was faster, or the grant was given back.
    async fn append(
        &self,
        text: &secrecy::SecretString,
        refreshable: bool,
        tokens: &crate::ports::OauthTokens,
        rotated: bool,
    ) -> Result<Option<i32>, Failure> {
        let (app, workspace) = (self.app, self.context.actor.workspace);
        let mut target = connection::load(app, workspace, self.id).await?;
        let mut credential = app.store().load::<Credential>(self.credential.0).await?;
        let present = target.state.grant.as_ref().map(|grant| grant.scopes.clone()).unwrap_or_default();
        let stored = stored_credential::store(app, workspace, self.credential, credential.state.version, text).await?;
        let version = stored.version;
        let now = app.now();
        let granted = Granted {
            credential: self.credential,
            version,
            scopes: tokens.scopes.clone().unwrap_or(present),
            expires_at: tokens::expires_at(tokens, now),
            refreshable,
        };
        let (number, from) = (self.number, self.version);
        let context = self.context.without_claim();
        let outcome = async {
            let mut unit = Unit::new(app, &context).await?;
            let record = OauthCommand::RecordRefresh { number, from, granted, rotated, now };
            if unit.stage(&mut target, ConnectionCommand::Oauth(record))?.is_empty() {
                return Err(Rejection::new(Code::Oauth2Error, "the grant has moved on").into());
            }
            unit.stage(&mut credential, CredentialCommand::Rotate { value: stored })?;
            unit.commit(version).await
        };
        match stored_credential::settle(app, workspace, self.credential, version, outcome.await).await {
            Ok(done) => Ok(Some(done.value)),
            Err(Failure::Rejected(rejection)) if rejection.code == Code::Oauth2Error => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Old tokens are worth nothing, and are not kept.
    async fn prune(&self, version: Option<i32>) {
        let Some(old) = version.map(|version| version - KEPT - 1).filter(|old| *old > 0) else { return };
        let context = self.context.without_claim();
        match secret::destroy_version(self.app, &context, self.credential, old).await {
            Ok(_) | Err(Failure::Rejected(Rejection { .. })) => {}
            Err(error) => tracing::warn!(credential = %self.credential, %error, "an old token could not be destroyed"),
        }
    }
}
