//! Opening sealed values for those who may read them.

use domain::{
    ids::WorkspaceId,
    sealed::{Sealed, Stored},
};
use serde_json::Value;
use vault::VaultError;

use crate::{App, Context, Failure};

/// A sealed text of the actor's workspace; `None` when it was erased or cannot be opened.
pub async fn text(app: &App, context: &Context, field: &str, sealed: &Sealed<String>) -> Option<String> {
    app.vault().open_sealed(context.actor.workspace, field, sealed).await.inspect_err(|e| report(field, e)).ok()
}

/// A sealed value of the actor's workspace; `None` when it was erased or cannot be opened.
pub async fn value(app: &App, context: &Context, field: &str, stored: &Stored) -> Option<Value> {
    let opened = stored_value(app, context.actor.workspace, field, stored).await;
    opened.inspect_err(|error| tracing::debug!(field, %error, "a stored value cannot be opened")).ok()
}

/// For executors: the value, or why not.
pub async fn stored_value(app: &App, workspace: WorkspaceId, field: &str, stored: &Stored) -> Result<Value, Failure> {
    match stored {
        Stored::Inline(sealed) => Ok(app.vault().open_sealed(workspace, field, sealed).await?),
        Stored::Blob { blob, .. } => {
            let bytes = app.store().blob(blob).await?;
            let sealed: Sealed<Value> = serde_json::from_slice(&bytes).map_err(|e| Failure::Internal(e.to_string()))?;
            Ok(app.vault().open_sealed(workspace, field, &sealed).await?)
        }
    }
}

fn report(field: &str, error: &VaultError) {
    if !matches!(error, VaultError::Erased) {
        tracing::warn!(field, %error, "a sealed value cannot be opened");
    }
}
