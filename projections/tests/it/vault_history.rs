//! What happens to keys, to secrets and to hosts that wait, for the history in which every event type happens.

use domain::{
    connection::{AuthScheme, ConnectionEvent, SpecSource},
    connector::ConnectorEvent,
    credential::CredentialEvent,
    ids::{CredentialId, WorkspaceId},
    workspace_key::{WorkspaceKeyEvent as Event, stream_of},
};

use crate::{
    history::connection_created,
    log::{Log, time, unique},
};

pub async fn write(log: &mut Log, workspace: WorkspaceId) {
    let (one, two, three): (String, String, String) = ("aa".into(), "bb".into(), "cc".into());
    let master: String = "m1".into();
    let rotated = |version, key_id: &String, previous_version| Event::Rotated {
        version,
        key_id: key_id.clone(),
        master_key_id: master.clone(),
        previous_version,
    };
    let events = vec![
        Event::Made { version: 1, key_id: one.clone(), master_key_id: master.clone() },
        rotated(2, &two, 1),
        Event::Retired { version: 1, key_id: one.clone() },
        Event::Destroyed { version: 1, key_id: one, wrapped: 5, erased: 0 },
        Event::Rewrapped { version: 2, key_id: two.clone(), data_keys: 5 },
        Event::MasterChanged {
            version: 2,
            key_id: two.clone(),
            master_key_id: "m2".into(),
            previous_master_key_id: master.clone(),
        },
        rotated(3, &three, 2),
        Event::Retired { version: 2, key_id: two.clone() },
        Event::ErasureRequested { version: 2, key_id: two.clone() },
        Event::Destroyed { version: 2, key_id: two, wrapped: 6, erased: 6 },
    ];
    log.append(workspace.0, "workspace_key", stream_of(workspace), events).await;
    secret(log, workspace).await;
    approvals(log, workspace).await;
    connectors(log, workspace).await;
}

/// One that is there afterwards, and one that is gone.
async fn connectors(log: &mut Log, workspace: WorkspaceId) {
    let created = || ConnectorEvent::Created {
        connector_type: "slack".into(),
        name: "chat".into(),
        credential_id: None,
        config: serde_json::json!({}),
    };
    let credential_id = CredentialId(unique());
    let events = vec![
        created(),
        ConnectorEvent::Updated { name: None, credential_id: Some(credential_id), config: None },
        ConnectorEvent::CredentialRead { credential_id, version: 1, purpose: "connector_test".into() },
        ConnectorEvent::Tested {
            ok: false,
            message: "Slack answered invalid_auth.".into(),
            status: Some(200),
            elapsed_ms: 12,
            problem: Some("unauthorised".into()),
            call: None,
        },
        ConnectorEvent::Disabled {},
        ConnectorEvent::Enabled {},
    ];
    log.append(workspace.0, "connector", unique(), events).await;
    log.append(workspace.0, "connector", unique(), vec![created(), ConnectorEvent::Deleted {}]).await;
}

/// Of a connection that is gone afterwards.
async fn approvals(log: &mut Log, workspace: WorkspaceId) {
    let hosts = || vec!["https://api.example".to_owned()];
    let events = vec![
        connection_created("seldom", SpecSource::Url { url: "https://api.example/openapi.json".into() }),
        ConnectionEvent::AuthResolved { auth: AuthScheme::Bearer },
        ConnectionEvent::PrivateRangeNoted { hosts: hosts() },
        ConnectionEvent::HostApprovalRequired { known: vec!["https://known.example".to_owned()] },
        ConnectionEvent::ApprovalRequested { hosts: hosts() },
        ConnectionEvent::HostApproved { hosts: hosts() },
        ConnectionEvent::HostRejected { hosts: hosts(), reason: Some("not ours".into()) },
        ConnectionEvent::HostApprovalLifted {},
        ConnectionEvent::Deleted {},
    ];
    log.append(workspace.0, "connection", unique(), events).await;
}

async fn secret(log: &mut Log, workspace: WorkspaceId) {
    let expires_at = time(900);
    let events = vec![
        CredentialEvent::Created {
            name: "partner".into(),
            kind: "secret".into(),
            connection_id: None,
            version: 1,
            key_version: 2,
            value_hash: "v".into(),
        },
        CredentialEvent::ExpiryChanged { expires_at: Some(expires_at) },
        CredentialEvent::ExpiryWarned { expires_at, days_left: 7 },
        CredentialEvent::Expired { expires_at },
        CredentialEvent::Rotated { version: 2, key_version: 2, value_hash: "w".into() },
        CredentialEvent::ExpiryChanged { expires_at: None },
        CredentialEvent::VersionDestroyed { version: 1 },
        CredentialEvent::Deleted { destroy_at: Some(time(2_000)), bound_to: None },
        CredentialEvent::Restored {},
        CredentialEvent::Deleted { destroy_at: Some(time(3_000)), bound_to: None },
        CredentialEvent::Destroyed { versions: 1 },
    ];
    log.append(workspace.0, "credential", unique(), events).await;
}
