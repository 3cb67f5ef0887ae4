//! Connections: create, change, refresh, test, delete; and what the ingester and the executors record.

mod approval;
mod create;
mod delete;
mod health;
mod history;
mod ingest;
mod refresh;
mod test;
mod update;
mod wait;

pub(crate) use approval::Gates;
pub use approval::{approve, gate, gate_of_late, reject};
pub use create::{CreateConnection, Upload, create};
pub use delete::delete;
use domain::{
    connection::Connection,
    error::{Code, Rejection},
    ids::{ConnectionId, WorkspaceId},
};
use event_store::Loaded;
pub use health::change_health;
pub use history::{compare, document};
pub use ingest::{Begun, record_failure, record_fetches, record_spec, start_ingestion};
pub use refresh::{refresh, refresh_due};
pub use test::test;
pub use update::update;
use url::Url;
pub use wait::{Ingested, wait};

use crate::{App, Failure, unit};

pub(crate) fn target(id: ConnectionId) -> (uuid::Uuid, Code, &'static str) {
    (id.0, Code::ConnectionNotFound, "connection")
}

/// A live connection of the workspace.
pub async fn load(app: &App, workspace: WorkspaceId, id: ConnectionId) -> Result<Loaded<Connection>, Failure> {
    let (uuid, code, noun) = target(id);
    let loaded = unit::owned::<Connection>(app, workspace, uuid, code, noun).await?;
    if loaded.state.is_live() { Ok(loaded) } else { Err(Rejection::not_found(code, noun).into()) }
}

/// Refuses what will never be called, by its looks; names the field.
pub(crate) fn check_address(app: &App, field: &str, url: Option<&str>) -> Result<(), Failure> {
    let Some(url) = url else { return Ok(()) };
    app.ports().addresses.check(url).map_err(|why| Rejection::field(field, why).into())
}

/// Scheme, host and port: what a credential is bound to.
pub fn same_origin(a: &str, b: &str) -> bool {
    match (Url::parse(a), Url::parse(b)) {
        (Ok(a), Ok(b)) => a.origin() == b.origin(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert!(same_origin("https://a.test/x", "https://A.test:443/y"));
        assert!(!same_origin("https://a.test", "http://a.test"));
        assert!(!same_origin("https://a.test", "https://a.test:8443"));
        assert!(!same_origin("https://a.test", "https://a.test.evil.test"));
    }
}
