//! Another read of a credential within an attempt: of a renewed access token.

use domain::{
    execution::{CredentialUse, Execution, ExecutionCommand, ExecutionEvent},
    ids::ExecutionId,
};
use secrecy::SecretString;
use vault::ReadReceipt;

use super::target;
use crate::{App, Context, Failure, unit::change};

/// Records the read in the execution's stream, then opens the value. `None`: the attempt is not under way any more.
pub async fn read_again(
    app: &App,
    context: &Context,
    id: ExecutionId,
    (key, attempt): (&str, u32),
    credential: CredentialUse,
) -> Result<Option<SecretString>, Failure> {
    let command = |_: &Execution| {
        Ok(ExecutionCommand::ReadCredential { key: key.to_owned(), attempt, credential: credential.clone() })
    };
    let done = change(app, context, target(id), None, command).await?;
    let CredentialUse { credential, version, .. } = credential;
    if !done.value.iter().any(|event| matches!(event, ExecutionEvent::CredentialRead { .. })) {
        return Ok(None);
    }
    let receipt = ReadReceipt { committed_at: done.at, credential, version };
    Ok(Some(app.vault().reveal(context.actor.workspace, &receipt).await?))
}
