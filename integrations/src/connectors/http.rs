//! Any HTTP API, without a document: one request with a bearer token, user name and password, or an API key.

use ::http::Method;
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    connector::kind::{Action, ConnectorType, Repeat},
    error::FieldError,
    operation::is_safe_method,
};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    Caps, Connector, Input, Job, Outgoing, Wrong,
    job::{bound, same_origin},
};
use crate::egress::OutboundRequest;

pub(super) struct Http;

/// Headers that are the credential's or the client's own.
const OURS: [&str; 9] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "idempotency-key",
];

/// The config of a connector that has nothing to set but its place.
pub(super) fn base_only() -> Value {
    json!({
        "type": "object", "additionalProperties": false,
        "properties": { "baseUrl": { "type": "string", "format": "uri", "description": "Where the service is." } },
    })
}

/// A value as one segment of a path.
pub(super) fn segment(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let write = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    value.bytes().map(write).collect()
}

impl Connector for Http {
    fn kind(&self) -> ConnectorType {
        let scalars = json!({ "type": "object", "additionalProperties": {
            "type": ["string", "number", "boolean", "array", "null"],
        } });
        let needs = |auth: &str, fields: &[&str]| json!({ "if": { "properties": { "auth": { "const": auth } }, "required": ["auth"] }, "then": { "required": fields } });
        ConnectorType {
            name: "http",
            title: "HTTP",
            description: "Requests to any HTTP API.",
            credential_required: false,
            credential: json!({
                "type": "object", "required": ["auth", "baseUrl"], "additionalProperties": false,
                "properties": {
                    "auth": { "enum": ["bearer", "basic", "api_key"] },
                    "baseUrl": { "type": "string", "format": "uri", "minLength": 1,
                                 "description": "The credential goes to this scheme, host and port only." },
                    "token": { "type": "string", "minLength": 1, "maxLength": 16384, "writeOnly": true },
                    "username": { "type": "string", "minLength": 1 },
                    "password": { "type": "string", "writeOnly": true },
                    "in": { "enum": ["header", "query"], "description": "Of an API key; header when absent." },
                    "name": { "type": "string", "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}$" },
                    "value": { "type": "string", "minLength": 1, "maxLength": 16384, "writeOnly": true },
                },
                "allOf": [
                    needs("bearer", &["token"]), needs("basic", &["username", "password"]), needs("api_key", &["name", "value"]),
                ],
            }),
            config: base_only(),
            actions: vec![Action {
                name: "request",
                title: "Send a request",
                description: "Safe methods are repeated when nobody knows what came of them; others with `idempotency: key` \
                              on the step, which is your word that the API honours Idempotency-Key.",
                repeat: Repeat::ByMethod,
                input: json!({
                    "type": "object", "required": ["url"], "additionalProperties": false,
                    "properties": {
                        "method": { "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] },
                        "url": { "type": "string", "minLength": 1,
                                 "description": "Absolute, or a path (/…) below the credential's or instance's baseUrl." },
                        "query": scalars, "headers": scalars,
                        "body": { "description": "An object or list is sent as JSON, a text as it is." },
                        "contentType": { "type": "string", "description": "application/json when absent; or a form." },
                    },
                }),
                output: json!({ "description": "The decoded body; status and headers beside it." }),
            }],
        }
    }

    fn check(&self, _: &str, input: &Input<'_>, _: &Caps) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if let Some(Value::Object(headers)) = input.map().get("headers") {
            for (name, value) in headers {
                let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
                if name.is_empty() || !name.bytes().all(token) {
                    faults.push(FieldError::new(format!("headers.{name}"), "is no header name"));
                } else if OURS.contains(&name.to_ascii_lowercase().as_str()) {
                    let message = "is set by the connector; a credential belongs into credentialId";
                    faults.push(FieldError::new(format!("headers.{name}"), message));
                }
                if !input.is_open(value) && value.as_str().is_some_and(|text| text.chars().any(char::is_control)) {
                    let message = "must not hold line breaks or other control characters";
                    faults.push(FieldError::new(format!("headers.{name}"), message));
                }
            }
        }
        if input.has("body") && !input.has("method") {
            faults.push(FieldError::new("method", "is required with a body"));
        }
        if input.text("contentType").is_some_and(|kind| kind.chars().any(char::is_control)) {
            faults.push(FieldError::new("contentType", "must not hold control characters"));
        }
        faults
    }

    fn check_credential(&self, data: &Map<String, Value>) -> Vec<FieldError> {
        let mut faults = Vec::new();
        for (name, value) in data {
            if value.as_str().is_some_and(|text| text.chars().any(char::is_control)) {
                faults.push(FieldError::new(name, "must not hold line breaks or other control characters"));
            }
        }
        if data.get("username").and_then(Value::as_str).is_some_and(|name| name.contains(':')) {
            faults.push(FieldError::new("username", "must not hold a colon"));
        }
        faults
    }

    fn request(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        let method = job.input.get("method").and_then(Value::as_str).unwrap_or("GET");
        let parsed = method.parse::<Method>().map_err(|_| Wrong::new("BAD_METHOD", "The method is not known."))?;
        let mut url = target(job)?;
        if let Some(Value::Object(query)) = job.input.get("query") {
            for (name, value) in query {
                match value {
                    Value::Null => {}
                    Value::Array(items) => {
                        url.query_pairs_mut().extend_pairs(items.iter().map(|item| (name, text(item))));
                    }
                    other => {
                        url.query_pairs_mut().append_pair(name, &text(other));
                    }
                }
            }
        }
        let mut request = OutboundRequest::new(parsed, url);
        if let Some(Value::Object(headers)) = job.input.get("headers") {
            for (name, value) in headers.iter().filter(|(_, value)| !value.is_null()) {
                request = request.header(name, text(value));
            }
        }
        if let (Some(key), false) = (job.key, is_safe_method(method)) {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = job.input.get("body").filter(|body| !body.is_null()) {
            let kind = job.input.get("contentType").and_then(Value::as_str).unwrap_or("application/json");
            request = request.header("Content-Type", kind).body(encode(kind, body)?);
        }
        Ok(Outgoing::Http(authorised(job, request)))
    }

    fn probe(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        let base = job.base("")?;
        let url = Url::parse(&base).map_err(|_| Wrong::new("BASE_URL_MISSING", "There is no baseUrl to call."))?;
        Ok(Outgoing::Http(authorised(job, OutboundRequest::get(url))))
    }

    fn derived_secrets(&self, credential: &Map<String, Value>) -> Vec<String> {
        let text = |name: &str| credential.get(name).and_then(Value::as_str);
        match (text("username"), text("password")) {
            (Some(user), Some(password)) => vec![STANDARD.encode(format!("{user}:{password}"))],
            _ => Vec::new(),
        }
    }
}

/// Where the request goes. With a credential, to the origin it was stored for and nowhere else.
fn target(job: &Job<'_>) -> Result<Url, Wrong> {
    let raw = job.text("url");
    let bad = || Wrong::new("BAD_URL", "The url is no absolute URL, and no path below a baseUrl.");
    if raw.chars().any(|c| c.is_control() || c == '\\') {
        return Err(bad());
    }
    let is_path = raw.starts_with('/') && !raw.starts_with("//");
    let whole = if is_path { format!("{}{raw}", job.base("")?) } else { raw.to_owned() };
    let url = Url::parse(&whole).map_err(|_| bad())?;
    let stored_for = job.secret("baseUrl");
    if stored_for.is_some_and(|base| !same_origin(base, url.as_str())) {
        return Err(bound());
    }
    Ok(url)
}

fn authorised(job: &Job<'_>, mut request: OutboundRequest) -> OutboundRequest {
    let text = |name: &str| job.secret(name).unwrap_or_default();
    match text("auth") {
        "bearer" => request.sensitive_header("Authorization", format!("Bearer {}", text("token"))),
        "basic" => {
            let pair = STANDARD.encode(format!("{}:{}", text("username"), text("password")));
            request.sensitive_header("Authorization", format!("Basic {pair}"))
        }
        "api_key" if text("in") == "query" => {
            if let Ok(mut url) = Url::parse(&request.url) {
                url.query_pairs_mut().append_pair(text("name"), text("value"));
                request.url = url.into();
            }
            request.credential_in_url()
        }
        "api_key" => {
            // The credential's word counts, not the step's.
            request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(text("name")));
            request.sensitive_header(text("name"), text("value"))
        }
        _ => request,
    }
}

/// A text is sent as it is, whatever its type is said to be: who writes JSON by hand has written it.
fn encode(kind: &str, body: &Value) -> Result<Vec<u8>, Wrong> {
    if let Value::String(text) = body {
        return Ok(text.clone().into_bytes());
    }
    let kind = kind.to_ascii_lowercase();
    if kind.starts_with("application/x-www-form-urlencoded") {
        let Some(map) = body.as_object() else {
            return Err(Wrong::new("BAD_BODY", "A form's body must be an object."));
        };
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            form.append_pair(name, &text(value));
        }
        return Ok(form.finish().into_bytes());
    }
    if !kind.contains("json") {
        return Err(Wrong::new(
            "BAD_BODY",
            "A body of this contentType must be a text: only JSON and forms take more.",
        ));
    }
    serde_json::to_vec(body).map_err(|error| Wrong::new("BAD_BODY", error.to_string()))
}

/// Texts bare, the rest as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::{
        schema,
        tests::{http, object, wrong},
    };

    const BASE: &str = "https://api.test/v1";

    fn with(auth: Value) -> Value {
        let mut credential = json!({ "baseUrl": BASE });
        credential.as_object_mut().unwrap().extend(object(auth));
        credential
    }

    fn sent(input: Value, auth: Value) -> OutboundRequest {
        http(&Http, "request", input, with(auth), Some("k1"))
    }

    #[test]
    fn each_credential_travels_where_it_belongs() {
        let get = || json!({ "url": "/items", "query": { "a": 1, "b": ["x", "y"], "c": null } });
        let bearer = sent(get(), json!({ "auth": "bearer", "token": "t0k" }));
        assert_eq!((bearer.method.as_str(), bearer.url.as_str()), ("GET", "https://api.test/v1/items?a=1&b=x&b=y"));
        assert_eq!(bearer.headers, [("Authorization".to_owned(), "Bearer t0k".to_owned())]);
        let basic = sent(get(), json!({ "auth": "basic", "username": "u", "password": "p" }));
        assert_eq!(basic.headers, [("Authorization".to_owned(), "Basic dTpw".to_owned())]);
        let header = sent(
            json!({ "url": "/x", "headers": { "x-key": "mine" } }),
            json!({ "auth": "api_key", "name": "X-Key", "value": "v" }),
        );
        assert_eq!(header.headers, [("X-Key".to_owned(), "v".to_owned())]);
        let query =
            sent(json!({ "url": "/x" }), json!({ "auth": "api_key", "in": "query", "name": "key", "value": "v &" }));
        assert_eq!(query.url, "https://api.test/v1/x?key=v+%26");
        assert!(query.credential_in_url && !header.credential_in_url, "it must not follow a redirect elsewhere");
    }

    #[test]
    fn bodies_and_keys_go_with_what_writes() {
        let post = json!({ "method": "POST", "url": "https://api.test/other", "body": { "a": 1 } });
        let request = sent(post, json!({ "auth": "bearer", "token": "t" }));
        assert_eq!(request.body.as_deref(), Some(&br#"{"a":1}"#[..]));
        assert!(request.headers.contains(&("Idempotency-Key".into(), "k1".into())));
        assert!(request.headers.contains(&("Content-Type".into(), "application/json".into())));
        let form = json!({ "method": "POST", "url": "/f", "contentType": "application/x-www-form-urlencoded", "body": { "a": "b c" } });
        assert_eq!(sent(form, json!({ "auth": "bearer", "token": "t" })).body.as_deref(), Some(&b"a=b+c"[..]));
    }

    #[test]
    fn a_text_is_sent_as_it_is_and_only_json_and_forms_take_more() {
        let auth = || json!({ "auth": "bearer", "token": "t" });
        let post =
            |kind: Value, body: Value| json!({ "method": "POST", "url": "/x", "contentType": kind, "body": body });
        for kind in [json!("application/json"), json!("text/csv"), json!("application/x-www-form-urlencoded")] {
            let request = sent(post(kind.clone(), json!("{\"a\": 1}")), auth());
            assert_eq!(request.body.as_deref(), Some(&b"{\"a\": 1}"[..]), "{kind}");
        }
        let problem = sent(post(json!("Application/Problem+JSON"), json!([1])), auth());
        assert_eq!(problem.body.as_deref(), Some(&b"[1]"[..]));
        for body in [json!({ "a": 1 }), json!([1]), json!(7)] {
            let refused = wrong(&Http, "request", post(json!("text/xml"), body.clone()), with(auth()));
            assert_eq!(refused.code, "BAD_BODY", "{body}");
        }
    }

    #[test]
    fn a_credential_goes_to_its_own_origin_only() {
        let auth = || with(json!({ "auth": "bearer", "token": "t" }));
        for url in [
            "https://evil.test/",
            "http://api.test/",
            "https://api.test:444/",
            "https://api.test.evil.test/",
            "//evil.test/x",
        ] {
            let refused = wrong(&Http, "request", json!({ "url": url }), auth());
            assert!(["CREDENTIAL_BOUND", "BAD_URL"].contains(&refused.code), "{url}: {refused:?}");
        }
        for url in ["@evil.test", "items", "/a\\b", "/a\nb"] {
            assert_eq!(wrong(&Http, "request", json!({ "url": url }), auth()).code, "BAD_URL", "{url}");
        }
        assert_eq!(
            sent(json!({ "url": "/.evil.test" }), json!({ "auth": "bearer", "token": "t" })).url,
            "https://api.test/v1/.evil.test"
        );
    }

    #[test]
    fn headers_that_are_not_the_steps_are_refused() {
        let input = object(
            json!({ "url": "/x", "headers": { "Authorization": "x", "a b": "x", "X-A": "a\r\nB: c", "X-B": "{{ input.b }}\n" }, "body": 1 }),
        );
        let of = |input: Input<'_>| {
            Http.check("request", &input, &Caps::default()).into_iter().map(|f| f.field).collect::<Vec<_>>()
        };
        assert_eq!(of(Input::unevaluated(&input)), ["headers.Authorization", "headers.X-A", "headers.a b", "method"]);
        assert_eq!(
            of(Input::rendered(&input)),
            ["headers.Authorization", "headers.X-A", "headers.X-B", "headers.a b", "method"]
        );
    }

    #[test]
    fn what_a_credential_lacks_is_named_at_once() {
        let fields = |data: Value| {
            let mut fields: Vec<_> =
                schema::faults(&Http.kind().credential, &data, "data", false).into_iter().map(|f| f.field).collect();
            fields.sort();
            fields
        };
        assert_eq!(fields(json!({})), ["data.auth", "data.baseUrl"]);
        assert_eq!(fields(json!({ "auth": "basic" })), ["data.baseUrl", "data.password", "data.username"]);
        assert_eq!(fields(with(json!({ "auth": "api_key", "name": "a b" }))), ["data.name", "data.value"]);
        assert_eq!(fields(with(json!({ "auth": "bearer", "token": "t" }))), [""; 0]);
    }
}
