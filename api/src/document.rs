//! The OpenAPI document: what poem-openapi collects, completed with what it cannot know.
//!
//! Extractors tell the document more than security through the list of security schemes, the one channel poem-openapi
//! has: an entry with a `|` in it is a note (`permission|…`, `query|…`). Here notes become permissions and parameters,
//! and every operation gets the errors it can give, from the problem table.

use domain::error::Code;
use serde_json::{Map, Value, json};

use crate::{examples, problem::status_of};

/// Notes that are not of one extractor alone.
pub mod note {
    pub const PUBLIC: &str = "permission|public";
}

/// Completes the document; keys are sorted, so that the text is the same in every build.
pub fn complete(spec: &str) -> Result<Value, serde_json::Error> {
    let mut document: Value = serde_json::from_str(spec)?;
    let closed = request_schemas(&document);
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, item) in paths {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                complete_operation(path, method, operation);
            }
        }
    }
    for name in closed {
        // Unknown fields are refused: the document says so.
        document["components"]["schemas"][name.as_str()]["additionalProperties"] = json!(false);
    }
    let mut document = renamed(document);
    document["components"]["schemas"]["Error"] = error_schema();
    document["components"]["headers"] = headers();
    Ok(sorted(document))
}

const SCHEMAS: &str = "#/components/schemas/";

/// Our types' names in the words of the contract: `ConnectionJson` is a `Connection`, `LoginBody` a `LoginRequest`.
fn public_name(name: &str) -> String {
    match (name.strip_suffix("Json"), name.strip_suffix("Body")) {
        (Some(noun), _) => noun.to_owned(),
        (_, Some(noun)) => format!("{noun}Request"),
        _ => name.to_owned(),
    }
}

fn renamed(mut document: Value) -> Value {
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        *schemas = std::mem::take(schemas).into_iter().map(|(name, schema)| (public_name(&name), schema)).collect();
    }
    rename_references(&mut document);
    document
}

fn rename_references(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(SCHEMAS)
            {
                *reference = format!("{SCHEMAS}{}", public_name(name));
            }
            map.values_mut().for_each(rename_references);
        }
        Value::Array(items) => items.iter_mut().for_each(rename_references),
        _ => {}
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Names of the object schemas that request bodies use, nested ones too.
fn request_schemas(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let operations = document["paths"].as_object().into_iter().flatten().filter_map(|(_, item)| item.as_object());
    for operation in operations.flat_map(Map::values) {
        collect(document, &operation["requestBody"], &mut found);
    }
    found
}

fn collect(document: &Value, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(SCHEMAS));
            if let Some(name) = name.filter(|name| !found.iter().any(|known| known == name)) {
                let schema = &document["components"]["schemas"][name];
                if schema["properties"].is_object() {
                    found.push(name.to_owned());
                }
                collect(document, schema, found);
            }
            map.values().for_each(|value| collect(document, value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(document, value, found)),
        _ => {}
    }
}

fn complete_operation(path: &str, method: &str, operation: &mut Value) {
    let entries = operation["security"].as_array().cloned().unwrap_or_default();
    let names = || entries.iter().filter_map(Value::as_object).flat_map(Map::keys);
    let permission = names().find_map(|name| name.strip_prefix("permission|")).unwrap_or("public").to_owned();
    let public = permission == "public";
    let security: Vec<&Value> =
        entries.iter().filter(|entry| entry.as_object().is_some_and(|e| e.keys().all(|k| !k.contains('|')))).collect();
    let security = json!(security);
    let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    parameters.extend(names().filter_map(|name| query_parameter(name)));
    parameters.extend(header_parameters(path, method, public));
    let has_body = operation["requestBody"].is_object();
    let has_query = parameters.iter().any(|parameter| parameter["in"] == "query");
    operation["security"] = security;
    operation["x-permission"] = json!(permission);
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if has_body {
        operation["requestBody"]["description"] = json!("Unknown fields are refused; every fault is named.");
        if let Some(example) = examples::request(method, path) {
            for media in operation["requestBody"]["content"].as_object_mut().into_iter().flat_map(Map::values_mut) {
                media["example"] = example.clone();
            }
        }
    }
    for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = json!("Done.");
        }
        add_headers(path, method, status, response);
    }
    for (status, codes) in errors(path, method, public, has_body, has_query) {
        operation["responses"][status.as_str()] = error_response(&codes);
    }
}

/// `query|name|kind|description` as a parameter.
fn query_parameter(name: &str) -> Option<Value> {
    let mut parts = name.strip_prefix("query|")?.splitn(3, '|');
    let (name, kind, description) = (parts.next()?, parts.next()?, parts.next()?);
    let (kind, rest) = kind.split_once(':').unwrap_or((kind, ""));
    let schema = match kind {
        "integer" => {
            let mut bounds = rest.split(':').map(|text| text.parse::<u64>().ok());
            let (min, max, default) = (bounds.next().flatten(), bounds.next().flatten(), bounds.next().flatten());
            json!({ "type": "integer", "minimum": min, "maximum": max, "default": default })
        }
        "id" => {
            json!({ "type": "string", "format": "typeid", "pattern": format!("^{rest}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$") })
        }
        "one" => json!({ "type": "string", "enum": rest.split(',').collect::<Vec<_>>() }),
        "some" => {
            let choice = rest.replace(',', "|");
            json!({ "type": "string", "pattern": format!("^({choice})(,({choice}))*$") })
        }
        // A day alone is taken too, so no format is claimed.
        "date-time" => json!({ "type": "string", "example": "2026-01-31T12:00:00Z" }),
        _ => json!({ "type": "string", "maxLength": 1000 }),
    };
    Some(json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema }))
}

fn header(name: &str, description: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "header", "required": false, "description": description, "schema": schema })
}

fn header_parameters(path: &str, method: &str, public: bool) -> Vec<Value> {
    if public {
        return Vec::new();
    }
    if method == "get" {
        let text = "A write's position: the answer shows that write, or is 503 after a bounded wait.";
        return vec![header("X-Event-Position", text, json!({ "type": "string" }))];
    }
    let text = "The same key and request within 24 hours give the first answer again.";
    let mut all = vec![header("Idempotency-Key", text, json!({ "type": "string", "maxLength": 255 }))];
    if path.ends_with('}') && matches!(method, "put" | "patch") {
        let text = "The ETag that was read; a newer version is 409.";
        all.push(header("If-Match", text, json!({ "type": "string" })));
    }
    all
}

fn add_headers(path: &str, method: &str, status: &str, response: &mut Value) {
    let mut names = vec!["X-Request-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];
    if path.starts_with("/health") {
        names.truncate(1);
    }
    if method != "get" {
        names.push("X-Event-Position");
    }
    if path.ends_with("{id}") && method != "delete" && status == "200" {
        names.push("ETag");
    }
    for name in names {
        response["headers"][name] = json!({ "$ref": format!("#/components/headers/{name}") });
    }
}

fn headers() -> Value {
    let of = |description: &str, kind: &str| json!({ "description": description, "schema": { "type": kind } });
    json!({
        "X-Request-Id": of("The request's id: yours, or one made for it. Every event of the request carries it.", "string"),
        "X-Event-Position": of("The write's place in the log. Opaque; a read that sends it back sees the write.", "string"),
        "ETag": of("The resource's version, for If-Match.", "string"),
        "X-RateLimit-Limit": of("Requests allowed in the window.", "integer"),
        "X-RateLimit-Remaining": of("Requests left in the window.", "integer"),
        "X-RateLimit-Reset": of("When the window ends: seconds since 1970.", "integer"),
    })
}

/// What an operation can answer besides success, by status.
fn errors(path: &str, method: &str, public: bool, has_body: bool, has_query: bool) -> Vec<(String, Vec<Code>)> {
    let mut codes = vec![Code::InternalError, Code::ServiceUnavailable];
    let writes = method != "get";
    if !path.starts_with("/health") && path != "/openapi" {
        codes.push(Code::RateLimitExceeded);
    }
    if !public {
        codes.extend([
            Code::Unauthorized,
            Code::InvalidToken,
            Code::TokenExpired,
            Code::Forbidden,
            Code::ValidationError,
        ]);
        codes.push(Code::ResourceNotFound);
        if writes {
            codes.extend([Code::Conflict, Code::IdempotencyConflict]);
        }
    }
    if has_body {
        codes.extend([Code::MalformedJson, Code::PayloadTooLarge, Code::UnsupportedMediaType]);
    }
    if has_body || has_query || path.contains('{') {
        codes.push(Code::ValidationError);
    }
    codes.extend(special(path, method));
    let mut by_status: std::collections::BTreeMap<u16, Vec<Code>> = Default::default();
    for code in Code::ALL.into_iter().filter(|code| codes.contains(code)) {
        by_status.entry(status_of(code).as_u16()).or_default().push(code);
    }
    by_status.into_iter().map(|(status, codes)| (status.to_string(), codes)).collect()
}

/// What depends on the noun or the verb.
fn special(path: &str, method: &str) -> Vec<Code> {
    let mut codes = Vec::new();
    let nouns = [
        ("connections/{id}", Code::ConnectionNotFound),
        ("credentials", Code::CredentialNotFound),
        ("secrets/{id}", Code::CredentialNotFound),
        ("workflows/{id}", Code::WorkflowNotFound),
        ("executions/{id}", Code::ExecutionNotFound),
        ("webhooks/{id}", Code::WebhookNotFound),
        ("api-keys/{id}", Code::ApiKeyNotFound),
        ("chat/execute", Code::PlanNotFound),
    ];
    codes.extend(nouns.into_iter().filter(|(part, _)| path.contains(part)).map(|(_, code)| code));
    match (path, method) {
        ("/auth/register", _) => codes.push(Code::EmailExists),
        ("/auth/login", _) => codes.push(Code::InvalidCredentials),
        ("/auth/refresh", _) => codes.push(Code::InvalidToken),
        (path, _) if path.starts_with("/oauth/") && path != "/oauth/providers" => {
            codes.extend([Code::Oauth2Error, Code::IntegrationError, Code::ConnectionNotFound]);
        }
        ("/chat", _) => codes.push(Code::AiServiceError),
        ("/chat/execute", _) => codes.extend([Code::AiServiceError, Code::ConfirmationRequired]),
        ("/connections/{id}/test", _) => codes.extend([Code::ApiConnectionFailed, Code::IntegrationError]),
        ("/workflows" | "/workflows/{id}" | "/workflows/{id}/execute", "post" | "put" | "patch") => {}
        _ if path.contains("executions/{id}/") && method == "post" => {
            codes.push(Code::ExecutionAlreadyCompleted);
        }
        _ => {}
    }
    codes
}

/// The schema has the example: hundreds of copies would only be slow to load.
fn error_response(codes: &[Code]) -> Value {
    let names: Vec<_> = codes.iter().map(|code| format!("`{}`", code.as_str())).collect();
    json!({
        "description": names.join(", "),
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    })
}

fn error_schema() -> Value {
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "required": ["success", "error", "code", "details", "requestId", "timestamp"],
        "properties": {
            "success": { "type": "boolean", "enum": [false] },
            "error": { "type": "string", "description": "One sentence a person can act on." },
            "code": { "type": "string", "enum": codes },
            "details": {
                "type": "array",
                "description": "Every wrong field, not the first only.",
                "items": {
                    "type": "object",
                    "required": ["field", "message"],
                    "properties": { "field": { "type": "string" }, "message": { "type": "string" } },
                },
            },
            "data": { "description": "What is needed to go on, such as the plan to confirm." },
            "retryAfter": { "type": "integer", "description": "Seconds, for RATE_LIMIT_EXCEEDED." },
            "requestId": { "type": "string" },
            "timestamp": { "type": "string", "format": "date-time" },
        },
        "example": {
            "success": false,
            "error": "steps[1].endpoint: is required (or operationId)",
            "code": "VALIDATION_ERROR",
            "details": [{ "field": "steps[1].endpoint", "message": "is required (or operationId)" }],
            "requestId": "req_01h455vb4pex5vsknk084sn02q",
            "timestamp": "2026-01-31T12:00:00.000Z",
        },
    })
}

/// For the document's introduction: every code with its status.
pub fn code_table() -> String {
    let rows: Vec<_> =
        Code::ALL.iter().map(|code| format!("| `{}` | {} |", code.as_str(), status_of(*code).as_u16())).collect();
    format!("| code | status |\n|---|---|\n{}\n", rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_become_parameters() {
        let parameter = query_parameter("query|limit|integer:1:100:20|Rows on a page.").unwrap();
        assert_eq!(parameter["schema"], json!({ "type": "integer", "minimum": 1, "maximum": 100, "default": 20 }));
        let parameter = query_parameter("query|status|some:on,off|State.").unwrap();
        assert_eq!(parameter["schema"]["pattern"], "^(on|off)(,(on|off))*$");
        assert!(query_parameter("permission|public").is_none());
        assert_eq!(crate::query::parts("query|a|string|b"), Some(("a", "string", "b")));
    }
}
