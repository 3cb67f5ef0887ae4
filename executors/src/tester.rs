//! A connection's test: one harmless call, and what is wrong in words.

use std::time::Duration;

use async_trait::async_trait;
use commands::ports::{ConnectionTester, TestReport, TestSecret, TestTarget};
use domain::operation::{Operation, SpecSummary};
use integrations::egress::{Egress, EgressError, OutboundRequest};

use crate::{
    authorise::{Opened, authorise, same_origin},
    workflow::BOUND,
};

pub struct Tester(pub Egress);

#[async_trait]
impl ConnectionTester for Tester {
    async fn test(&self, target: TestTarget) -> TestReport {
        let Some(base) = &target.base_url else {
            return report(false, "The connection has no base URL: set baseUrl.".into(), None, Duration::ZERO);
        };
        let path = target.spec.as_deref().and_then(probe).map_or("", |o| o.path.as_str());
        let url = format!("{base}{path}");
        let foreign =
            target.secret.is_some() && target.credential_base.as_deref().is_none_or(|b| !same_origin(b, &url));
        if foreign || !same_origin(base, &url) {
            return report(false, BOUND.to_owned(), None, Duration::ZERO);
        }
        let with_credential = target.secret.is_some();
        let mut request = OutboundRequest::get(url).timeout(Duration::from_secs(15)).max_response_bytes(1 << 20);
        if let Some(opened) = target.secret {
            let TestSecret { credential, version, value } = opened;
            match authorise(request, &target.auth.parts(), &Opened { credential, version, value }) {
                Ok(authorised) => request = authorised,
                Err(unusable) => return report(false, unusable.to_string(), None, Duration::ZERO),
            }
        }
        let shown = if path.is_empty() { "GET the base URL".to_owned() } else { format!("GET {path}") };
        match self.0.send(request).await {
            Ok(answer) => {
                let (ok, words) = judge(answer.status, with_credential);
                report(ok, format!("{shown} answered {}: {words}", answer.status), Some(answer.status), answer.elapsed)
            }
            Err(error) => report(false, format!("{shown} failed: {}", explain(&error)), None, Duration::ZERO),
        }
    }
}

/// The first GET that needs nothing; the shortest path is the likeliest to be cheap.
fn probe(spec: &SpecSummary) -> Option<&Operation> {
    spec.operations
        .iter()
        .filter(|o| o.method == "GET" && !o.path.contains('{') && !o.deprecated)
        .filter(|o| !o.parameters.iter().any(|p| p.required))
        .min_by_key(|o| o.path.len())
}

fn judge(status: u16, with_credential: bool) -> (bool, &'static str) {
    match status {
        200..=399 => (true, "the API works."),
        401 if with_credential => (false, "the credential is not accepted; store a new one."),
        401 => (false, "the API wants a credential; store one with the connection."),
        403 => (false, "the credential is known but not allowed to do this."),
        404 => (false, "nothing is there; is the base URL right?"),
        429 => (true, "the API is reachable but limits its callers right now."),
        400..=499 => (true, "the API is reachable; it did not like this harmless request."),
        _ => (false, "the API is reachable but has a fault of its own."),
    }
}

fn explain(error: &EgressError) -> String {
    match error {
        EgressError::Dns { host } => format!("the name {host} cannot be found."),
        EgressError::Connect { host, .. } => format!("{host} takes no connection."),
        EgressError::Tls { reason, .. } if reason.contains("client certificate") => format!("{reason}."),
        EgressError::Tls { host, .. } => format!("no trusted TLS connection to {host}: certificate or clock?"),
        EgressError::Timeout { host, .. } => format!("{host} did not answer in time."),
        other => other.to_string(),
    }
}

fn report(ok: bool, message: String, status: Option<u16>, elapsed: Duration) -> TestReport {
    TestReport { ok, message, status, elapsed_ms: elapsed.as_millis() as u64 }
}
