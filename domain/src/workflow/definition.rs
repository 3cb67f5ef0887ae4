//! A workflow as typed steps, with every limit and default in one place.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::action::{ActionBinding, ConnectorCall};
use crate::{connection::Needs, ids::ConnectionId, operation::ParameterLocation};

#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub input_schema: Option<Value>,
    pub steps: Vec<Step>,
    pub output: Option<Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub id: String,
    pub name: String,
    /// `if`: the step is skipped when it is false.
    pub condition: Option<String>,
    pub retry: Retry,
    pub timeout_ms: u64,
    pub on_error: OnError,
    pub idempotency: Idempotency,
    pub kind: StepKind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum StepKind {
    ApiCall(ApiCall),
    Connector(ConnectorCall),
    Condition { expression: String, then: Vec<Step>, otherwise: Vec<Step> },
    Loop { items: Value, name: String, steps: Vec<Step>, max_concurrency: usize, max_iterations: usize },
    Transform { output: Value },
}

impl StepKind {
    pub fn as_str(&self) -> &'static str {
        match self {
            StepKind::ApiCall(_) => "api_call",
            StepKind::Connector(_) => "connector",
            StepKind::Condition { .. } => "condition",
            StepKind::Loop { .. } => "loop",
            StepKind::Transform { .. } => "transform",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ApiCall {
    pub connection_id: ConnectionId,
    pub method: Option<String>,
    /// Path template (`/customers/{id}`).
    pub endpoint: Option<String>,
    pub operation_id: Option<String>,
    /// Flat, matched by name to path, query, header, cookie and body.
    pub parameters: Map<String, Value>,
    pub path: Map<String, Value>,
    pub query: Map<String, Value>,
    pub headers: Map<String, Value>,
    pub body: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    #[default]
    Fail,
    Continue,
}

/// May a call be repeated when its outcome is unknown?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Idempotency {
    /// Safe methods and operations whose spec declares an idempotency header.
    #[default]
    Auto,
    /// The user's word: this server deduplicates by the `Idempotency-Key` header.
    Key,
    /// Never, and no key is sent.
    None,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    pub max_attempts: u32,
    pub initial_interval_ms: u64,
    pub max_interval_ms: u64,
    pub multiplier: f64,
    /// Share of the wait that is random, 0 to 1.
    pub jitter: f64,
    /// Which failures: `network`, `timeout`, `429`, `5xx`.
    pub on: Vec<String>,
}

pub const RETRY_CLASSES: [&str; 4] = ["network", "timeout", "429", "5xx"];
pub const DEFAULT_TIMEOUT_MS: u64 = 30_000;
pub const MAX_TIMEOUT_MS: u64 = 300_000;
pub const DEFAULT_ITERATIONS: usize = 1_000;
pub const MAX_ITERATIONS: usize = 10_000;
pub const MAX_STEPS: usize = 500;
pub const MAX_DEPTH: usize = 10;

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial_interval_ms: 1_000,
            max_interval_ms: 30_000,
            multiplier: 2.0,
            jitter: 0.2,
            on: RETRY_CLASSES.iter().map(|s| (*s).to_owned()).collect(),
        }
    }
}

/// What an `api_call` or `connector` step was bound to when the workflow was saved: the execution needs no spec.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    pub method: String,
    pub path: String,
    /// Declared parameters: where each name travels.
    #[serde(default)]
    pub parameters: Vec<(String, ParameterLocation)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The operation's own server where it differs from the connection's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The header the spec declares for deduplication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What the operation needs to be authorised, where the document says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Needs>,
    /// Of a `connector` step, which has nothing of the above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionBinding>,
}

impl Definition {
    /// Every call with its JSON path (`steps[0].then[1]`), in order.
    pub fn calls(&self) -> Vec<(String, &Step, &ApiCall)> {
        let all = self.steps_in_order().into_iter();
        all.filter_map(|(path, step)| match &step.kind {
            StepKind::ApiCall(call) => Some((path, step, call)),
            _ => None,
        })
        .collect()
    }

    /// Every step with its JSON path, containers before their children.
    pub(super) fn steps_in_order(&self) -> Vec<(String, &Step)> {
        fn go<'a>(steps: &'a [Step], path: &str, found: &mut Vec<(String, &'a Step)>) {
            for (index, step) in steps.iter().enumerate() {
                let path = format!("{path}[{index}]");
                found.push((path.clone(), step));
                match &step.kind {
                    StepKind::Condition { then, otherwise, .. } => {
                        go(then, &format!("{path}.then"), found);
                        go(otherwise, &format!("{path}.else"), found);
                    }
                    StepKind::Loop { steps, .. } => go(steps, &format!("{path}.steps"), found),
                    StepKind::ApiCall(_) | StepKind::Connector(_) | StepKind::Transform { .. } => {}
                }
            }
        }
        let mut found = Vec::new();
        go(&self.steps, "steps", &mut found);
        found
    }

    /// Every step, containers before their children.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Step)) {
        fn go<'a>(steps: &'a [Step], visit: &mut dyn FnMut(&'a Step)) {
            for step in steps {
                visit(step);
                match &step.kind {
                    StepKind::Condition { then, otherwise, .. } => {
                        go(then, visit);
                        go(otherwise, visit);
                    }
                    StepKind::Loop { steps, .. } => go(steps, visit),
                    StepKind::ApiCall(_) | StepKind::Connector(_) | StepKind::Transform { .. } => {}
                }
            }
        }
        go(&self.steps, visit);
    }

    /// The connections its steps call, each once.
    pub fn connections(&self) -> Vec<ConnectionId> {
        let mut ids = Vec::new();
        self.walk(&mut |step| {
            if let StepKind::ApiCall(call) = &step.kind
                && !ids.contains(&call.connection_id)
            {
                ids.push(call.connection_id);
            }
        });
        ids
    }

    /// The JSON a client gets back: what it sent, with ids filled in.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        if let Some(schema) = &self.input_schema {
            map.insert("inputSchema".into(), schema.clone());
        }
        map.insert("steps".into(), steps_json(&self.steps));
        if let Some(output) = &self.output {
            map.insert("output".into(), output.clone());
        }
        Value::Object(map)
    }
}

fn steps_json(steps: &[Step]) -> Value {
    Value::Array(steps.iter().map(step_json).collect())
}

fn step_json(step: &Step) -> Value {
    let mut map = Map::new();
    map.insert("id".into(), json!(step.id));
    map.insert("name".into(), json!(step.name));
    map.insert("type".into(), json!(step.kind.as_str()));
    let mut put = |name: &str, value: Value| {
        map.insert(name.into(), value);
    };
    match &step.kind {
        StepKind::ApiCall(call) => {
            put("connectionId", json!(call.connection_id));
            for (name, text) in
                [("method", &call.method), ("endpoint", &call.endpoint), ("operationId", &call.operation_id)]
            {
                if let Some(text) = text {
                    put(name, json!(text));
                }
            }
            for (name, fields) in [
                ("parameters", &call.parameters),
                ("path", &call.path),
                ("query", &call.query),
                ("headers", &call.headers),
            ] {
                if !fields.is_empty() {
                    put(name, Value::Object(fields.clone()));
                }
            }
            if let Some(body) = &call.body {
                put("body", body.clone());
            }
        }
        StepKind::Connector(call) => put("config", call.to_json()),
        StepKind::Condition { expression, then, otherwise } => {
            put("expression", json!(expression));
            put("then", steps_json(then));
            put("else", steps_json(otherwise));
        }
        StepKind::Loop { items, name, steps, max_concurrency, max_iterations } => {
            put("items", items.clone());
            put("as", json!(name));
            put("steps", steps_json(steps));
            put("maxConcurrency", json!(max_concurrency));
            put("maxIterations", json!(max_iterations));
        }
        StepKind::Transform { output } => put("output", output.clone()),
    }
    if let Some(condition) = &step.condition {
        put("if", json!(condition));
    }
    if step.retry != Retry::default() {
        put("retry", retry_json(&step.retry));
    }
    if step.timeout_ms != DEFAULT_TIMEOUT_MS {
        put("timeout", json!(format!("{}ms", step.timeout_ms)));
    }
    if step.on_error == OnError::Continue {
        put("onError", json!("continue"));
    }
    match step.idempotency {
        Idempotency::Auto => {}
        Idempotency::Key => put("idempotency", json!("key")),
        Idempotency::None => put("idempotency", json!("none")),
    }
    Value::Object(map)
}

fn retry_json(retry: &Retry) -> Value {
    json!({
        "maxAttempts": retry.max_attempts,
        "initialInterval": format!("{}ms", retry.initial_interval_ms),
        "maxInterval": format!("{}ms", retry.max_interval_ms),
        "multiplier": retry.multiplier,
        "jitter": retry.jitter,
        "on": retry.on,
    })
}
