//! Another tenant of the test history: what happens seldom, to things that no other test counts.

use domain::connection::{AuthScheme, ConnectionEvent, SpecSource};

use crate::{
    history::connection_created,
    log::{Log, unique},
};

pub async fn write(log: &mut Log) {
    let workspace = unique();
    let hosts = || vec!["https://api.example".to_owned()];
    let connection = vec![
        connection_created("seldom", SpecSource::Url { url: "https://api.example/openapi.json".into() }),
        ConnectionEvent::AuthResolved { auth: AuthScheme::Bearer },
        ConnectionEvent::PrivateRangeNoted { hosts: hosts() },
        ConnectionEvent::ApprovalRequested { hosts: hosts() },
        ConnectionEvent::HostApproved { hosts: hosts() },
        ConnectionEvent::HostRejected { hosts: hosts(), reason: Some("not ours".into()) },
    ];
    log.append(workspace, "connection", unique(), connection).await;
}
