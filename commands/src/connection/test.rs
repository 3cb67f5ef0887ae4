//! A harmless call with the real credential; the read is in the log before the value is opened.

use domain::{
    connection::{Connection, ConnectionCommand, host_of},
    credential::Credential,
    ids::{ConnectionId, CredentialId},
    oauth::Because,
    trace::traceparent,
};

use super::{load, target};
use crate::{
    App, Context, Failure, Outcome,
    oauth::{self, Fresh},
    ports::{TestReport, TestSecret, TestTarget},
    unit::change,
};

pub async fn test(app: &App, context: &Context, id: ConnectionId) -> Outcome<TestReport> {
    let connection = load(app, context.actor.workspace, id).await?.state;
    let report = match readable(app, context, id, &connection).await? {
        Err(message) => TestReport { message, ..TestReport::default() },
        Ok(credential) => {
            let report = call(app, context, id, &connection, credential).await?;
            match renewed(app, context, id, &connection, credential, &report).await? {
                Some(again) => call(app, context, id, &connection, Some(again)).await?,
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

/// The credential and its version, when there is one to send; or why nothing is called, in words.
async fn readable(
    app: &App,
    context: &Context,
    id: ConnectionId,
    connection: &Connection,
) -> Result<Result<Option<(CredentialId, i32)>, String>, Failure> {
    let base_url = connection.effective_base_url();
    if let Some(why) = base_url.as_deref().and_then(|base| connection.approvals.blocks(base)) {
        return Ok(Err(format!("Nothing is called: {why}.")));
    }
    if let Some(why) = connection.undecided() {
        return Ok(Err(format!("It is not decided how to authenticate: {why}.")));
    }
    if connection.oauth_client().is_some() {
        return Ok(match oauth::fresh(app, context, id, Because::Use, None).await? {
            Fresh::Version(version) => Ok(connection.credential.map(|credential| (credential, version))),
            other => Err(other.fault().map(|(_, words)| words.to_owned()).unwrap_or_default()),
        });
    }
    // What is not sent is not read.
    let Some(credential) = connection.credential.filter(|_| !connection.auth.parts().is_empty()) else {
        return Ok(Ok(None));
    };
    let stored = app.store().load::<Credential>(credential.0).await?.state;
    if stored.is_expired(app.now()) {
        return Ok(Err("The credential has expired; store a new one.".to_owned()));
    }
    Ok(Ok(Some((credential, stored.version))))
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
        origins: connection.approvals.allowed(),
        auth: connection.auth.clone(),
        movable: connection.wanted.is_some(),
        secret,
        spec,
        traceparent: Some(trace),
        now: app.now(),
    };
    Ok(app.ports().tester.test(target).await)
}

/// The half of an id that is random.
fn span(app: &App) -> u64 {
    app.new_id::<uuid::Uuid>().as_u64_pair().1
}
