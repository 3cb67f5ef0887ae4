//! Credentials: create and rotate; `secret` has the rest. Values go to the vault and never come back through here.

use chrono::{DateTime, Utc};
use domain::{
    connection::{Connection, ConnectionCommand},
    credential::{Credential, CredentialCommand, KINDS, name},
    error::{Code, Faults},
    ids::{ConnectionId, CredentialId},
};
use secrecy::SecretString;

use crate::{
    App, Context, Failure, Outcome, connection,
    connector::{find_type, type_names},
    credential_value::{self, check_kind},
    secret::live,
    stored_credential,
    unit::{Unit, check_version, fresh},
};

#[derive(Debug)]
pub struct CreateCredential {
    pub name: String,
    /// One of `domain::credential::KINDS`, or a type of connector, whose data is JSON.
    pub kind: String,
    /// Attached to it when given.
    pub connection: Option<ConnectionId>,
    pub value: SecretString,
}

pub async fn create(app: &App, context: &Context, input: CreateCredential) -> Outcome<CredentialId> {
    create_expiring(app, context, input, None).await
}

/// One that is handed out to nobody after this time.
pub async fn create_expiring(
    app: &App,
    context: &Context,
    input: CreateCredential,
    expires_at: Option<DateTime<Utc>>,
) -> Outcome<CredentialId> {
    let now = app.now();
    let id: CredentialId = app.new_id();
    let workspace = context.actor.workspace;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut attached = match input.connection {
            Some(connection) => Some(connection::load(app, workspace, connection).await?),
            None => None,
        };
        if let Some(connection) = &attached {
            check_kind(&connection.state.auth, &input.kind)?;
        }
        let auth = attached.as_ref().map(|connection| &connection.state.auth);
        let mut faults = Faults::default();
        name::check(&mut faults, "name", &input.name);
        if !KINDS.contains(&input.kind.as_str()) && find_type(app, &input.kind).is_none() {
            faults.add(
                "type",
                format!("must be one of {}, or a type of connector: {}", KINDS.join(", "), type_names(app)),
            );
        }
        if expires_at.is_some_and(|at| at <= now) {
            faults.add("expiresAt", "must be in the future");
        }
        let checked = credential_value::check(app, auth, &input.kind, &input.value, "");
        let ends = gather(&mut faults, checked)?.flatten();
        faults.into_result()?;
        let value = stored_credential::store(app, workspace, id, 0, &input.value).await?;
        let version = value.version;
        let outcome = async {
            let mut unit = Unit::new(app, context).await?;
            let command = CredentialCommand::Create {
                name: input.name.clone(),
                kind: input.kind.clone(),
                connection: input.connection,
                value,
            };
            let mut credential = fresh::<Credential>(id.0);
            unit.stage(&mut credential, command)?;
            // A certificate says itself when it ends; one that has ended is for whoever called to see.
            let expires_at = expires_at.or(ends.filter(|at| *at > now));
            if expires_at.is_some() {
                unit.stage(&mut credential, CredentialCommand::SetExpiry { expires_at, now })?;
            }
            if let Some(connection) = &mut attached {
                unit.stage::<Connection>(connection, ConnectionCommand::AttachCredential { credential: id })?;
            }
            unit.commit(id).await
        };
        match stored_credential::settle(app, workspace, id, version, outcome.await).await {
            Err(failure) if failure.is_conflict() && attempt < 8 => continue,
            other => return other,
        }
    }
}

/// A new version of the value; executions that run read it from their next attempt on.
pub async fn rotate(app: &App, context: &Context, id: CredentialId, value: SecretString) -> Outcome<i32> {
    store(app, context, id, None, value, None).await
}

/// The same, and when it expires; an expiry that is over is lifted by a new value.
pub(crate) async fn store(
    app: &App,
    context: &Context,
    id: CredentialId,
    expected_version: Option<i64>,
    value: SecretString,
    expires_at: Option<Option<DateTime<Utc>>>,
) -> Outcome<i32> {
    let workspace = context.actor.workspace;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut credential = live(app, workspace, id).await?;
        check_version(credential.sequence, expected_version)?;
        let mut attached = match credential.state.connection {
            Some(connection) => Some(app.store().load::<Connection>(connection.0).await?),
            None => None,
        };
        attached = attached.filter(|c| c.state.is_live() && c.state.credential == Some(id));
        let kind = &credential.state.kind;
        let auth = attached.as_ref().map(|c| &c.state.auth).filter(|auth| auth.credential_kind() == kind);
        let ends = credential_value::check(app, auth, kind, &value, "")?;
        let stored = stored_credential::store(app, workspace, id, credential.state.version, &value).await?;
        let version = stored.version;
        let outcome = async {
            let mut unit = Unit::new(app, context).await?;
            unit.stage(&mut credential, CredentialCommand::Rotate { value: stored })?;
            let now = app.now();
            let ends = ends.filter(|at| *at > now).map(Some);
            let over = credential.state.is_expired(now).then_some(None);
            if let Some(expires_at) = expires_at.or(ends).or(over) {
                unit.stage(&mut credential, CredentialCommand::SetExpiry { expires_at, now })?;
            }
            // Whoever stores a value says that the connection's present host may have it.
            if let Some(connection) = &mut attached {
                unit.stage(connection, ConnectionCommand::BindCredential { credential: id })?;
            }
            unit.commit(version).await
        };
        match stored_credential::settle(app, workspace, id, version, outcome.await).await {
            Err(failure) if failure.is_conflict() && attempt < 8 => continue,
            other => return other,
        }
    }
}

/// Adds what is wrong to what was found before, so that one answer names it all.
fn gather<T>(faults: &mut Faults, checked: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match checked {
        Ok(value) => Ok(Some(value)),
        Err(Failure::Rejected(rejection)) if rejection.code == Code::ValidationError => {
            faults.0.extend(rejection.details);
            Ok(None)
        }
        Err(other) => Err(other),
    }
}
