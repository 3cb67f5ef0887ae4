//! What an ingested OpenAPI document becomes: normalised operations that planner, validator and executor share.
//!
//! The model is small on purpose: schemas are summaries resolved to a bounded depth, enough to match names and
//! types, to check a step and to show a form. The document itself is kept as a blob beside it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a parameter travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Hash)]
#[serde(rename_all = "camelCase")]
pub enum ParameterLocation {
    Path,
    Query,
    Header,
    Cookie,
}

/// A JSON Schema in short. `kind` is the JSON type (`object`, `array`, `string`, `integer`, `number`,
/// `boolean`, `null`) or empty when the document leaves it open (also unions of several types).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Schema {
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The component's name when the schema was a `$ref` (`Customer`): wiring compares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// At most 200 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// In document order. `allOf` is merged; of `oneOf`/`anyOf` the properties are united, none required.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Box<Schema>>,
    #[serde(rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
    #[serde(rename = "default", skip_serializing_if = "Option::is_none")]
    pub default_value: Option<Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nullable: bool,
    /// The document says more than is kept here (depth, size or a cycle).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Property {
    pub name: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    pub schema: Schema,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    pub name: String,
    #[serde(rename = "in")]
    pub location: ParameterLocation,
    /// Path parameters are always required.
    #[serde(default)]
    pub required: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub schema: Schema,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestBody {
    #[serde(default)]
    pub required: bool,
    /// The content type the executor sends: JSON where offered, else the first.
    pub content_type: String,
    #[serde(default)]
    pub schema: Schema,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// `200`, `2XX`, `default`.
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
}

/// One way to authorise; of several in a list any one is enough. `scheme` is a name of `SpecSummary::security_schemes`;
/// an empty one stands for the document's `{}`: without any credential is a way, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityRequirement {
    pub scheme: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// What is needed together with it. Documents that were read before this was kept apart have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<SecurityRequirement>,
}

impl SecurityRequirement {
    /// `{}`: the call may go without a credential.
    pub fn is_anonymous(&self) -> bool {
        self.scheme.is_empty() && self.with.is_empty()
    }
}

/// An endpoint of a spec. `path` is the template as written (`/customers/{id}`), `method` is upper case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    pub method: String,
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// At most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deprecated: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_body: Option<RequestBody>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub responses: Vec<Response>,
    /// Servers of the operation or its path item, where they differ from the document's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// `None`: the document's default applies; an empty list: no authorisation needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Vec<SecurityRequirement>>,
}

impl Operation {
    /// Methods that RFC 9110 calls safe: they may be repeated when an outcome is unknown.
    pub fn is_safe(&self) -> bool {
        is_safe_method(&self.method)
    }

    /// The spec declares a request header by which the server tells repeated calls from new ones.
    pub fn idempotency_header(&self) -> Option<&str> {
        self.parameters.iter().filter(|p| p.location == ParameterLocation::Header).map(|p| p.name.as_str()).find(|n| {
            let n = n.to_ascii_lowercase();
            n == "idempotency-key" || n == "x-idempotency-key"
        })
    }

    /// The first success response that has a schema, else the first success response.
    pub fn success_response(&self) -> Option<&Response> {
        let success = |r: &&Response| r.status.starts_with('2');
        self.responses
            .iter()
            .filter(success)
            .find(|r| r.schema.is_some())
            .or_else(|| self.responses.iter().find(success))
            .or_else(|| self.responses.iter().find(|r| r.status == "default"))
    }
}

pub fn is_safe_method(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
}

/// A security scheme as the document names it. `kind`: `apiKey`, `http`, `oauth2`, `openIdConnect`, `mutualTLS`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityScheme {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// `http` only: `bearer`, `basic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// `apiKey` only: header, query or cookie.
    #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
    pub location: Option<ParameterLocation>,
    /// `apiKey` only: the header's, query parameter's or cookie's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_name: Option<String>,
    /// Of a call's need: what a token must be allowed to do. A document's scheme by itself has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// A problem found in a document. `pointer` is an RFC 6901 JSON pointer into it (`/paths/~1pets/get`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecProblem {
    pub pointer: String,
    pub message: String,
}

/// A whole document, normalised. Stored as one blob; named by its hash in `connection.spec_refreshed`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecSummary {
    /// `2.0`, `3.0.3`, `3.1.0`: as written.
    pub spec_version: String,
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `info.version`.
    pub version: String,
    /// Absolute or relative URLs, variables filled with their defaults; for 2.0 made from schemes, host, basePath.
    #[serde(default)]
    pub servers: Vec<String>,
    #[serde(default)]
    pub security_schemes: Vec<SecurityScheme>,
    /// The document's default security.
    #[serde(default)]
    pub security: Vec<SecurityRequirement>,
    /// In document order.
    pub operations: Vec<Operation>,
    /// Operations under `webhooks` (3.1): counted, not callable.
    #[serde(default)]
    pub webhook_count: usize,
    /// What is wrong but could be taken.
    #[serde(default)]
    pub warnings: Vec<SpecProblem>,
}
