//! Earlier versions of a connection's document: themselves, and what differs between two of them.

use domain::drift::{self, Drift};

use crate::{App, Failure};

/// A document by its hash, as it was taken: a text, or an archive.
pub async fn document(app: &App, spec_hash: &str) -> Result<Vec<u8>, Failure> {
    Ok(app.store().blob(spec_hash).await?)
}

/// What changed from one version to another, each named by the hash of its operations.
pub async fn compare(app: &App, from: &str, to: &str) -> Result<Drift, Failure> {
    let (from, to) = (app.spec(from).await?, app.spec(to).await?);
    let compared = tokio::task::spawn_blocking(move || drift::compare(&from, &to)).await;
    compared.map_err(|e| Failure::Internal(e.to_string()))
}
