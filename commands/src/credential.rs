//! Credentials: create, rotate, delete. Values go to the vault and never come back through here.

use domain::{
    connection::{Connection, ConnectionCommand},
    credential::{Credential, CredentialCommand},
    error::{Code, Rejection},
    ids::{ConnectionId, CredentialId},
};
use event_store::Loaded;
use secrecy::SecretString;

use crate::{
    App, Context, Failure, Outcome, connection,
    credential_value::{self, check_kind},
    unit::{self, Unit, fresh},
};

#[derive(Debug)]
pub struct CreateCredential {
    pub name: String,
    /// One of `domain::credential::KINDS`.
    pub kind: String,
    /// Attached to it when given.
    pub connection: Option<ConnectionId>,
    pub value: SecretString,
}

pub async fn create(app: &App, context: &Context, input: CreateCredential) -> Outcome<CredentialId> {
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
        credential_value::check(app, auth, &input.kind, &input.value, "")?;
        let value = app.vault().store_credential(workspace, id, 0, &input.value).await?;
        let mut unit = Unit::new(app, context).await?;
        let command = CredentialCommand::Create {
            name: input.name.clone(),
            kind: input.kind.clone(),
            connection: input.connection,
            value,
        };
        unit.stage(&mut fresh::<Credential>(id.0), command)?;
        if let Some(connection) = &mut attached {
            unit.stage::<Connection>(connection, ConnectionCommand::AttachCredential { credential: id })?;
        }
        match unit.commit(id).await {
            Err(failure) if failure.is_conflict() && attempt < 8 => continue,
            other => return other,
        }
    }
}

/// A new version of the value; executions that run read it from their next attempt on.
pub async fn rotate(app: &App, context: &Context, id: CredentialId, value: SecretString) -> Outcome<i32> {
    let workspace = context.actor.workspace;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut credential = live(app, context, id).await?;
        let mut attached = match credential.state.connection {
            Some(connection) => Some(app.store().load::<Connection>(connection.0).await?),
            None => None,
        };
        attached = attached.filter(|c| c.state.is_live() && c.state.credential == Some(id));
        let kind = &credential.state.kind;
        let auth = attached.as_ref().map(|c| &c.state.auth).filter(|auth| auth.credential_kind() == kind);
        credential_value::check(app, auth, kind, &value, "")?;
        let stored = app.vault().store_credential(workspace, id, credential.state.version, &value).await?;
        let version = stored.version;
        let mut unit = Unit::new(app, context).await?;
        unit.stage(&mut credential, CredentialCommand::Rotate { value: stored })?;
        // Whoever stores a value says that the connection's present host may have it.
        if let Some(connection) = &mut attached {
            unit.stage(connection, ConnectionCommand::BindCredential { credential: id })?;
        }
        match unit.commit(version).await {
            Err(failure) if failure.is_conflict() && attempt < 8 => continue,
            other => return other,
        }
    }
}

pub async fn delete(app: &App, context: &Context, id: CredentialId) -> Outcome<()> {
    let mut credential = live(app, context, id).await?;
    let mut unit = Unit::new(app, context).await?;
    if let Some(connection) = credential.state.connection {
        let mut loaded = app.store().load::<Connection>(connection.0).await?;
        if loaded.state.is_live() {
            unit.stage(&mut loaded, ConnectionCommand::DetachCredential { credential: id })?;
        }
    }
    unit.stage(&mut credential, CredentialCommand::Delete)?;
    let done = unit.commit(()).await?;
    app.vault().destroy_credential(context.actor.workspace, id).await?;
    Ok(done)
}

async fn live(app: &App, context: &Context, id: CredentialId) -> Result<Loaded<Credential>, Failure> {
    let (code, noun) = (Code::CredentialNotFound, "credential");
    let loaded = unit::owned::<Credential>(app, context.actor.workspace, id.0, code, noun).await?;
    if loaded.state.is_live() { Ok(loaded) } else { Err(Rejection::not_found(code, noun).into()) }
}
