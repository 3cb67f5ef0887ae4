//! What becomes of a credential after it was stored: its expiry, its deletion, and what can be saved or not.
//!
//! A deleted one keeps its ciphertext for a while and can be restored. What destroys ciphertext does so before the log is
//! told: a crash in between leaves something that the keeper tells afterwards, never a record of what did not happen.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    connection::{Connection, ConnectionCommand},
    credential::{Credential, CredentialCommand},
    error::{Code, Rejection},
    ids::{CredentialId, WorkspaceId},
};
use event_store::Loaded;
use secrecy::SecretString;

use crate::{
    App, Context, Done, Failure, Outcome, credential,
    unit::{self, Unit, change},
};

/// Clocks of nodes may differ by this much: nothing is destroyed that another node would still restore.
const SKEW: TimeDelta = TimeDelta::minutes(1);
const RACES: usize = 8;
const CODE: (Code, &str) = (Code::CredentialNotFound, "credential");

/// What is to be different; absent parts stay.
#[derive(Debug, Default)]
pub struct Update {
    /// Becomes the next version.
    pub value: Option<SecretString>,
    /// `Some(None)`: it does not expire any more. An expiry that is over is lifted by a new value.
    pub expires_at: Option<Option<DateTime<Utc>>>,
}

/// `expected_version`: the stream's, as the caller has seen it.
pub async fn update(
    app: &App,
    context: &Context,
    id: CredentialId,
    expected_version: Option<i64>,
    update: Update,
) -> Outcome<()> {
    let done = match update.value {
        Some(value) => {
            credential::store(app, context, id, expected_version, value, update.expires_at).await?.map(|_| ())
        }
        None => {
            let Some(expires_at) = update.expires_at else {
                return Err(Rejection::field("value", "give a new value or expiresAt").into());
            };
            let now = app.now();
            let command = |_: &Credential| Ok(CredentialCommand::SetExpiry { expires_at, now });
            change(app, context, (id.0, CODE.0, CODE.1), expected_version, command).await?.map(|_| ())
        }
    };
    Ok(done)
}

/// Deletes it: for good when `at_once`, else restorable for the days that the operator has set.
pub async fn delete(app: &App, context: &Context, id: CredentialId, at_once: bool) -> Outcome<()> {
    let destroy_at = if at_once { None } else { retention_end(app) };
    let mut attempt = 0;
    let done = loop {
        attempt += 1;
        let mut credential = owned(app, context.actor.workspace, id).await?;
        let mut unit = Unit::new(app, context).await?;
        let mut bound_to = None;
        if let Some(connection) = credential.state.connection {
            let mut loaded = app.store().load::<Connection>(connection.0).await?;
            if loaded.state.is_live() && loaded.state.credential == Some(id) {
                bound_to = loaded.state.credential_base.clone();
                unit.stage(&mut loaded, ConnectionCommand::DetachCredential { credential: id })?;
            }
        }
        unit.stage(&mut credential, CredentialCommand::Delete { destroy_at, bound_to })?;
        match unit.commit(()).await {
            Err(failure) if failure.is_conflict() && attempt < RACES => continue,
            other => break other?,
        }
    };
    if destroy_at.is_some() {
        return Ok(done);
    }
    let destroyed = destroy(app, &context.without_claim(), id).await?;
    Ok(Done { value: (), at: done.at.max(destroyed.at) })
}

/// Until when what is deleted now can be restored; `None`: not at all.
pub(crate) fn retention_end(app: &App) -> Option<DateTime<Utc>> {
    let kept = app.settings().secret_retention;
    (kept > TimeDelta::zero()).then(|| app.now() + kept)
}

/// Takes a deletion back. Its connection gets it again if that is still there, has no other one, and leads to the host
/// that it was stored for. `true`: it did.
pub async fn restore(app: &App, context: &Context, id: CredentialId) -> Outcome<bool> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut credential = owned(app, context.actor.workspace, id).await?;
        if credential.state.is_live() {
            return Err(Rejection::new(Code::Conflict, "This secret is not deleted.").into());
        }
        let bound_to = credential.state.bound_to.clone();
        let mut unit = Unit::new(app, context).await?;
        unit.stage(&mut credential, CredentialCommand::Restore { now: app.now() })?;
        let mut attached = false;
        if let (Some(connection), Some(_)) = (credential.state.connection, &bound_to) {
            let mut loaded = app.store().load::<Connection>(connection.0).await?;
            let free = loaded.state.is_live() && loaded.state.credential.is_none();
            if free && loaded.state.effective_base_url() == bound_to {
                unit.stage(&mut loaded, ConnectionCommand::AttachCredential { credential: id })?;
                attached = true;
            }
        }
        match unit.commit(attached).await {
            Err(failure) if failure.is_conflict() && attempt < RACES => continue,
            other => return other,
        }
    }
}

/// Destroys the ciphertext of a version that is not the present one.
pub async fn destroy_version(app: &App, context: &Context, id: CredentialId, version: i32) -> Outcome<()> {
    let workspace = context.actor.workspace;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut credential = live(app, workspace, id).await?;
        let mut unit = Unit::new(app, context).await?;
        unit.stage(&mut credential, CredentialCommand::DestroyVersion { version })?;
        app.vault().destroy_version(workspace, id, version).await?;
        match unit.commit(()).await {
            Err(failure) if failure.is_conflict() && attempt < RACES => continue,
            Err(failure) => return Err(failure),
            Ok(done) => {
                app.vault().destruction_recorded(workspace, id, Some(&[version])).await?;
                return Ok(done);
            }
        }
    }
}

/// Destroys the ciphertext of a deleted credential, and tells the log.
pub(crate) async fn destroy(app: &App, context: &Context, id: CredentialId) -> Outcome<()> {
    let workspace = context.actor.workspace;
    let versions = app.vault().destroy_credential(workspace, id).await?;
    let command = |_: &Credential| Ok(CredentialCommand::RecordDestruction { versions });
    let done = change(app, context, (id.0, CODE.0, CODE.1), None, command).await?;
    app.vault().destruction_recorded(workspace, id, None).await?;
    Ok(done.map(|_| ()))
}

/// For the keeper: what is due of a credential by now. Does nothing when nothing is.
pub async fn tend(app: &App, context: &Context, id: CredentialId) -> Outcome<()> {
    let state = owned(app, context.actor.workspace, id).await?.state;
    let now = app.now();
    if state.deleted {
        let due = !state.destroyed && state.destroy_at.is_none_or(|at| at + SKEW <= now);
        return if due { destroy(app, context, id).await } else { Ok(nothing()) };
    }
    let command = |_: &Credential| Ok(CredentialCommand::Tend { now });
    Ok(change(app, context, (id.0, CODE.0, CODE.1), None, command).await?.map(|_| ()))
}

/// Tells of versions whose ciphertext is gone: with the key that wrapped them, or by a process that died before it could.
pub async fn tell_destroyed(app: &App, context: &Context, id: CredentialId, versions: &[i32]) -> Outcome<()> {
    let workspace = context.actor.workspace;
    let state = owned(app, workspace, id).await?.state;
    if state.deleted && state.destroy_at.is_none_or(|at| at + SKEW <= app.now()) {
        return destroy(app, context, id).await;
    }
    // A version that the stream does not name yet may be on its way there: it is told of when it has come.
    let versions: Vec<i32> = versions.iter().copied().filter(|version| *version <= state.version).collect();
    let command = |_: &Credential| Ok(CredentialCommand::RecordErasure { versions: versions.clone() });
    let done = change(app, context, (id.0, CODE.0, CODE.1), None, command).await?;
    app.vault().destruction_recorded(workspace, id, Some(&versions)).await?;
    Ok(done.map(|_| ()))
}

async fn owned(app: &App, workspace: WorkspaceId, id: CredentialId) -> Result<Loaded<Credential>, Failure> {
    unit::owned::<Credential>(app, workspace, id.0, CODE.0, CODE.1).await
}

/// One of the workspace that is not deleted.
pub(crate) async fn live(app: &App, workspace: WorkspaceId, id: CredentialId) -> Result<Loaded<Credential>, Failure> {
    let loaded = owned(app, workspace, id).await?;
    if loaded.state.is_live() { Ok(loaded) } else { Err(Rejection::not_found(CODE.0, CODE.1).into()) }
}

fn nothing() -> Done<()> {
    Done { value: (), at: domain::event::LogPosition::START }
}
