//! The connectors as use cases ask for them: what types there are, what is wrong with an input, and the test.

use std::time::Duration;

use async_trait::async_trait;
use commands::ports::{ConnectorTest, Connectors, TestReport};
use domain::{connector::kind::ConnectorType, error::FieldError};
use integrations::{
    connectors::{Call, Failed, Job, Runner},
    egress::{EgressError, Scope},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

const TIMEOUT: Duration = Duration::from_secs(15);

pub struct ConnectorPort {
    runner: Runner,
    types: Vec<ConnectorType>,
}

impl ConnectorPort {
    pub fn new(runner: Runner) -> Self {
        Self { types: runner.kinds().cloned().collect(), runner }
    }
}

#[async_trait]
impl Connectors for ConnectorPort {
    fn types(&self) -> &[ConnectorType] {
        &self.types
    }

    fn check_input(
        &self,
        connector_type: &str,
        action: &str,
        input: &Map<String, Value>,
        path: &str,
    ) -> Vec<FieldError> {
        self.runner.check_input(connector_type, action, input, path)
    }

    fn check_credential(&self, connector_type: &str, data: &Value, path: &str) -> Vec<FieldError> {
        self.runner.check_credential(connector_type, data, path)
    }

    fn check_config(&self, connector_type: &str, config: &Value, path: &str) -> Vec<FieldError> {
        self.runner.check_config(connector_type, config, path)
    }

    async fn test(&self, target: ConnectorTest) -> TestReport {
        let credential = match opened(target.credential.as_ref()) {
            Ok(credential) => credential,
            Err(message) => return bad("credential", message.to_owned()),
        };
        let config = target.config.as_object().cloned().unwrap_or_default();
        let scope = Scope {
            workspace: Some(target.workspace),
            connector: Some(target.connector.0),
            asked: true,
            ..Scope::default()
        };
        let input = Map::new();
        let ran = self
            .runner
            .probe(Call {
                connector_type: &target.connector_type,
                job: Job {
                    action: "",
                    input: &input,
                    config: &config,
                    credential: &credential,
                    key: None,
                    reference: "test",
                },
                traceparent: &target.traceparent,
                timeout: TIMEOUT,
                scope,
                origins: target.origins,
            })
            .await;
        let title = self.runner.kind(&target.connector_type).map_or("the service", |kind| kind.title);
        let report = match ran.result {
            Ok(answer) => {
                let message = format!("{title} took the credential: the connector works.");
                TestReport { ok: true, message, status: answer.status, ..TestReport::default() }
            }
            Err(Failed::Wrong(wrong)) => bad(&wrong.code.to_ascii_lowercase(), wrong.message),
            Err(Failed::Refused(refused)) => {
                let problem = problem_of(refused.refusal.like, &refused.refusal.code);
                TestReport { status: refused.answer.status, ..bad(problem, refused.refusal.message) }
            }
            Err(Failed::Egress(error)) => bad(problem_with(&error), format!("{title} cannot be reached: {error}.")),
        };
        let elapsed_ms = ran.call.as_ref().map_or(0, |call| call.duration_ms);
        TestReport { elapsed_ms, call: ran.call, ..report }
    }
}

/// A credential's data; nothing where there is none.
pub(crate) fn opened(value: Option<&SecretString>) -> Result<Map<String, Value>, &'static str> {
    let Some(value) = value else { return Ok(Map::new()) };
    serde_json::from_str(value.expose_secret()).map_err(|_| "The stored credential has another form: store it again.")
}

fn bad(problem: &str, message: String) -> TestReport {
    TestReport { message, problem: Some(problem.to_owned()), ..TestReport::default() }
}

fn problem_of(status: u16, code: &str) -> &'static str {
    let word = code.to_ascii_lowercase();
    let login = ["invalid_auth", "not_authed", "token_revoked", "account_inactive", "smtp_535", "smtp_534", "smtp_530"];
    match status {
        401 => "unauthorised",
        403 => "forbidden",
        429 => "rate_limited",
        _ if login.iter().any(|end| word.ends_with(end)) => "unauthorised",
        500.. => "server_error",
        _ => "refused",
    }
}

fn problem_with(error: &EgressError) -> &'static str {
    match error {
        EgressError::Dns { .. } => "dns",
        EgressError::Tls { .. } => "tls",
        EgressError::Timeout { .. } => "timeout",
        EgressError::BlockedAddress { .. } | EgressError::BlockedPort { .. } | EgressError::BlockedScheme { .. } => {
            "blocked"
        }
        EgressError::NotApproved { .. } => "not_approved",
        _ => "unreachable",
    }
}
