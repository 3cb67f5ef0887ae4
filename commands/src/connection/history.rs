//! Earlier versions of a connection's document: themselves, and what differs between two of them.

use domain::drift::{self, Drift};

use crate::{App, Failure};

/// A document by its hash, as it was taken.
pub async fn document(app: &App, spec_hash: &str) -> Result<String, Failure> {
    let bytes = app.store().blob(spec_hash).await?;
    String::from_utf8(bytes).map_err(|_| Failure::Internal(format!("document {spec_hash} is no text")))
}

/// What changed from one version to another, each named by the hash of its operations.
pub async fn compare(app: &App, from: &str, to: &str) -> Result<Drift, Failure> {
    let (from, to) = (app.spec(from).await?, app.spec(to).await?);
    let compared = tokio::task::spawn_blocking(move || drift::compare(&from, &to)).await;
    compared.map_err(|e| Failure::Internal(e.to_string()))
}
