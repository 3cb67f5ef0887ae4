//! One action of a connector: instance and credential as they are now, then the connector, then the verdict.

use std::time::Duration;

use commands::{App, Context, Failure, connection};
use domain::{
    call::CallFacts,
    connector::Connector,
    credential::Credential,
    event::LogPosition,
    execution::{
        CredentialUse, RenderedAction, StepError, StepRef,
        retry::{Failure as CallFailure, Verdict, verdict},
    },
    ids::{CredentialId, WorkspaceId},
    workflow::definition::Retry,
};
use integrations::{
    connectors::{Answer, Call, Failed, Job, Ran, Refused},
    egress::{EgressError, Scope},
};
use serde_json::{Map, Value, json};
use vault::{ReadReceipt, VaultError};

use super::{
    Executor,
    call::{MAY_HAVE_ACTED, Outcome, Result, classify, error, seconds, words},
};
use crate::connectors::opened;

/// An attempt that is in the log and has not happened yet.
pub(super) struct ActionAttempt {
    pub step: StepRef,
    pub attempt: u32,
    pub action: RenderedAction,
    /// `Err`: why there is nothing to do.
    pub target: std::result::Result<ActionTarget, StepError>,
    pub key: Option<String>,
    /// Of this attempt alone.
    pub reference: String,
    pub repeatable: bool,
    pub timeout_ms: u64,
    pub retry: Retry,
    pub traceparent: String,
    /// Where `step_started` and `credential.read` were committed.
    pub committed_at: LogPosition,
}

/// With which credential and settings.
pub(super) struct ActionTarget {
    pub credential: Option<(CredentialId, i32)>,
    pub config: Map<String, Value>,
    /// The only origins that may be called, where an organization approves them.
    pub origins: Option<Vec<String>>,
}

impl ActionTarget {
    /// What the attempt will read.
    pub fn reads(&self, action: &RenderedAction) -> Option<CredentialUse> {
        let (credential, version) = self.credential?;
        let connector = action.connector_id;
        Some(CredentialUse { credential, version, connection: None, connector, purpose: "connector", host: None })
    }
}

/// Instance and credential as they are now.
pub(super) async fn target(
    app: &App,
    workspace: WorkspaceId,
    action: &RenderedAction,
) -> std::result::Result<std::result::Result<ActionTarget, StepError>, Failure> {
    let (mut credential, mut config) = (action.credential_id, Map::new());
    if let Some(id) = action.connector_id {
        let loaded = app.store().load::<Connector>(id.0).await?;
        let connector = loaded.state;
        if loaded.workspace != Some(workspace.0) || !connector.is_live() {
            return Ok(Err(error("CONNECTOR_GONE", "The connector was deleted.")));
        }
        if !connector.enabled {
            return Ok(Err(error("CONNECTOR_DISABLED", "The connector is switched off.")));
        }
        credential = credential.or(connector.credential);
        config = connector.config.as_object().cloned().unwrap_or_default();
    }
    let gate = connection::gate_of_late(app, workspace).await?;
    let origins = gate.required.then_some(gate.approved);
    let Some(id) = credential else { return Ok(Ok(ActionTarget { credential: None, config, origins })) };
    let loaded = app.store().load::<Credential>(id.0).await?;
    let stored = loaded.state;
    if loaded.workspace != Some(workspace.0) || !stored.is_live() {
        return Ok(Err(error("CREDENTIAL_MISSING", "The step's credential was deleted: store one.")));
    }
    if stored.kind != action.connector_type {
        return Ok(Err(error("CREDENTIAL_UNUSABLE", "The credential is of another type than the connector.")));
    }
    if stored.is_erased() {
        let message = "The step's credential was destroyed: store it again.";
        return Ok(Err(error("CREDENTIAL_UNREADABLE", message)));
    }
    if stored.is_expired(app.now()) {
        return Ok(Err(error("CREDENTIAL_EXPIRED", "The step's credential has expired: store a new value.")));
    }
    Ok(Ok(ActionTarget { credential: Some((id, stored.version)), config, origins }))
}

/// Does it. Always gives an outcome: what goes wrong here is one.
pub(super) async fn perform(executor: &Executor, context: Context, attempt: ActionAttempt) -> Outcome {
    let began = executor.app.now();
    let (result, call) = match run(executor, &context, &attempt).await {
        Ok(ran) => judge(executor, &attempt, ran),
        Err(error) => (Result::Failed { error, value: None, status: None, retry_at: None }, None),
    };
    let duration_ms = (executor.app.now() - began).num_milliseconds().max(0) as u64;
    Outcome { step: attempt.step, attempt: attempt.attempt, result, duration_ms, call }
}

async fn run(executor: &Executor, context: &Context, attempt: &ActionAttempt) -> std::result::Result<Ran, StepError> {
    let workspace = context.actor.workspace;
    let target = attempt.target.as_ref().map_err(Clone::clone)?;
    let mut value = None;
    if let Some((credential, version)) = target.credential {
        let receipt = ReadReceipt { committed_at: attempt.committed_at, credential, version };
        match executor.app.vault().reveal(workspace, &receipt).await {
            Ok(secret) => value = Some(secret),
            Err(failure) => {
                tracing::warn!(%failure, %credential, "a credential cannot be opened");
                let message = match failure {
                    VaultError::Erased => "The step's credential was destroyed: store it again.",
                    _ => "The step's credential cannot be opened: store it again.",
                };
                return Err(error("CREDENTIAL_UNREADABLE", message));
            }
        }
    }
    let credential = opened(value.as_ref()).map_err(|words| error("CREDENTIAL_UNUSABLE", words))?;
    let action = &attempt.action;
    let owner = action.connector_id.map(|id| id.0).or(target.credential.map(|(id, _)| id.0)).unwrap_or(workspace.0);
    let call = Call {
        connector_type: &action.connector_type,
        job: Job {
            action: &action.action,
            input: &action.input,
            config: &target.config,
            credential: &credential,
            key: attempt.key.as_deref(),
            reference: &attempt.reference,
        },
        traceparent: &attempt.traceparent,
        timeout: Duration::from_millis(attempt.timeout_ms),
        scope: Scope { workspace: Some(workspace), connector: Some(owner), ..Scope::default() },
        origins: target.origins.clone(),
    };
    Ok(executor.connectors.run(call).await)
}

fn judge(executor: &Executor, attempt: &ActionAttempt, ran: Ran) -> (Result, Option<CallFacts>) {
    let result = match ran.result {
        Ok(answer) => Result::Completed { status: answer.status, value: value_of(answer) },
        Err(Failed::Wrong(wrong)) => {
            Result::Failed { error: error(wrong.code, wrong.message), value: None, status: None, retry_at: None }
        }
        Err(Failed::Refused(refused)) => {
            let after = refused.retry_after.map(seconds);
            let Refused { refusal, answer, .. } = refused;
            match decide(executor, attempt, CallFailure::Status(refusal.like), after) {
                Verdict::OutcomeUnknown => {
                    let said = refusal.message.trim_end_matches('.');
                    Result::Unknown { reason: format!("{said}, {MAY_HAVE_ACTED}") }
                }
                decided => {
                    let retry_at = if let Verdict::Retry(at) = decided { Some(at) } else { None };
                    let (status, error) = (answer.status, error(&refusal.code, refusal.message));
                    Result::Failed { error, value: Some(value_of(answer)), status, retry_at }
                }
            }
        }
        Err(Failed::Egress(failure)) => {
            let (code, class) = match failure {
                EgressError::NotApproved { .. } => ("HOST_NOT_APPROVED", CallFailure::Final),
                _ => classify(&failure, attempt.repeatable),
            };
            let words = words(executor, &failure);
            match decide(executor, attempt, class, failure.retry_in().map(seconds)) {
                Verdict::OutcomeUnknown => Result::Unknown { reason: words },
                decided => {
                    let retry_at = if let Verdict::Retry(at) = decided { Some(at) } else { None };
                    Result::Failed { error: error(code, words), value: None, status: None, retry_at }
                }
            }
        }
    };
    (result, ran.call)
}

fn decide(executor: &Executor, attempt: &ActionAttempt, failure: CallFailure, after: Option<i64>) -> Verdict {
    let now = executor.app.now();
    verdict(&attempt.retry, attempt.attempt, failure, attempt.repeatable, after, now, rand::random())
}

/// As expressions see it.
fn value_of(answer: Answer) -> Value {
    json!({ "output": answer.output, "status": answer.status, "headers": answer.headers })
}
