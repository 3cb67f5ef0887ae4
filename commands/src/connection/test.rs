//! A harmless call with the real credential; the read is in the log before the value is opened.

use chrono::{DateTime, Utc};
use domain::{
    connection::{BOUND, Connection, ConnectionCommand, host_of},
    credential::Credential,
    ids::ConnectionId,
    trace::traceparent,
};
use vault::ReadReceipt;

use super::{gate_of_late, load, same_origin, target};
use crate::{
    App, Context, Outcome,
    ports::{TestReport, TestSecret, TestTarget},
    unit::change,
};

pub async fn test(app: &App, context: &Context, id: ConnectionId) -> Outcome<TestReport> {
    let workspace = context.actor.workspace;
    let connection = load(app, workspace, id).await?.state;
    let base_url = connection.effective_base_url();
    let origins = connection.origins(&gate_of_late(app, workspace).await?);
    let mut unable = unable(&connection, origins.as_deref(), base_url.as_deref());
    let mut version = 0;
    // What is not sent is not read.
    let wanted = connection.credential.filter(|_| unable.is_none() && !connection.auth.parts().is_empty());
    if let Some(credential) = wanted {
        let stored = app.store().load::<Credential>(credential.0).await?.state;
        version = stored.version;
        unable = unusable(&connection, base_url.as_deref(), &stored, app.now());
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
        Some(Unable { problem, message }) => {
            TestReport { message, problem: problem.map(str::to_owned), ..TestReport::default() }
        }
        None => {
            let trace = traceparent(context.request.traceparent.as_deref(), context.correlation_id(), span(app));
            let target = TestTarget {
                workspace,
                connection: id,
                base_url,
                credential_base: connection.credential_base,
                origins,
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

/// Why nothing is called.
struct Unable {
    /// One word for programs.
    problem: Option<&'static str>,
    message: String,
}

fn unable(connection: &Connection, origins: Option<&[String]>, base_url: Option<&str>) -> Option<Unable> {
    let blocked = base_url.and_then(|base| connection.closed(origins, base));
    let undecided = connection.undecided().map(|why| format!("It is not decided how to authenticate: {why}."));
    let message = blocked.map(|why| format!("Nothing is called: {why}.")).or(undecided)?;
    Some(Unable { problem: None, message })
}

/// Why the credential is not even opened; the same as with calls.
fn unusable(
    connection: &Connection,
    base_url: Option<&str>,
    credential: &Credential,
    now: DateTime<Utc>,
) -> Option<Unable> {
    let because = |problem, message: &str| Some(Unable { problem, message: message.to_owned() });
    let Some(base) = base_url else {
        return because(Some("base_url_missing"), "The connection has no base URL: set baseUrl.");
    };
    if connection.credential_base.as_deref().is_none_or(|bound| !same_origin(bound, base)) {
        return because(Some("credential_bound"), BOUND);
    }
    if !credential.is_live() {
        return because(Some("credential_unusable"), "The connection's credential was deleted: store one.");
    }
    if credential.is_erased() {
        return because(Some("credential_unusable"), "The connection's credential was destroyed: store it again.");
    }
    if credential.is_expired(now) {
        return because(None, "The credential has expired; store a new one.");
    }
    None
}

/// The half of an id that is random.
fn span(app: &App) -> u64 {
    app.new_id::<uuid::Uuid>().as_u64_pair().1
}
