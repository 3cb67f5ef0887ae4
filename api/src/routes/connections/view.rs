//! A connection as clients see it.

use domain::{
    connection::{AuthScheme, HeaderTemplate, SpecChanges, SpecSource, template},
    operation::{ParameterLocation, SpecProblem},
};
use poem_openapi::Object;
use projections::{ConnectionView, LastTest};

use crate::{pagination::Pagination, routes::name_of, types::Time};

/// A place in the document and what is wrong there.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct SpecProblemJson {
    /// RFC 6901: `/paths/~1pets/get`.
    pub pointer: String,
    pub message: String,
}

impl From<SpecProblem> for SpecProblemJson {
    fn from(problem: SpecProblem) -> Self {
        Self { pointer: problem.pointer, message: problem.message }
    }
}

/// Where an API key travels.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct AuthPlaceJson {
    /// `header`, `query` or `cookie`.
    #[oai(rename = "in")]
    location: String,
    name: String,
}

/// A header that is made of secrets; its template is not told, for it may hold one.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct AuthHeaderJson {
    name: String,
    /// `NAME` of each `{{ secret.NAME }}`.
    secrets: Vec<String>,
}

/// The connected document, in short.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct SpecJson {
    /// Of the OpenAPI format: `2.0`, `3.0.3`, `3.1.0`.
    spec_version: String,
    title: String,
    api_version: String,
    /// `json` or `yaml`.
    format: String,
    /// SHA-256 of the document, hex.
    hash: String,
    /// Bytes, as it was fetched or uploaded.
    size: u64,
    /// How many files it was put together from.
    files: u32,
    servers: Vec<String>,
}

/// What the last refresh changed.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct ChangesJson {
    added: u32,
    removed: u32,
    changed: u32,
    breaking_changes: Vec<String>,
}

impl From<SpecChanges> for ChangesJson {
    fn from(changes: SpecChanges) -> Self {
        let SpecChanges { added, removed, changed, breaking } = changes;
        Self { added, removed, changed, breaking_changes: breaking }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct TestJson {
    /// `success` or `failed`.
    pub status: String,
    /// In words: what was tried and what is wrong.
    pub message: String,
    pub http_status: Option<u16>,
    /// Milliseconds.
    pub response_time: u64,
    pub tested_at: Option<Time>,
}

impl From<LastTest> for TestJson {
    fn from(test: LastTest) -> Self {
        Self {
            status: if test.ok { "success" } else { "failed" }.to_owned(),
            message: test.message,
            http_status: test.status,
            response_time: test.elapsed_ms,
            tested_at: Some(test.tested_at.into()),
        }
    }
}

/// An authenticated instance of an API. The credential's value is never here.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct ConnectionJson {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    /// `ACTIVE` or `INACTIVE`.
    pub status: String,
    /// `PENDING`, `RUNNING`, `SUCCEEDED` or `FAILED`.
    pub ingestion_status: String,
    /// What made the last ingestion fail.
    pub ingestion_errors: Vec<SpecProblemJson>,
    /// What could be taken though it is wrong; the first 50.
    pub warnings: Vec<SpecProblemJson>,
    pub warning_count: u32,
    pub endpoint_count: u32,
    pub webhook_count: u32,
    /// As given; see `effectiveBaseUrl`.
    pub base_url: Option<String>,
    /// What requests go to: `baseUrl`, else the document's first server.
    pub effective_base_url: Option<String>,
    /// Where the document came from, when from a URL. `documentationUrl` is the same.
    pub spec_url: Option<String>,
    pub documentation_url: Option<String>,
    /// `url`, `upload` or `none`.
    pub spec_source: String,
    pub spec: Option<SpecJson>,
    pub changes: Option<ChangesJson>,
    /// `none`, `api_key`, `bearer`, `basic`, `mtls` or `custom`.
    pub auth_type: String,
    /// For `api_key` with one key: where it travels.
    pub auth_place: Option<AuthPlaceJson>,
    /// For `api_key`: where each key travels.
    pub auth_places: Option<Vec<AuthPlaceJson>>,
    /// For `custom`: the headers' names and the secrets that fill them.
    pub auth_headers: Option<Vec<AuthHeaderJson>>,
    pub credential_id: Option<String>,
    /// What to know before trusting this host.
    pub risks: Vec<String>,
    pub last_test: Option<TestJson>,
    pub created_at: Time,
    pub updated_at: Time,
    pub version: i64,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct ConnectionsJson {
    pub connections: Vec<ConnectionJson>,
    pub pagination: Pagination,
}

impl From<ConnectionView> for ConnectionJson {
    fn from(view: ConnectionView) -> Self {
        let (source, url) = match view.source {
            SpecSource::Url { url } => ("url", Some(url)),
            SpecSource::Upload { .. } => ("upload", None),
            SpecSource::None => ("none", None),
        };
        let auth_places = places(&view.auth);
        let auth_place = match &view.auth {
            AuthScheme::ApiKey { location, name } => Some(place(*location, name)),
            _ => None,
        };
        let (spec, warnings, warning_count) = match view.facts {
            Some(facts) => {
                let spec = SpecJson {
                    spec_version: facts.spec_version,
                    title: facts.title,
                    api_version: facts.api_version,
                    format: facts.format,
                    hash: facts.spec_hash,
                    size: facts.size,
                    files: facts.files,
                    servers: facts.servers,
                };
                (Some(spec), facts.warnings, facts.warning_count)
            }
            None => (None, Vec::new(), 0),
        };
        Self {
            id: view.id.to_string(),
            name: view.name,
            description: view.description,
            status: view.status.as_str().to_owned(),
            ingestion_status: view.ingestion_status.as_str().to_owned(),
            ingestion_errors: view.errors.into_iter().map(Into::into).collect(),
            warnings: warnings.into_iter().map(Into::into).collect(),
            warning_count,
            endpoint_count: view.endpoint_count,
            webhook_count: view.webhook_count,
            base_url: view.base_url,
            effective_base_url: view.effective_base_url,
            spec_url: url.clone(),
            documentation_url: url,
            spec_source: source.to_owned(),
            spec,
            changes: view.changes.map(Into::into),
            auth_type: view.auth.as_str().to_owned(),
            auth_place,
            auth_places,
            auth_headers: headers(&view.auth),
            credential_id: view.credential_id.map(|id| id.to_string()),
            risks: view.risks,
            last_test: view.last_test.map(Into::into),
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            version: view.version,
        }
    }
}

fn place(location: ParameterLocation, name: &str) -> AuthPlaceJson {
    AuthPlaceJson { location: name_of(location), name: name.to_owned() }
}

fn places(auth: &AuthScheme) -> Option<Vec<AuthPlaceJson>> {
    match auth {
        AuthScheme::ApiKey { location, name } => Some(vec![place(*location, name)]),
        AuthScheme::ApiKeys { keys } => Some(keys.iter().map(|key| place(key.location, &key.name)).collect()),
        _ => None,
    }
}

fn headers(auth: &AuthScheme) -> Option<Vec<AuthHeaderJson>> {
    let AuthScheme::Custom { headers } = auth else { return None };
    let of = |header: &HeaderTemplate| AuthHeaderJson {
        name: header.name.clone(),
        secrets: template::names(&header.template).unwrap_or_default(),
    };
    Some(headers.iter().map(of).collect())
}
