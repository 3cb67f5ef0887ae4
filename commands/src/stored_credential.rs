//! A credential's value on its way into the log: it is stored before the event that names it, so somebody must say
//! afterwards what became of that event. Who dies before it could is found by the keeper; see `sweep`.

use std::collections::BTreeSet;

use cqrs_es::Aggregate;
use domain::{
    credential::{Credential, CredentialEvent, NewVersion},
    error::{Code, Rejection},
    ids::{CredentialId, WorkspaceId},
};
use event_store::read_stream;
use secrecy::SecretString;
pub use vault::Unnamed;
use vault::VaultError;

use crate::{App, Failure, Outcome};

/// The next version after `after`. A credential that is being destroyed is not found.
pub(crate) async fn store(
    app: &App,
    workspace: WorkspaceId,
    id: CredentialId,
    after: i32,
    value: &SecretString,
) -> Result<NewVersion, Failure> {
    match app.vault().store_credential(workspace, id, after, value).await {
        Err(VaultError::CredentialDestroyed) => {
            Err(Rejection::not_found(Code::CredentialNotFound, "credential").into())
        }
        other => Ok(other?),
    }
}

/// Tells the vault how the append that was to name this version has ended.
pub(crate) async fn settle<T>(
    app: &App,
    workspace: WorkspaceId,
    id: CredentialId,
    version: i32,
    outcome: Outcome<T>,
) -> Outcome<T> {
    match &outcome {
        // What cannot be told now is found by the keeper.
        Ok(_) => {
            if let Ok(false) = app.vault().value_named(workspace, id, version).await {
                let why = "the value was destroyed before it could be used: store it again";
                return Err(Failure::Unavailable(why.into()));
            }
        }
        // Nothing was written.
        Err(Failure::Rejected(_)) => drop(app.vault().discard_value(workspace, id, version).await),
        // It is unknown whether something was: the keeper will ask the log.
        Err(_) => {}
    }
    outcome
}

/// For the keeper: asks the log for versions that nobody has told of, and destroys those that it does not name. They must
/// be old enough that no append is under way for them.
pub async fn sweep(app: &App, unnamed: &Unnamed) -> Result<(), Failure> {
    let Unnamed { workspace, credential: id, versions } = unnamed;
    if app.store().load::<Credential>(id.0).await?.state.destroyed {
        app.vault().destroy_credential(*workspace, *id).await?;
        return Ok(app.vault().destruction_recorded(*workspace, *id, None).await?);
    }
    let mut named = BTreeSet::new();
    for recorded in read_stream(app.store().pool(), id.0, i64::MAX).await? {
        if recorded.workspace_id != workspace.0 || recorded.aggregate_type != Credential::TYPE {
            continue;
        }
        if let CredentialEvent::Created { version, .. } | CredentialEvent::Rotated { version, .. } =
            recorded.decode()?
        {
            named.insert(version);
        }
    }
    for version in versions {
        if named.contains(version) {
            app.vault().value_named(*workspace, *id, *version).await?;
        } else {
            tracing::info!(credential = %id, version, "a stored value that no event names is destroyed");
            app.vault().discard_value(*workspace, *id, *version).await?;
        }
    }
    Ok(())
}
