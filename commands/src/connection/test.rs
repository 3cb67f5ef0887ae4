//! A harmless call with the real credential; the read is in the log before the value is opened.

use domain::{
    connection::{Connection, ConnectionCommand, host_of},
    credential::Credential,
    ids::ConnectionId,
};
use vault::ReadReceipt;

use super::{load, target};
use crate::{
    App, Context, Outcome,
    ports::{TestReport, TestSecret, TestTarget},
    unit::change,
};

pub async fn test(app: &App, context: &Context, id: ConnectionId) -> Outcome<TestReport> {
    let connection = load(app, context.actor.workspace, id).await?.state;
    let base_url = connection.effective_base_url();
    let mut secret = None;
    if let Some(credential) = connection.credential {
        let stored = app.store().load::<Credential>(credential.0).await?.state;
        if stored.is_expired(app.now()) {
            return record(app, context, id, expired()).await;
        }
        let version = stored.version;
        let host = base_url.as_deref().and_then(host_of);
        let read = |_: &Connection| {
            let purpose = "connection_test".to_owned();
            Ok(ConnectionCommand::ReadCredential { credential, version, purpose, host: host.clone() })
        };
        let at = change(app, context, target(id), None, read).await?.at;
        let receipt = ReadReceipt { committed_at: at, credential, version };
        let value = app.vault().reveal(context.actor.workspace, &receipt).await?;
        secret = Some(TestSecret { credential, version, value });
    }
    let spec = app.spec_of(&connection).await?;
    let credential_base = connection.credential_base;
    let report =
        app.ports().tester.test(TestTarget { base_url, credential_base, auth: connection.auth, secret, spec }).await;
    record(app, context, id, report).await
}

fn expired() -> TestReport {
    let message = "The credential has expired; store a new one.".to_owned();
    TestReport { ok: false, message, status: None, elapsed_ms: 0 }
}

async fn record(app: &App, context: &Context, id: ConnectionId, report: TestReport) -> Outcome<TestReport> {
    let record = |_: &Connection| {
        Ok(ConnectionCommand::RecordTest {
            ok: report.ok,
            message: report.message.clone(),
            status: report.status,
            elapsed_ms: report.elapsed_ms,
        })
    };
    let done = change(app, context, target(id), None, record).await?;
    Ok(done.map(|_| report))
}
