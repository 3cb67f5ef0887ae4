//! One call: target, credential, request, answer, verdict.

use std::time::Duration;

use chrono::{DateTime, Utc};
use commands::{
    App, Context, Failure,
    connection::{gate_of_late, same_origin},
    oauth::{self, Fresh},
};
use domain::{
    call::CallFacts,
    connection::{
        AuthScheme, BOUND, Connection, Needs, OTHER_KIND, Part, Sending, Standing, health::Observation, host_of,
        security,
    },
    credential::Credential,
    event::LogPosition,
    execution::{
        CredentialUse, RenderedCall, StepError, StepRef,
        retry::{Failure as CallFailure, Verdict, verdict},
    },
    ids::{CredentialId, ExecutionId},
    oauth::Because,
    workflow::{Definition, definition::Retry},
};
use integrations::egress::{EgressError, OutboundRequest, OutboundResponse, Scope};
use serde_json::{Value, json};
use url::Url;
use vault::{ReadReceipt, VaultError};

use super::{Executor, again};
use crate::{
    authorise::{Opened, add_cookie, authorise},
    health::observation_of,
    recorded::shown,
};

/// Of an error that may come after the effect.
pub(super) const MAY_HAVE_ACTED: &str = "which does not say whether it took effect";
/// Bytes of an answer that are kept.
const MAX_ANSWER: u64 = 8 * 1024 * 1024;

/// An attempt that is in the log and has not happened yet.
pub(super) struct Attempt {
    pub execution: ExecutionId,
    pub step: StepRef,
    pub attempt: u32,
    pub call: RenderedCall,
    /// `Err`: why there is nothing to call.
    pub target: std::result::Result<Target, StepError>,
    /// Header name and key.
    pub idempotency: Option<(String, String)>,
    pub repeatable: bool,
    pub timeout_ms: u64,
    pub retry: Retry,
    /// Of this call alone, in the trace of whoever started the execution.
    pub traceparent: String,
    /// Where `step_started` and `credential.read` were committed.
    pub committed_at: LogPosition,
}

/// Where a call goes and with which credential.
pub(super) struct Target {
    pub base_url: String,
    /// What of the credential goes on this call.
    pub parts: Vec<Part>,
    pub credential: Option<(CredentialId, i32)>,
    /// The operation needs a credential and the connection is without authentication: what it needs, in words.
    pub unmet: Option<String>,
    /// How the connection's calls went lately.
    pub standing: Standing,
    /// Of `oauth2`: scopes that the call needs by the document's word and that were not granted.
    pub grant: Option<Vec<String>>,
    /// The only origins that may be called, where an organization approves them.
    pub origins: Option<Vec<String>>,
}

impl Target {
    /// What the attempt will read.
    pub fn reads(&self, call: &RenderedCall) -> Option<CredentialUse> {
        let (credential, version) = self.credential?;
        let (connection, host) = (Some(call.connection_id), host_of(&self.base_url));
        Some(CredentialUse { credential, version, connection, connector: None, purpose: "api_call", host })
    }
}

pub(super) struct Outcome {
    pub step: StepRef,
    pub attempt: u32,
    pub result: Result,
    pub duration_ms: u64,
    /// Absent: nothing was called.
    pub call: Option<CallFacts>,
}

impl Outcome {
    /// Of the answer, when there was one.
    pub fn status(&self) -> Option<u16> {
        match &self.result {
            Result::Completed { status, .. } | Result::Failed { status, .. } => *status,
            Result::Unknown { .. } => None,
        }
    }
}

pub(super) enum Result {
    /// `{output, status, headers}`.
    Completed {
        value: Value,
        status: Option<u16>,
    },
    Failed {
        error: StepError,
        value: Option<Value>,
        status: Option<u16>,
        retry_at: Option<DateTime<Utc>>,
    },
    Unknown {
        reason: String,
    },
}

pub(super) fn error(code: &str, message: impl Into<String>) -> StepError {
    StepError { code: code.into(), message: message.into() }
}

/// The connection as it is now. A credential goes to the connection's own origin only.
pub(super) async fn target(
    app: &App,
    context: &Context,
    call: &RenderedCall,
    needs: Option<&Needs>,
) -> std::result::Result<std::result::Result<Target, StepError>, Failure> {
    let workspace = context.actor.workspace;
    let loaded = app.store().load::<Connection>(call.connection_id.0).await?;
    let connection = loaded.state;
    if loaded.workspace != Some(workspace.0) || !connection.is_live() {
        return Ok(Err(error("CONNECTION_GONE", "The connection was deleted.")));
    }
    if !connection.active {
        return Ok(Err(error("CONNECTION_INACTIVE", "The connection is switched off.")));
    }
    let own = connection.effective_base_url();
    let declared = call.server.as_deref().and_then(|s| domain::connection::absolute(s, &connection.source));
    // The user's word counts more than the document's.
    let base = if connection.base_url.is_some() { own.clone() } else { declared.or_else(|| own.clone()) };
    let Some(base_url) = base else {
        return Ok(Err(error("NO_BASE_URL", "The document names no absolute server: set the connection's baseUrl.")));
    };
    let origins = connection.origins(&gate_of_late(app, workspace).await?);
    if let Some(why) = connection.closed(origins.as_deref(), &base_url) {
        return Ok(Err(error("HOST_NOT_APPROVED", format!("Nothing is called: {why}."))));
    }
    let parts = match connection.sending(needs) {
        Err(why) => return Ok(Err(error("AUTH_UNDECIDED", format!("It is not decided how to authenticate: {why}.")))),
        Ok(Sending::Lacking(words)) => {
            let message = format!("The operation needs {words}, which the connection does not have.");
            return Ok(Err(error("CREDENTIAL_LACKING", message)));
        }
        Ok(Sending::Nothing) => Vec::new(),
        Ok(Sending::Parts(parts)) => parts,
    };
    let standing = connection.standing;
    let unmet = (connection.auth == AuthScheme::None).then(|| needs.map(security::in_words)).flatten();
    let unmet = unmet.filter(|words| !words.is_empty());
    if parts.is_empty() {
        return Ok(Ok(Target { base_url, parts, credential: None, unmet, standing, origins, grant: None }));
    }
    let Some(id) = connection.credential else {
        return Ok(Err(match connection.oauth_client() {
            Some(_) => error("OAUTH_NOT_CONNECTED", oauth::not_connected()),
            None => error("CREDENTIAL_MISSING", "The connection has no credential: store one."),
        }));
    };
    if connection.credential_base.as_deref().is_none_or(|bound| !same_origin(bound, &base_url)) {
        return Ok(Err(error("CREDENTIAL_BOUND", BOUND)));
    }
    let stored = app.store().load::<Credential>(id.0).await?.state;
    if stored.created && !connection.takes(&stored.kind) {
        return Ok(Err(error("CREDENTIAL_UNUSABLE", OTHER_KIND)));
    }
    if connection.oauth_client().is_some() {
        let lacking = connection.lacking_scopes(needs);
        return Ok(match oauth::fresh(app, context, call.connection_id, Because::Use, None).await? {
            Fresh::Version(version) => Ok(Target {
                base_url,
                parts,
                credential: Some((id, version)),
                unmet,
                standing,
                origins,
                grant: Some(lacking),
            }),
            other => Err(other.fault().map_or_else(|| error("INTERNAL", ""), |(code, words)| error(code, words))),
        });
    }
    if !stored.is_live() {
        return Ok(Err(error("CREDENTIAL_MISSING", "The connection's credential was deleted: store one.")));
    }
    if stored.is_erased() {
        let message = "The connection's credential was destroyed: store it again.";
        return Ok(Err(error("CREDENTIAL_UNREADABLE", message)));
    }
    if stored.is_expired(app.now()) {
        return Ok(Err(error("CREDENTIAL_EXPIRED", "The connection's credential has expired: store a new value.")));
    }
    Ok(Ok(Target { base_url, parts, credential: Some((id, stored.version)), unmet, standing, origins, grant: None }))
}

pub(super) fn retry_of(definition: &Definition, step_id: &str) -> Retry {
    let mut retry = Retry::default();
    definition.walk(&mut |step| {
        if step.id == step_id {
            retry = step.retry.clone();
        }
    });
    retry
}

/// Makes the call. Always gives an outcome: what goes wrong here is one.
pub(super) async fn perform(executor: &Executor, context: Context, attempt: Attempt) -> Outcome {
    let began = executor.app.now();
    let mut facts = None;
    let result = call(executor, context, &attempt, &mut facts).await;
    let duration_ms = (executor.app.now() - began).num_milliseconds().max(0) as u64;
    Outcome { step: attempt.step, attempt: attempt.attempt, result, duration_ms, call: facts }
}

/// `facts` is what is recorded of the call, once there is one.
async fn call(executor: &Executor, context: Context, attempt: &Attempt, facts: &mut Option<CallFacts>) -> Result {
    let workspace = context.actor.workspace;
    let target = match &attempt.target {
        Ok(target) => target,
        Err(error) => {
            // A provider that does not answer just now may do so later.
            let passes = error.code == "OAUTH_REFRESH_FAILED";
            let retry_at = match passes.then(|| decide(executor, attempt, CallFailure::NotSent, None)) {
                Some(Verdict::Retry(at)) => Some(at),
                _ => None,
            };
            return Result::Failed { error: error.clone(), value: None, status: None, retry_at };
        }
    };
    let mut secret: Option<Opened> = None;
    if let Some((credential, version)) = target.credential {
        let receipt = ReadReceipt { committed_at: attempt.committed_at, credential, version };
        match executor.app.vault().reveal(workspace, &receipt).await {
            Ok(value) => secret = Some(Opened { credential, version, value }),
            Err(failure) => {
                tracing::warn!(%failure, %credential, "a credential cannot be opened");
                let message = match failure {
                    VaultError::Erased => "The connection's credential was destroyed: store it again.",
                    _ => "The connection's credential cannot be opened: store it again.",
                };
                let error = error("CREDENTIAL_UNREADABLE", message);
                return Result::Failed { error, value: None, status: None, retry_at: None };
            }
        }
    }
    let request = match request(attempt, target, secret.as_ref()) {
        Ok(request) => request,
        Err(error) => return Result::Failed { error, value: None, status: None, retry_at: None },
    };
    let id = attempt.call.connection_id;
    let request = request.scope(Scope { workspace: Some(workspace), connection: Some(id), ..Scope::default() });
    let begun = shown(request.facts(), secret.as_ref());
    let started = std::time::Instant::now();
    let mut came = executor.egress.send(request).await;
    if let (Ok(answer), Some(_)) = (&came, &target.grant)
        && again::is_refused(answer)
    {
        let left = Duration::from_millis(attempt.timeout_ms).saturating_sub(started.elapsed());
        if let Some(second) = again::with_renewed(executor, &context, attempt, target, answer, left).await {
            came = second;
        }
    }
    let (result, seen) = match came {
        Ok(answer) => {
            *facts = Some(answer.complete(begun));
            let seen = Observation::of_status(answer.status, secret.is_some());
            (answered(executor, attempt, &answer), Some(seen))
        }
        Err(failure) => {
            *facts = Some(failure.complete(begun, started.elapsed()));
            (unanswered(executor, attempt, &failure), observation_of(&failure))
        }
    };
    if let Some(seen) = seen {
        executor.health.observe(context, id, target.standing, seen);
    }
    result
}

pub(super) fn request(
    attempt: &Attempt,
    target: &Target,
    secret: Option<&Opened>,
) -> std::result::Result<OutboundRequest, StepError> {
    let call = &attempt.call;
    let no_url = || error("BAD_URL", "Base URL and path make no URL.");
    let raw = format!("{}{}", target.base_url, call.path);
    // Parsing would mend these in its own way, and other readers see another host.
    if raw.chars().any(|c| c.is_control() || c == '\\') {
        return Err(no_url());
    }
    let mut url = Url::parse(&raw).map_err(|_| no_url())?;
    // A path such as ".evil.test" or "@evil.test" would make another host of the base.
    if !same_origin(url.as_str(), &target.base_url) {
        return Err(error("BAD_URL", "The path leads to another host than the base URL."));
    }
    if !call.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&call.query);
    }
    let method = call.method.parse().map_err(|_| error("BAD_METHOD", "The method is not known."))?;
    let mut request = OutboundRequest::new(method, url)
        .timeout(Duration::from_millis(attempt.timeout_ms))
        .origins(target.origins.clone())
        .max_response_bytes(MAX_ANSWER);
    let has = |name: &str| call.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !has("accept") {
        request = request.header("Accept", "application/json, */*;q=0.5");
    }
    if !has("user-agent") {
        request = request.header("User-Agent", concat!("apiq/", env!("CARGO_PKG_VERSION")));
    }
    let ours = ["host", "content-length", "transfer-encoding", "connection", "content-type"];
    for (name, value) in &call.headers {
        if !ours.contains(&name.to_ascii_lowercase().as_str()) {
            request = request.header(name.as_str(), value.as_str());
        }
    }
    for (name, value) in &call.cookies {
        request = add_cookie(request, name, value);
    }
    if !has("traceparent") {
        request = request.header("traceparent", attempt.traceparent.as_str());
    }
    if let Some((name, key)) = &attempt.idempotency {
        request = request.header(name.as_str(), key.as_str());
    }
    if let Some(body) = &call.body {
        let content_type = call.content_type.as_deref().unwrap_or("application/json");
        request = request.header("Content-Type", content_type).body(encode(content_type, body)?);
    }
    match secret {
        Some(opened) => authorise(request, &target.parts, opened)
            .map_err(|unusable| error("CREDENTIAL_UNUSABLE", unusable.to_string())),
        None => Ok(request),
    }
}

fn encode(content_type: &str, body: &Value) -> std::result::Result<Vec<u8>, StepError> {
    if content_type.starts_with("application/x-www-form-urlencoded") {
        let Some(map) = body.as_object() else {
            return Err(error("BAD_BODY", "A form's body must be an object."));
        };
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in map {
            match value {
                Value::String(text) => form.append_pair(name, text),
                Value::Null => &mut form,
                other => form.append_pair(name, &other.to_string()),
            };
        }
        return Ok(form.finish().into_bytes());
    }
    if let (false, Value::String(text)) = (content_type.contains("json"), body) {
        return Ok(text.clone().into_bytes());
    }
    if content_type.starts_with("multipart/") {
        return Err(error("BAD_BODY", "Multipart bodies are not supported in this version."));
    }
    serde_json::to_vec(body).map_err(|e| error("BAD_BODY", e.to_string()))
}

fn answered(executor: &Executor, attempt: &Attempt, answer: &OutboundResponse) -> Result {
    let value = value_of(answer);
    let status = answer.status;
    if status < 400 {
        return Result::Completed { value, status: Some(status) };
    }
    let after = answer.retry_after.map(seconds);
    let retry_at = match decide(executor, attempt, CallFailure::Status(status), after) {
        Verdict::OutcomeUnknown => {
            return Result::Unknown { reason: format!("the API answered {status}, {MAY_HAVE_ACTED}") };
        }
        Verdict::Retry(at) => Some(at),
        Verdict::Fail => None,
    };
    let error = error(&format!("HTTP_{status}"), format!("The API answered {status}{}", refusal(status, attempt)));
    Result::Failed { error, value: Some(value), status: Some(status), retry_at }
}

/// What a refusal says about the credential, to whom it may concern.
fn refusal(status: u16, attempt: &Attempt) -> String {
    let Ok(target) = &attempt.target else { return ".".into() };
    match (status, target.credential, &target.unmet) {
        (401 | 403, Some(_), _) if target.grant.as_ref().is_some_and(|lacking| !lacking.is_empty()) => {
            let scopes = target.grant.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!(": the operation needs {scopes}, which was not granted. Connect again with more scopes.")
        }
        (401, Some(_), _) if target.grant.is_some() => {
            ": the access token is not accepted, and a renewed one was not either. Connect again.".to_owned()
        }
        (401, Some(_), _) => {
            ": the credential is not accepted. It is wrong, expired or revoked: store a new one.".to_owned()
        }
        (403, Some(_), _) => ": the credential is known, and may not do this.".to_owned(),
        (401 | 403, None, Some(words)) => format!(": it wants {words}, and the connection's authType is none."),
        (401, None, None) => ": it wants a credential; store one with the connection.".to_owned(),
        _ => ".".to_owned(),
    }
}

fn unanswered(executor: &Executor, attempt: &Attempt, failure: &EgressError) -> Result {
    let (code, class) = classify(failure, attempt.repeatable);
    let words = words(executor, failure);
    let retry_at = match decide(executor, attempt, class, failure.retry_in().map(seconds)) {
        Verdict::OutcomeUnknown => return Result::Unknown { reason: words },
        Verdict::Retry(at) => Some(at),
        Verdict::Fail => None,
    };
    Result::Failed { error: error(code, words), value: None, status: None, retry_at }
}

/// What a failure is called, and what it means for another attempt.
pub(super) fn classify(failure: &EgressError, repeatable: bool) -> (&'static str, CallFailure) {
    // The server answered, but nothing that can be used: asking again would not help.
    let useless = matches!(failure, EgressError::ResponseTooLarge { .. } | EgressError::TooManyRedirects { .. });
    match failure {
        EgressError::Timeout { sent: true, .. } => ("TIMEOUT", CallFailure::Unknown { timeout: true }),
        _ if useless && repeatable => ("BAD_ANSWER", CallFailure::Final),
        _ if failure.is_outcome_unknown() => ("NETWORK", CallFailure::Unknown { timeout: false }),
        EgressError::HeldBack { .. } => ("RATE_LIMITED", CallFailure::HeldBack),
        EgressError::BreakerOpen { .. } => ("CIRCUIT_OPEN", CallFailure::NotSent),
        EgressError::Busy { .. } => ("HOST_BUSY", CallFailure::NotSent),
        EgressError::Timeout { .. }
        | EgressError::Dns { .. }
        | EgressError::Connect { .. }
        | EgressError::Tls { .. } => ("NETWORK", CallFailure::NotSent),
        _ => ("EGRESS_BLOCKED", CallFailure::Final),
    }
}

/// What went wrong; with the time until which nothing is called, when there is one.
pub(super) fn words(executor: &Executor, failure: &EgressError) -> String {
    let until = failure.retry_in().map(|left| executor.app.now() + left);
    let until = until.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    match (failure, until) {
        (EgressError::BreakerOpen { host, .. }, Some(until)) => {
            format!("{host} failed too often lately: it is not called before {until}.")
        }
        (EgressError::HeldBack { host, .. }, Some(until)) => {
            format!("{host} says that nothing is left of its limit: it is not called before {until}.")
        }
        _ => failure.to_string(),
    }
}

/// Whole ones, rounded up.
pub(super) fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX)
}

fn decide(executor: &Executor, attempt: &Attempt, failure: CallFailure, after: Option<i64>) -> Verdict {
    let now = executor.app.now();
    verdict(&attempt.retry, attempt.attempt, failure, attempt.repeatable, after, now, rand::random())
}

/// What expressions see: decoded body, status, headers by lower-case name. Cookies stay out.
fn value_of(answer: &OutboundResponse) -> Value {
    json!({ "output": answer.decoded(), "status": answer.status, "headers": answer.shown_headers() })
}
