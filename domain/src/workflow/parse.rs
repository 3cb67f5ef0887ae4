//! From a client's JSON to typed steps: shape, limits and unknown fields, all faults at once.

use serde_json::{Map, Value};

use super::{action::ConnectorCall, definition::*, fields::Fields};
use crate::{
    error::{Faults, FieldError},
    ids::ConnectionId,
};

const TYPES: [&str; 5] = ["api_call", "connector", "condition", "loop", "transform"];
const METHODS: [&str; 8] = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"];

impl Definition {
    /// Reads `{inputSchema?, steps[], output?}`. The error names every wrong field.
    pub fn parse(value: &Value) -> Result<Definition, Vec<FieldError>> {
        let mut reader = Reader::default();
        let definition = reader.definition(value);
        match definition {
            Some(definition) if reader.faults.0.is_empty() => Ok(definition),
            _ => Err(reader.faults.0),
        }
    }
}

#[derive(Default)]
struct Reader {
    faults: Faults,
    ids: Vec<String>,
}

impl Reader {
    fn definition(&mut self, value: &Value) -> Option<Definition> {
        let mut fields = Fields::of(value, String::new(), &mut self.faults)?;
        let input_schema = fields.value("inputSchema").cloned();
        if let Some(schema) = &input_schema {
            self.check_schema(schema);
        }
        let steps = match fields.list("steps", &mut self.faults) {
            Some(list) if !list.is_empty() => self.steps(list, "steps", 1),
            Some(_) => {
                self.faults.add("steps", "must hold at least one step");
                Vec::new()
            }
            None => {
                if !self.faults.0.iter().any(|f| f.field == "steps") {
                    self.faults.add("steps", "is required");
                }
                Vec::new()
            }
        };
        let output = fields.value("output").cloned();
        fields.finish(&mut self.faults);
        Some(Definition { input_schema, steps, output })
    }

    fn check_schema(&mut self, schema: &Value) {
        if !schema.is_object() {
            self.faults.add("inputSchema", "must be a JSON Schema (an object)");
        } else if let Err(error) = jsonschema::validator_for(schema) {
            self.faults.add("inputSchema", format!("is no valid JSON Schema: {error}"));
        }
    }

    fn steps(&mut self, list: &[Value], path: &str, depth: usize) -> Vec<Step> {
        if depth > MAX_DEPTH {
            self.faults.add(path, format!("steps are nested more than {MAX_DEPTH} deep"));
            return Vec::new();
        }
        list.iter().enumerate().filter_map(|(i, v)| self.step(v, format!("{path}[{i}]"), depth)).collect()
    }

    fn step(&mut self, value: &Value, path: String, depth: usize) -> Option<Step> {
        if self.ids.len() >= MAX_STEPS {
            if self.ids.len() == MAX_STEPS {
                self.faults.add(path, format!("a workflow has at most {MAX_STEPS} steps"));
                self.ids.push(String::new());
            }
            return None;
        }
        let mut fields = Fields::of(value, path, &mut self.faults)?;
        let name = fields.text("name", &mut self.faults).map(str::to_owned);
        let id = self.id(&mut fields, name.as_deref());
        let kind = fields.required_text("type", &mut self.faults);
        let condition = fields.text("if", &mut self.faults).map(str::to_owned);
        let retry = self.retry(&mut fields);
        let timeout_ms = fields.duration("timeout", MAX_TIMEOUT_MS, &mut self.faults).unwrap_or(DEFAULT_TIMEOUT_MS);
        let on_error = match fields.choice("onError", &["fail", "continue"], &mut self.faults) {
            Some("continue") => OnError::Continue,
            _ => OnError::Fail,
        };
        let idempotency = match fields.choice("idempotency", &["auto", "key", "none"], &mut self.faults) {
            Some("key") => Idempotency::Key,
            Some("none") => Idempotency::None,
            _ => Idempotency::Auto,
        };
        let kind = match kind {
            Some("api_call") => self.api_call(&mut fields),
            Some("connector") => {
                let config = fields.value("config");
                ConnectorCall::parse(config, &fields.at("config"), &mut self.faults).map(StepKind::Connector)
            }
            Some("condition") => self.condition(&mut fields, depth),
            Some("loop") => self.repeat(&mut fields, depth),
            Some("transform") => match fields.value("output") {
                Some(output) => Some(StepKind::Transform { output: output.clone() }),
                None => {
                    self.faults.add(fields.at("output"), "is required");
                    None
                }
            },
            Some(_) => {
                self.faults.add(fields.at("type"), format!("must be one of {}", TYPES.join(", ")));
                return None;
            }
            None => return None,
        };
        fields.finish(&mut self.faults);
        let name = name.unwrap_or_else(|| id.clone());
        Some(Step { id, name, condition, retry, timeout_ms, on_error, idempotency, kind: kind? })
    }

    /// A given id must be a unique slug; without one it is made from the name.
    fn id(&mut self, fields: &mut Fields, name: Option<&str>) -> String {
        let given = fields.text("id", &mut self.faults);
        let mut id = given.map(str::to_owned).or_else(|| name.map(slug)).unwrap_or_default();
        let well_formed = id.len() <= 64
            && id.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if given.is_some() && !well_formed {
            self.faults
                .add(fields.at("id"), "must be letters, digits and underscores, start with a letter, at most 64");
        }
        if given.is_none() && !well_formed {
            id = format!("step_{}", self.ids.len() + 1);
        }
        if self.ids.contains(&id) {
            if given.is_some() {
                self.faults.add(fields.at("id"), format!("{id:?} is the id of an earlier step"));
            }
            let base = id.clone();
            id = (2..).map(|n| format!("{base}_{n}")).find(|c| !self.ids.contains(c)).unwrap_or(base);
        }
        self.ids.push(id.clone());
        id
    }

    fn retry(&mut self, fields: &mut Fields) -> Retry {
        let mut retry = Retry::default();
        let Some(value) = fields.value("retry") else { return retry };
        let Some(mut inner) = Fields::of(value, fields.at("retry"), &mut self.faults) else { return retry };
        let faults = &mut self.faults;
        if let Some(n) = inner.integer("maxAttempts", 1, 20, faults) {
            retry.max_attempts = n as u32;
        }
        if let Some(ms) = inner.duration("initialInterval", 3_600_000, faults) {
            retry.initial_interval_ms = ms;
        }
        if let Some(ms) = inner.duration("maxInterval", 86_400_000, faults) {
            retry.max_interval_ms = ms;
        }
        if let Some(n) = inner.number("multiplier", 1.0, 10.0, faults) {
            retry.multiplier = n;
        }
        if let Some(n) = inner.number("jitter", 0.0, 1.0, faults) {
            retry.jitter = n;
        }
        if let Some(list) = inner.list("on", faults) {
            retry.on = list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
            if retry.on.len() != list.len() || retry.on.iter().any(|c| !RETRY_CLASSES.contains(&c.as_str())) {
                faults.add(inner.at("on"), format!("may hold {}", RETRY_CLASSES.join(", ")));
            }
        }
        inner.finish(faults);
        retry
    }

    fn api_call(&mut self, fields: &mut Fields) -> Option<StepKind> {
        let faults = &mut self.faults;
        let alias = fields.value("apiConnectionId").is_some();
        let connection = if alias {
            if fields.value("connectionId").is_some() {
                faults.add(fields.at("apiConnectionId"), "is an alias of connectionId: give one of them");
            }
            fields.required_text("apiConnectionId", faults)
        } else {
            fields.required_text("connectionId", faults)
        };
        let connection_id = connection.and_then(|text| match text.parse::<ConnectionId>() {
            Ok(id) => Some(id),
            Err(error) => {
                faults.add(fields.at("connectionId"), error.to_string());
                None
            }
        });
        let method = fields.text("method", faults).map(str::to_ascii_uppercase);
        if let Some(method) = &method
            && !METHODS.contains(&method.as_str())
        {
            faults.add(fields.at("method"), format!("must be one of {}", METHODS.join(", ")));
        }
        let endpoint = fields.text("endpoint", faults).map(str::to_owned);
        let operation_id = fields.text("operationId", faults).map(str::to_owned);
        if operation_id.is_none() && endpoint.is_none() {
            faults.add(fields.at("endpoint"), "is required (or operationId)");
        }
        if endpoint.is_some() && method.is_none() {
            faults.add(fields.at("method"), "is required with endpoint");
        }
        if let Some(endpoint) = &endpoint
            && !endpoint.starts_with('/')
        {
            faults.add(fields.at("endpoint"), "must be a path that starts with /; the connection knows the host");
        }
        let parameters = fields.object("parameters", faults);
        let path = fields.object("path", faults);
        let query = fields.object("query", faults);
        let headers = fields.object("headers", faults);
        check_headers(&headers, &fields.at("headers"), faults);
        let body = fields.value("body").cloned();
        Some(StepKind::ApiCall(ApiCall {
            connection_id: connection_id?,
            method,
            endpoint,
            operation_id,
            parameters,
            path,
            query,
            headers,
            body,
        }))
    }

    fn condition(&mut self, fields: &mut Fields, depth: usize) -> Option<StepKind> {
        let expression = fields.required_text("expression", &mut self.faults).map(str::to_owned);
        let mut branch = |reader: &mut Self, name: &'static str| {
            let list = fields.list(name, &mut reader.faults);
            list.map(|l| reader.steps(l, &fields.at(name), depth + 1)).unwrap_or_default()
        };
        let then = branch(self, "then");
        let otherwise = branch(self, "else");
        // A branch whose steps are wrong says so itself.
        let branches = [fields.at("then"), fields.at("else")];
        let said = |f: &FieldError| branches.iter().any(|b| f.field.starts_with(b.as_str()));
        if then.is_empty() && otherwise.is_empty() && !self.faults.0.iter().any(said) {
            self.faults.add(fields.at("then"), "a condition needs steps in then or else");
        }
        Some(StepKind::Condition { expression: expression?, then, otherwise })
    }

    fn repeat(&mut self, fields: &mut Fields, depth: usize) -> Option<StepKind> {
        let items = fields.value("items").cloned();
        match &items {
            None => self.faults.add(fields.at("items"), "is required"),
            Some(Value::String(_) | Value::Array(_)) => {}
            Some(_) => self.faults.add(fields.at("items"), "must be a list or an expression that gives one"),
        }
        let name = fields.text("as", &mut self.faults).unwrap_or("item").to_owned();
        let reserved = ["input", "steps", "execution", "secrets", "index"].contains(&name.as_str());
        let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if reserved || !plain {
            self.faults.add(fields.at("as"), "must be a plain name other than input, steps, execution, secrets, index");
        }
        let max_concurrency = fields.integer("maxConcurrency", 1, 64, &mut self.faults).unwrap_or(1) as usize;
        let max_iterations = fields
            .integer("maxIterations", 1, MAX_ITERATIONS as u64, &mut self.faults)
            .unwrap_or(DEFAULT_ITERATIONS as u64) as usize;
        let list = fields.list("steps", &mut self.faults);
        let steps = list.map(|l| self.steps(l, &fields.at("steps"), depth + 1)).unwrap_or_default();
        if list.is_none_or(Vec::is_empty) {
            self.faults.add(fields.at("steps"), "must hold at least one step");
        }
        Some(StepKind::Loop { items: items?, name, steps, max_concurrency, max_iterations })
    }
}

/// Headers that the engine or the vault sets, or that would let a step talk to another host.
fn check_headers(headers: &Map<String, Value>, path: &str, faults: &mut Faults) {
    const OURS: [&str; 8] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "idempotency-key",
    ];
    for name in headers.keys() {
        let lower = name.to_ascii_lowercase();
        let token =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !token {
            faults.add(format!("{path}.{name}"), "is no header name");
        } else if OURS.contains(&lower.as_str()) {
            faults.add(format!("{path}.{name}"), "is set by the engine; credentials belong to the connection");
        }
    }
}

/// `Send the E-mail!` to `send_the_e_mail`.
pub fn slug(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.ends_with('_') && !out.is_empty() {
            out.push('_');
        }
    }
    out.truncate(60);
    let trimmed = out.trim_end_matches('_');
    if trimmed.starts_with(|c: char| c.is_ascii_digit()) { format!("s_{trimmed}") } else { trimmed.to_owned() }
}
