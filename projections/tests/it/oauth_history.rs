//! What happens to grants and on the way to them, for the history in which every event type happens.

use domain::{
    actor::ActorKind,
    connection::{AuthScheme, ConnectionEvent, Health, SpecSource},
    ids::{ConnectionId, CredentialId, WorkspaceId},
    oauth::{Because, Dialect, Endpoints, OauthClient, flow::OauthFlowEvent as Flow},
};

use crate::{
    history::connection_created,
    log::{Log, sealed, time, unique},
};

pub async fn write(log: &mut Log, workspace: WorkspaceId) {
    let connection = ConnectionId(unique());
    let credential_id = CredentialId(unique());
    let client = OauthClient { provider: Some("github".into()), ..OauthClient::default() };
    let auth = AuthScheme::Oauth2 { client: client.clone() };
    let updated = ConnectionEvent::Updated {
        name: None,
        description: None,
        base_url: None,
        auth: Some(auth),
        active: None,
        refresh_interval: None,
    };
    let granted = || ConnectionEvent::OauthGranted {
        provider: "GitHub".into(),
        dialect: Dialect::Github,
        credential_id,
        version: 1,
        scopes: vec!["repo".into()],
        expires_at: Some(time(900)),
        refreshable: true,
        granted_at: time(1),
    };
    let started = |number| ConnectionEvent::OauthRefreshStarted {
        number,
        because: Because::Schedule,
        executor: "e".into(),
        lease_until: time(30),
    };
    let events = vec![
        connection_created("authorized", SpecSource::None),
        updated,
        ConnectionEvent::CredentialAttached { credential_id },
        granted(),
        started(1),
        ConnectionEvent::OauthRefreshFailed { number: 1, reason: "503".into(), retry_at: time(20) },
        started(2),
        ConnectionEvent::OauthRefreshed {
            number: 2,
            version: 2,
            scopes: vec!["repo".into()],
            expires_at: None,
            refreshable: true,
            rotated: true,
            refreshed_at: time(21),
        },
        ConnectionEvent::OauthGrantExpired { from: Health::Healthy, reason: "revoked".into(), expired_at: time(22) },
        granted(),
        ConnectionEvent::OauthRevoked { note: None, revoked_at: time(23) },
        ConnectionEvent::Deleted {},
    ];
    log.append(workspace.0, "connection", connection.0, events).await;
    let begun = Flow::Started {
        connection_id: connection,
        client,
        endpoints: Endpoints::default(),
        scopes: vec!["repo".into()],
        redirect_uri: "https://apiq.test/api/v1/oauth/callback/github".into(),
        target: Some("https://api.test".into()),
        state_hash: "a".into(),
        link_hash: "b".into(),
        browser_hash: "c".into(),
        verifier: sealed("verifier"),
        actor_kind: ActorKind::User,
        actor_id: "user_x".into(),
        expires_at: time(600),
    };
    let opened = Flow::LinkOpened { browser_hash: "d".into(), state_hash: "e".into(), verifier: sealed("other") };
    let completed = Flow::Completed { scopes: vec!["repo".into()] };
    log.append(workspace.0, "oauth", unique(), vec![begun.clone(), opened, Flow::StateUsed {}, completed]).await;
    log.append(workspace.0, "oauth", unique(), vec![begun, Flow::Failed { reason: "declined".into() }]).await;
}
