//! A connection as clients see it.

use domain::{
    connection::{AuthScheme, HeaderTemplate, SpecChanges, SpecSource, template},
    operation::{ParameterLocation, SecurityScheme, SpecProblem},
};
use poem_openapi::Object;
use projections::{ConnectionView, LastTest, ObservedLimit};

use super::spec_view::{AffectedWorkflowJson, SpecChangeJson};
use crate::{
    pagination::Pagination,
    routes::{
        name_of,
        oauth::{OauthJson, oauth_of},
    },
    types::Time,
};

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

/// A security scheme of the document.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct SecuritySchemeJson {
    name: String,
    /// `apiKey`, `http`, `oauth2`, `openIdConnect` or `mutualTLS`.
    #[oai(rename = "type")]
    kind: String,
    /// Of `http`: `bearer`, `basic`.
    scheme: Option<String>,
    /// Of `apiKey`: `header`, `query` or `cookie`.
    #[oai(rename = "in")]
    location: Option<String>,
    /// Of `apiKey`.
    parameter_name: Option<String>,
    /// What the connection has is sent where this scheme is asked for.
    used: bool,
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
    pub added: u32,
    pub removed: u32,
    pub changed: u32,
    /// The first 50.
    pub breaking_changes: Vec<String>,
    pub breaking_count: u32,
    /// The first 50, breaking ones first.
    pub details: Vec<SpecChangeJson>,
    pub detail_count: u32,
    /// The first 50 whose present version calls a changed operation.
    pub affected_workflows: Vec<AffectedWorkflowJson>,
    pub affected_workflow_count: u32,
    /// The first 50 that had not ended and call a changed operation.
    pub running_executions: Vec<String>,
    pub running_execution_count: u32,
}

impl From<SpecChanges> for ChangesJson {
    fn from(changes: SpecChanges) -> Self {
        let known = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            added: changes.added,
            removed: changes.removed,
            changed: changes.changed,
            // Old events tell the first sentences only.
            breaking_count: changes.breaking_count.max(known(changes.breaking.len())),
            breaking_changes: changes.breaking,
            details: changes.details.into_iter().map(Into::into).collect(),
            detail_count: changes.detail_count,
            affected_workflows: changes.workflows.into_iter().map(Into::into).collect(),
            affected_workflow_count: changes.workflow_count,
            running_executions: changes.executions.iter().map(ToString::to_string).collect(),
            running_execution_count: changes.execution_count,
        }
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
    /// One word for programs, when something is wrong: `dns`, `tls_expired`, `unauthorised`, `base_url`, `clock` …
    pub problem: Option<String>,
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
            problem: test.problem,
            response_time: test.elapsed_ms,
            tested_at: Some(test.tested_at.into()),
        }
    }
}

/// What the API said last of its own limit.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct RateLimitJson {
    /// Calls in a window.
    limit: Option<u64>,
    /// Calls that were left.
    remaining: u64,
    /// When there are `limit` again.
    reset_at: Option<Time>,
    observed_at: Time,
}

impl From<ObservedLimit> for RateLimitJson {
    fn from(observed: ObservedLimit) -> Self {
        Self {
            limit: observed.limit.limit,
            remaining: observed.limit.remaining,
            reset_at: observed.limit.reset_at.map(Into::into),
            observed_at: observed.observed_at.into(),
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
    /// `none`, `api_key`, `bearer`, `basic`, `mtls`, `custom`, `document` or `oauth2`.
    pub auth_type: String,
    /// Why it is not decided how requests are authenticated, when that is left to the document.
    pub auth_note: Option<String>,
    /// What the document declares, and which of it the connection uses.
    pub security_schemes: Vec<SecuritySchemeJson>,
    /// For `api_key` with one key: where it travels.
    pub auth_place: Option<AuthPlaceJson>,
    /// For `api_key`: where each key travels.
    pub auth_places: Option<Vec<AuthPlaceJson>>,
    /// For `custom`: the headers' names and the secrets that fill them.
    pub auth_headers: Option<Vec<AuthHeaderJson>>,
    /// Of `oauth2`: its client, and what was granted.
    pub oauth: Option<OauthJson>,
    pub credential_id: Option<String>,
    /// What to know before trusting this host.
    pub risks: Vec<String>,
    /// `not_required`, `pending`, `approved` or `rejected`: may its hosts be called?
    pub approval: String,
    /// Why an admin rejected it, when that was said.
    pub approval_reason: Option<String>,
    /// Hosts at which nothing is called before an admin approves them.
    pub waiting_hosts: Vec<String>,
    pub last_test: Option<TestJson>,
    /// Version of the document, from 1; 0: none was taken yet. See its `history`.
    pub document_version: i32,
    /// When the document was last seen as it is.
    pub checked_at: Option<Time>,
    /// Hours between refreshes by schedule; 0: there are none.
    pub refresh_interval: u32,
    pub next_refresh_at: Option<Time>,
    /// Ingestions that failed since the last good one.
    pub refresh_failures: u32,
    /// `healthy`, `degraded`, `credential_expired` or `unreachable`: how calls went lately.
    pub health: String,
    /// What was seen when it changed last.
    pub health_reason: Option<String>,
    pub health_changed_at: Option<Time>,
    pub rate_limit: Option<RateLimitJson>,
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
        let security_schemes = schemes(&view);
        let auth_note = note(&view);
        let oauth = oauth_of(&view);
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
            auth_note,
            security_schemes,
            auth_place,
            auth_places,
            auth_headers: headers(&view.auth),
            oauth,
            credential_id: view.credential_id.map(|id| id.to_string()),
            risks: view.risks,
            approval: view.approvals.state().as_str().to_owned(),
            approval_reason: view.approvals.reason,
            waiting_hosts: view.approvals.waiting,
            last_test: view.last_test.map(Into::into),
            document_version: view.spec_number,
            checked_at: view.checked_at.map(Into::into),
            refresh_interval: view.refresh_interval,
            next_refresh_at: view.next_refresh_at.map(Into::into),
            refresh_failures: view.refresh_failures,
            health: view.health.as_str().to_owned(),
            health_reason: view.health_reason,
            health_changed_at: view.health_changed_at.map(Into::into),
            rate_limit: view.rate_limit.map(Into::into),
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            version: view.version,
        }
    }
}

fn place(location: ParameterLocation, name: &str) -> AuthPlaceJson {
    AuthPlaceJson { location: name_of(location), name: name.to_owned() }
}

fn schemes(view: &ConnectionView) -> Vec<SecuritySchemeJson> {
    let declared = view.facts.iter().flat_map(|facts| &facts.security.schemes);
    let of = |scheme: &SecurityScheme| SecuritySchemeJson {
        name: scheme.name.clone(),
        kind: scheme.kind.clone(),
        scheme: scheme.scheme.clone(),
        location: scheme.location.map(name_of),
        parameter_name: scheme.parameter_name.clone(),
        used: view.auth.covers(scheme).is_some(),
    };
    declared.map(of).collect()
}

fn note(view: &ConnectionView) -> Option<String> {
    let AuthScheme::FromDocument { wanted } = &view.auth else { return None };
    match &view.facts {
        None => Some("The document that says how to authenticate has not been read yet.".to_owned()),
        Some(facts) => wanted.resolve(Some(&facts.security)).err(),
    }
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
