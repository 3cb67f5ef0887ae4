//! A look at a provider's URL before anything, or anybody, is sent there.

use domain::oauth::{Fault, FaultKind};

use crate::egress::Egress;

/// It must be one that may be called, and https unless it is inside of the operator's own network (or on this machine, in
/// the dev profile): tokens travel there.
pub async fn check(egress: &Egress, url: &str) -> Result<(), Fault> {
    let wrong = |words: String| Fault::new(FaultKind::Settings, words);
    let parsed = egress.policy().check_url(url).map_err(|error| wrong(format!("cannot be asked: {error}")))?;
    if parsed.fragment().is_some() {
        return Err(wrong("has a URL with a fragment".into()));
    }
    if parsed.scheme() == "https" || egress.is_private(url).await {
        return Ok(());
    }
    let host = parsed.host_str().unwrap_or_default();
    Err(wrong(format!("is asked over plain http at {host}: tokens travel over https only")))
}
