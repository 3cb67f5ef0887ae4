//! A harmless call with the real credential; the read is in the log before the value is opened.

use domain::{
    connection::{Connection, ConnectionCommand, host_of},
    credential::Credential,
    ids::ConnectionId,
    trace::traceparent,
};
use vault::ReadReceipt;

use super::{load, target};
use crate::{
    App, Context, Outcome,
    ports::{TestReport, TestSecret, TestTarget},
    unit::change,
};

pub async fn test(app: &App, context: &Context, id: ConnectionId) -> Outcome<TestReport> {
    let workspace = context.actor.workspace;
    let connection = load(app, workspace, id).await?.state;
    let base_url = connection.effective_base_url();
    let blocked = base_url.as_deref().and_then(|base| connection.approvals.blocks(base));
    let undecided = connection.undecided().map(|why| format!("It is not decided how to authenticate: {why}."));
    let mut unable = blocked.map(|why| format!("Nothing is called: {why}.")).or(undecided);
    let mut version = 0;
    // What is not sent is not read.
    let wanted = connection.credential.filter(|_| unable.is_none() && !connection.auth.parts().is_empty());
    if let Some(credential) = wanted {
        let stored = app.store().load::<Credential>(credential.0).await?.state;
        version = stored.version;
        if stored.is_expired(app.now()) {
            unable = Some("The credential has expired; store a new one.".to_owned());
        }
    }
    let mut secret = None;
    if let Some(credential) = wanted.filter(|_| unable.is_none()) {
        let host = base_url.as_deref().and_then(host_of);
        let read = |_: &Connection| {
            let purpose = "connection_test".to_owned();
            Ok(ConnectionCommand::ReadCredential { credential, version, purpose, host: host.clone() })
        };
        let at = change(app, context, target(id), None, read).await?.at;
        let receipt = ReadReceipt { committed_at: at, credential, version };
        let value = app.vault().reveal(workspace, &receipt).await?;
        secret = Some(TestSecret { credential, version, value });
    }
    let spec = app.spec_of(&connection).await?;
    let report = match unable {
        Some(message) => TestReport { message, ..TestReport::default() },
        None => {
            let trace = traceparent(context.request.traceparent.as_deref(), context.correlation_id(), span(app));
            let target = TestTarget {
                workspace,
                connection: id,
                base_url,
                credential_base: connection.credential_base,
                origins: connection.approvals.allowed(),
                auth: connection.auth,
                movable: connection.wanted.is_some(),
                secret,
                spec,
                traceparent: Some(trace),
                now: app.now(),
            };
            app.ports().tester.test(target).await
        }
    };
    let now = app.now();
    let record = |_: &Connection| {
        Ok(ConnectionCommand::RecordTest {
            ok: report.ok,
            message: report.message.clone(),
            status: report.status,
            elapsed_ms: report.elapsed_ms,
            problem: report.problem.clone(),
            call: report.call.clone(),
            health: report.health.clone(),
            now,
        })
    };
    let done = change(app, context, target(id), None, record).await?;
    Ok(done.map(|_| report))
}

/// The half of an id that is random.
fn span(app: &App) -> u64 {
    app.new_id::<uuid::Uuid>().as_u64_pair().1
}
