//! A harmless call with the real credential; the read is in the log before the value is opened.

use chrono::{DateTime, Utc};
use domain::{
    connection::{BOUND, Connection, ConnectionCommand, OTHER_KIND, host_of},
    credential::Credential,
    ids::{ConnectionId, CredentialId},
    oauth::Because,
    trace::traceparent,
};

use super::{gate_of_late, load, same_origin, target};
use crate::{
    App, Context, Failure, Outcome,
    oauth::{self, Fresh},
    ports::{TestReport, TestSecret, TestTarget},
    unit::change,
};

pub async fn test(app: &App, context: &Context, id: ConnectionId) -> Outcome<TestReport> {
    let connection = load(app, context.actor.workspace, id).await?.state;
    let origins = connection.origins(&gate_of_late(app, context.actor.workspace).await?);
    let report = match readable(app, context, id, &connection, origins.as_deref()).await? {
        Err(Unable { problem, message }) => {
            TestReport { message, problem: problem.map(str::to_owned), ..TestReport::default() }
        }
        Ok(credential) => {
            let report = call(app, context, id, &connection, origins.clone(), credential).await?;
            match renewed(app, context, id, &connection, credential, &report).await? {
                Some(again) => call(app, context, id, &connection, origins, Some(again)).await?,
                None => report,
            }
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

/// The credential and its version, when there is one to send; or why nothing is called.
async fn readable(
    app: &App,
    context: &Context,
    id: ConnectionId,
    connection: &Connection,
    origins: Option<&[String]>,
) -> Result<Result<Option<(CredentialId, i32)>, Unable>, Failure> {
    let base_url = connection.effective_base_url();
    if let Some(unable) = unable(connection, origins, base_url.as_deref()) {
        return Ok(Err(unable));
    }
    // What is not sent is not read.
    let wanted = connection.credential.filter(|_| !connection.auth.parts().is_empty());
    let Some(credential) = wanted else {
        let missing = connection.oauth_client().map(|_| Unable { problem: None, message: oauth::not_connected() });
        return Ok(missing.map_or(Ok(None), Err));
    };
    let stored = app.store().load::<Credential>(credential.0).await?.state;
    if let Some(unusable) = unusable(connection, base_url.as_deref(), &stored, app.now()) {
        return Ok(Err(unusable));
    }
    if connection.oauth_client().is_none() {
        return Ok(Ok(Some((credential, stored.version))));
    }
    let standing = oauth::fresh(app, context, id, Because::Use, None).await?;
    Ok(match (standing.fault(), &standing) {
        (Some((_, words)), _) => Err(Unable { problem: None, message: words.to_owned() }),
        (None, Fresh::Version(version)) => Ok(Some((credential, *version))),
        (None, _) => Ok(None),
    })
}

/// Another version, where the API has refused the access token and the provider gives a new one.
async fn renewed(
    app: &App,
    context: &Context,
    id: ConnectionId,
    connection: &Connection,
    credential: Option<(CredentialId, i32)>,
    report: &TestReport,
) -> Result<Option<(CredentialId, i32)>, Failure> {
    let Some((credential, seen)) = credential else { return Ok(None) };
    if report.status != Some(401) || connection.oauth_client().is_none() {
        return Ok(None);
    }
    Ok(match oauth::fresh(app, context, id, Because::Refused, Some(seen)).await? {
        Fresh::Version(version) if version != seen => Some((credential, version)),
        _ => None,
    })
}

async fn call(
    app: &App,
    context: &Context,
    id: ConnectionId,
    connection: &Connection,
    origins: Option<Vec<String>>,
    credential: Option<(CredentialId, i32)>,
) -> Result<TestReport, Failure> {
    let base_url = connection.effective_base_url();
    let mut secret = None;
    if let Some((credential, version)) = credential {
        let host = base_url.as_deref().and_then(host_of);
        let value = oauth::reveal(app, context, id, (credential, version), "connection_test", host).await?;
        secret = Some(TestSecret { credential, version, value });
    }
    let spec = app.spec_of(connection).await?;
    let trace = traceparent(context.request.traceparent.as_deref(), context.correlation_id(), span(app));
    let target = TestTarget {
        workspace: context.actor.workspace,
        connection: id,
        base_url,
        credential_base: connection.credential_base.clone(),
        origins,
        auth: connection.auth.clone(),
        movable: connection.wanted.is_some(),
        secret,
        spec,
        traceparent: Some(trace),
        now: app.now(),
    };
    Ok(app.ports().tester.test(target).await)
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
    if !connection.takes(&credential.kind) {
        return because(Some("credential_unusable"), OTHER_KIND);
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
