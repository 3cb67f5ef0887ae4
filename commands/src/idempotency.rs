//! Clients' idempotency keys: what a request with a known key is answered.

use domain::ids::WorkspaceId;
use event_store::Claim;

use crate::{App, Failure};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    Fresh,
    /// The first answer: status and body.
    Answered(u16, String),
    /// Claimed and not answered: under way, or its process died after the write took place.
    InFlight,
    /// The same key with another request.
    OtherRequest,
}

pub async fn lookup(app: &App, workspace: WorkspaceId, claim: &Claim) -> Result<Lookup, Failure> {
    let remembered = app.store().remembered(workspace.0, &claim.key).await?;
    Ok(match remembered {
        None => Lookup::Fresh,
        Some(known) if known.request_hash != claim.request_hash => Lookup::OtherRequest,
        Some(known) => known.answer.map_or(Lookup::InFlight, |(status, body)| Lookup::Answered(status, body)),
    })
}

pub async fn remember(
    app: &App,
    workspace: WorkspaceId,
    claim: &Claim,
    status: u16,
    body: &str,
) -> Result<(), Failure> {
    Ok(app.store().remember(workspace.0, claim, status, body).await?)
}
