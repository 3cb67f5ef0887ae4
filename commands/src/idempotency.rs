//! Clients' idempotency keys: what a request with a known key is answered.
//!
//! Answers are kept sealed with the workspace's key: they hold what the log itself keeps sealed (an execution's values,
//! names), and destroying that key must erase them too.

use domain::{ids::WorkspaceId, sealed::Sealed};
use event_store::Claim;
use vault::VaultError;

use crate::{App, Failure};

/// What a kept answer is bound to when it is sealed.
const FIELD: &str = "idempotency.response";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    Fresh,
    /// The first answer: status and body.
    Answered(u16, String),
    /// Claimed and not answered: under way, or its process died after the write took place.
    InFlight,
    /// Answered, but the answer was erased with its key or cannot be read.
    Lost,
    /// The same key with another request.
    OtherRequest,
}

pub async fn lookup(app: &App, workspace: WorkspaceId, claim: &Claim) -> Result<Lookup, Failure> {
    let Some(known) = app.store().remembered(workspace.0, &claim.key).await? else { return Ok(Lookup::Fresh) };
    if known.request_hash != claim.request_hash {
        return Ok(Lookup::OtherRequest);
    }
    let Some((status, sealed)) = known.answer else { return Ok(Lookup::InFlight) };
    let opened = opened(app, workspace, &sealed).await?;
    Ok(opened.map_or(Lookup::Lost, |body| Lookup::Answered(status, body)))
}

/// `None`: erased, or nothing that was sealed here. A vault that cannot be asked is a failure, not a lost answer.
async fn opened(app: &App, workspace: WorkspaceId, text: &str) -> Result<Option<String>, Failure> {
    let Ok(sealed) = serde_json::from_str::<Sealed<String>>(text) else {
        tracing::warn!("an answer kept for an idempotency key is not sealed");
        return Ok(None);
    };
    match app.vault().open_sealed(workspace, FIELD, &sealed).await {
        Ok(body) => Ok(Some(body)),
        Err(error @ (VaultError::Erased | VaultError::Tampered)) => {
            tracing::warn!(%error, "an answer kept for an idempotency key cannot be read");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Keeps the answer, sealed.
pub async fn remember(
    app: &App,
    workspace: WorkspaceId,
    claim: &Claim,
    status: u16,
    body: &str,
) -> Result<(), Failure> {
    let sealed = app.vault().seal(workspace, FIELD, body).await?;
    let text = serde_json::to_string(&sealed).map_err(|e| Failure::Internal(e.to_string()))?;
    Ok(app.store().remember(workspace.0, claim, status, &text).await?)
}
