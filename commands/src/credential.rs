//! Credentials: create, rotate, delete. Values go to the vault and never come back through here.

use domain::{
    connection::{AuthScheme, Connection, ConnectionCommand},
    credential::{Credential, CredentialCommand},
    error::{Code, Faults, Rejection},
    ids::{ConnectionId, CredentialId},
};
use event_store::Loaded;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    App, Context, Failure, Outcome, connection,
    unit::{self, Unit, fresh},
};

#[derive(Debug)]
pub struct CreateCredential {
    pub name: String,
    /// `api_key`, `bearer`, `basic` or `secret`.
    pub kind: String,
    /// Attached to it when given.
    pub connection: Option<ConnectionId>,
    pub value: SecretString,
}

pub async fn create(app: &App, context: &Context, input: CreateCredential) -> Outcome<CredentialId> {
    check_value(&input.kind, &input.value)?;
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
        check_value(&credential.state.kind, &value)?;
        let stored = app.vault().store_credential(workspace, id, credential.state.version, &value).await?;
        let version = stored.version;
        let mut unit = Unit::new(app, context).await?;
        unit.stage(&mut credential, CredentialCommand::Rotate { value: stored })?;
        // Whoever stores a value says that the connection's present host may have it.
        if let Some(connection) = credential.state.connection {
            let mut loaded = app.store().load::<Connection>(connection.0).await?;
            if loaded.state.is_live() && loaded.state.credential == Some(id) {
                unit.stage(&mut loaded, ConnectionCommand::BindCredential { credential: id })?;
            }
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

fn check_value(kind: &str, value: &SecretString) -> Result<(), Failure> {
    let mut faults = Faults::default();
    let text = value.expose_secret();
    if text.is_empty() || text.len() > 16 * 1024 {
        faults.add("value", "must have 1 to 16384 bytes");
    }
    // These end up in a header.
    if kind != "secret" && text.chars().any(char::is_control) {
        faults.add("value", "must not hold line breaks or other control characters");
    }
    if kind == "basic" && !text.contains(':') {
        faults.add("value", "must be username and password");
    }
    Ok(faults.into_result()?)
}

fn check_kind(auth: &AuthScheme, kind: &str) -> Result<(), Failure> {
    if auth.as_str() == kind {
        return Ok(());
    }
    let message = format!("the connection's authType is {}, this credential is {kind}", auth.as_str());
    Err(Rejection::field("type", message).into())
}
