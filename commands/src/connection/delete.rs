//! Deletes a connection and its credential, which can be restored for a while.

use domain::{
    connection::ConnectionCommand,
    credential::{Credential, CredentialCommand},
    ids::ConnectionId,
};

use super::load;
use crate::{App, Context, Outcome, secret, unit::Unit};

pub async fn delete(app: &App, context: &Context, id: ConnectionId) -> Outcome<()> {
    let destroy_at = secret::retention_end(app);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut connection = load(app, context.actor.workspace, id).await?;
        let credential_id = connection.state.credential;
        let mut unit = Unit::new(app, context).await?;
        unit.stage(&mut connection, ConnectionCommand::Delete)?;
        if let Some(credential_id) = credential_id {
            let mut credential = app.store().load::<Credential>(credential_id.0).await?;
            if credential.state.is_live() {
                unit.stage(&mut credential, CredentialCommand::Delete { destroy_at, bound_to: None })?;
            }
        }
        match unit.commit(()).await {
            Err(failure) if failure.is_conflict() && attempt < 8 => continue,
            Err(failure) => return Err(failure),
            Ok(done) => {
                if let (Some(credential_id), None) = (credential_id, destroy_at) {
                    secret::destroy(app, &context.without_claim(), credential_id).await?;
                }
                return Ok(done);
            }
        }
    }
}
