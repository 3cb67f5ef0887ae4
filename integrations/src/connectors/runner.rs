//! Does what connectors say: checks, sends through the egress guard, reads the answer, keeps secrets out of it.

use std::sync::Arc;
use std::time::Duration;

use domain::{connector::kind::ConnectorType, error::FieldError};
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::{
    Caps, Connector, Input, Job, Outgoing, Wrong, all,
    outcome::{Answer, Failed, Ran, Refusal, Refused, by_status, is_done},
    redact::{self, Secrets},
    schema,
    smtp::is_near,
};
use crate::egress::{Egress, OutboundRequest, OutboundResponse, Scope};

/// Bytes of an answer that are kept.
const MAX_ANSWER: u64 = 8 * 1024 * 1024;

/// Every connector, ready to be used. Cheap to clone.
#[derive(Clone)]
pub struct Runner {
    egress: Egress,
    caps: Caps,
    connectors: Arc<Vec<(ConnectorType, Box<dyn Connector>)>>,
}

/// An action to be done, and on whose behalf.
pub struct Call<'a> {
    pub connector_type: &'a str,
    pub job: Job<'a>,
    pub traceparent: &'a str,
    pub timeout: Duration,
    pub scope: Scope,
    /// The only origins that may be called, where an organization approves them.
    pub origins: Option<Vec<String>>,
}

impl Runner {
    pub fn new(egress: Egress, caps: Caps) -> Self {
        let connectors = all().into_iter().map(|connector| (connector.kind(), connector)).collect();
        Self { egress, caps, connectors: Arc::new(connectors) }
    }

    pub fn kinds(&self) -> impl Iterator<Item = &ConnectorType> {
        self.connectors.iter().map(|(kind, _)| kind)
    }

    fn find(&self, name: &str) -> Option<&(ConnectorType, Box<dyn Connector>)> {
        self.connectors.iter().find(|(kind, _)| kind.name == name)
    }

    pub fn kind(&self, name: &str) -> Option<&ConnectorType> {
        self.find(name).map(|(kind, _)| kind)
    }

    /// Every fault of an action's input, its place behind `path`.
    pub fn check_input(
        &self,
        connector_type: &str,
        action: &str,
        input: &Map<String, Value>,
        path: &str,
    ) -> Vec<FieldError> {
        self.faults(connector_type, action, &Input::unevaluated(input), path, true)
    }

    fn faults(&self, connector_type: &str, action: &str, input: &Input<'_>, path: &str, open: bool) -> Vec<FieldError> {
        let Some((kind, connector)) = self.find(connector_type) else { return Vec::new() };
        let Some(described) = kind.action(action) else { return Vec::new() };
        let value = Value::Object(input.map().clone());
        let mut faults = schema::faults(&described.input, &value, path, open);
        extend(&mut faults, connector.check(action, input, &self.caps), path);
        faults
    }

    /// Every fault of a credential's data; no message holds a value.
    pub fn check_credential(&self, connector_type: &str, data: &Value, path: &str) -> Vec<FieldError> {
        let Some((kind, connector)) = self.find(connector_type) else { return Vec::new() };
        let mut faults = schema::faults(&kind.credential, data, path, false);
        if let Value::Object(map) = data {
            extend(&mut faults, connector.check_credential(map), path);
            let secret = !redact::secrets_of(&kind.credential, map).is_empty();
            for field in ["baseUrl", "webhookUrl"] {
                let url = map.get(field).and_then(Value::as_str);
                extend(&mut faults, self.check_place(field, url), path);
                extend(&mut faults, url.filter(|_| secret).and_then(|url| in_the_open(field, url)), path);
            }
            if let (Some(host), Some(port)) = (map.get("host").and_then(Value::as_str), port(map)) {
                let refused = self.egress.check_host(host, port).err();
                extend(&mut faults, refused.map(|error| FieldError::new("host", error.to_string())), path);
            }
        }
        faults
    }

    /// Every fault of an instance's config.
    pub fn check_config(&self, connector_type: &str, config: &Value, path: &str) -> Vec<FieldError> {
        let Some((kind, _)) = self.find(connector_type) else { return Vec::new() };
        let mut faults = schema::faults(&kind.config, config, path, false);
        extend(&mut faults, self.check_place("baseUrl", config.get("baseUrl").and_then(Value::as_str)), path);
        faults
    }

    /// What will never be called is refused by its looks.
    fn check_place(&self, field: &str, url: Option<&str>) -> Vec<FieldError> {
        let refused = url.and_then(|url| self.egress.policy().check_url(url).err());
        refused.map(|error| FieldError::new(field, error.to_string())).into_iter().collect()
    }

    /// Why an action does not take a rendered input; asked before it is stored, and again before it is sent.
    pub fn misfit(&self, connector_type: &str, action: &str, input: &Map<String, Value>) -> Option<Wrong> {
        let faults = self.faults(connector_type, action, &Input::rendered(input), "", false);
        (!faults.is_empty()).then(|| Wrong::new("BAD_INPUT", told(&faults)))
    }

    /// Does it. The input is checked once more, as it is now.
    pub async fn run(&self, call: Call<'_>) -> Ran {
        let unknown = || Wrong::new("CONNECTOR_UNKNOWN", "This build has no connector of this type with this action.");
        let Some((kind, connector)) = self.find(call.connector_type) else { return wrong(unknown()) };
        if kind.action(call.job.action).is_none() {
            return wrong(unknown());
        }
        if kind.credential_required && call.job.credential.is_empty() {
            return wrong(Wrong::new("CREDENTIAL_MISSING", "The step has no credential: give credentialId."));
        }
        if let Some(misfit) = self.misfit(call.connector_type, call.job.action, call.job.input) {
            return wrong(misfit);
        }
        let outgoing = match connector.request(&call.job) {
            Ok(outgoing) => outgoing,
            Err(error) => return wrong(error),
        };
        let action = call.job.action;
        self.send(kind, connector.as_ref(), outgoing, &call, |answer| connector.read(action, answer)).await
    }

    /// A harmless request with the credential.
    pub async fn probe(&self, call: Call<'_>) -> Ran {
        let unknown = || Wrong::new("CONNECTOR_UNKNOWN", "This build has no connector of this type.");
        let Some((kind, connector)) = self.find(call.connector_type) else { return wrong(unknown()) };
        if kind.credential_required && call.job.credential.is_empty() {
            return wrong(Wrong::new("CREDENTIAL_MISSING", "The connector has no credential: give it one."));
        }
        match connector.probe(&call.job) {
            // Slack's verdict is in the body here too.
            Ok(outgoing) => {
                self.send(kind, connector.as_ref(), outgoing, &call, |answer| match answer.status {
                    status if is_done(status) => connector.read("", answer),
                    _ => by_status(kind.title, answer),
                })
                .await
            }
            Err(error) => wrong(error),
        }
    }

    async fn send(
        &self,
        kind: &ConnectorType,
        connector: &dyn Connector,
        outgoing: Outgoing,
        call: &Call<'_>,
        read: impl FnOnce(&OutboundResponse) -> Result<Value, Refusal>,
    ) -> Ran {
        let mut values = redact::secrets_of(&kind.credential, call.job.credential);
        values.extend(connector.derived_secrets(call.job.credential));
        let secrets = Secrets::of(&values);
        let mut ran = match outgoing {
            Outgoing::Mail(mail) => mail.send(&self.egress, call.scope, call.timeout, call.origins.as_deref()).await,
            Outgoing::Http(request) => self.http(request, call, read).await,
        };
        ran.call = ran.call.map(|facts| redact::facts(facts, &secrets));
        let answer = match &mut ran.result {
            Ok(answer) => answer,
            Err(Failed::Refused(Refused { refusal, answer, .. })) => {
                refusal.redact(kind.title, &secrets);
                answer
            }
            Err(_) => return ran,
        };
        redact::value(&mut answer.output, &secrets);
        redact::map_of(&mut answer.headers, &secrets);
        ran
    }

    async fn http(
        &self,
        mut request: OutboundRequest,
        call: &Call<'_>,
        read: impl FnOnce(&OutboundResponse) -> Result<Value, Refusal>,
    ) -> Ran {
        let has =
            |name: &str, request: &OutboundRequest| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        for (name, value) in [
            ("Accept", "application/json, */*;q=0.5"),
            ("User-Agent", concat!("apiq/", env!("CARGO_PKG_VERSION"))),
            ("traceparent", call.traceparent),
        ] {
            if !has(name, &request) && !value.is_empty() {
                request = request.header(name, value);
            }
        }
        let begun = request.facts();
        // One credential may be for several hosts' limits (a step of `http` without any): each has its own.
        let holder = call.scope.connector.map(|owner| Uuid::new_v5(&owner, begun.host.as_bytes()));
        let scope = Scope { connector: holder, ..call.scope };
        let request = request.timeout(call.timeout).max_response_bytes(MAX_ANSWER).scope(scope);
        let request = request.origins(call.origins.clone());
        let started = std::time::Instant::now();
        match self.egress.send(request).await {
            Err(error) => {
                let facts = error.complete(begun, started.elapsed());
                Ran { result: Err(Failed::Egress(error)), call: Some(facts) }
            }
            Ok(response) => {
                let answer =
                    |output| Answer { output, status: Some(response.status), headers: response.shown_headers() };
                let result = read(&response).map(answer).map_err(|refusal| {
                    let answer = answer(response.decoded());
                    Failed::Refused(Refused { refusal, answer, retry_after: response.retry_after })
                });
                Ran { result, call: Some(response.complete(begun)) }
            }
        }
    }
}

fn wrong(wrong: Wrong) -> Ran {
    Ran { result: Err(Failed::Wrong(wrong)), call: None }
}

/// A secret travels encrypted, but to a server on this machine.
fn in_the_open(field: &str, url: &str) -> Option<FieldError> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "http")?;
    let message =
        "must be https: http sends the secret for everybody to read; only a server on this machine may have it so";
    (!is_near(url.host_str().unwrap_or_default())).then(|| FieldError::new(field, message))
}

fn port(map: &Map<String, Value>) -> Option<u16> {
    map.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok())
}

/// Each field once; the schema's word goes first.
fn extend(faults: &mut Vec<FieldError>, more: impl IntoIterator<Item = FieldError>, path: &str) {
    for fault in more {
        let field = if path.is_empty() { fault.field } else { format!("{path}.{}", fault.field) };
        if !faults.iter().any(|known| known.field == field) {
            faults.push(FieldError::new(field, fault.message));
        }
    }
}

/// The first faults in one sentence: `text: is required; channel: …`.
fn told(faults: &[FieldError]) -> String {
    let shown: Vec<String> = faults.iter().take(10).map(|f| format!("{}: {}", f.field, f.message)).collect();
    shown.join("; ")
}
