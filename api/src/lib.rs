//! The HTTP surface: routes, the gate, the problem table, the document. Calls use cases and queries, decides nothing.
//!
//! Layers from outside in: `shell` (request id, errors in one shape, headers), `alias`, `idempotency`, the routes.
//! Slow clients are bounded by the listener that serves this (header timeout), bodies by their limits here.

mod alias;
mod answer;
mod auth;
mod body;
mod clock;
mod docs;
mod document;
mod examples;
mod freshness;
mod idempotency;
mod limits;
mod pagination;
mod problem;
mod query;
mod request;
mod routes;
mod schema;
mod shell;
mod state;
mod types;

use std::sync::OnceLock;

pub use freshness::HEADER as EVENT_POSITION_HEADER;
pub use limits::RateLimits;
use poem::{Endpoint, EndpointExt, Response, Route};
use poem_openapi::{LicenseObject, OpenApiService};
pub use problem::status_of;
pub use state::{ApiState, BodyLimits, Config, Health, HealthCheck};

/// Where the current version answers; `/api` is an alias.
pub const BASE: &str = "/api/v1";

/// The whole HTTP application.
pub fn app(state: ApiState) -> impl Endpoint<Output = Response> {
    let page = docs::page(&service().swagger_ui_html(), &service().spec(), document_text());
    let routes = Route::new()
        .nest(BASE, service())
        .nest("/api", service())
        .at("/docs", poem::get(docs::page_endpoint(page)))
        .at("/openapi.json", poem::get(docs::document_endpoint(document_text().to_owned())))
        .at("/", poem::get(docs::redirect("/docs")));
    let routes = idempotency::Idempotent(routes).before(|request| async move { Ok(alias::rewrite(request)) });
    shell::Shell::new(routes, state)
}

/// The OpenAPI document as it is served: pretty JSON, keys sorted.
pub fn openapi_document() -> String {
    document_text().to_owned()
}

pub(crate) fn document_text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        // poem-openapi's own output is JSON; were it not, its plain text would still be served.
        let spec = service().spec();
        let completed = document::complete(&spec).and_then(|document| serde_json::to_string_pretty(&document));
        completed.unwrap_or(spec)
    })
}

/// Method, path below `BASE` and permission (or `public`) of every operation of the document, sorted by path.
pub fn permissions() -> Vec<(String, String, String)> {
    let document: serde_json::Value = serde_json::from_str(document_text()).unwrap_or_default();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let permission = operation["x-permission"].as_str().unwrap_or_default();
            all.push((method.to_uppercase(), path.clone(), permission.to_owned()));
        }
    }
    all.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
    all
}

fn service() -> OpenApiService<routes::Api, ()> {
    OpenApiService::new(routes::api(), "APIQ", env!("CARGO_PKG_VERSION"))
        .summary("Plain English in, durable and provable API workflows out.")
        .description(introduction())
        .license(LicenseObject::new("Apache-2.0").url("https://www.apache.org/licenses/LICENSE-2.0"))
        .server(BASE)
}

fn introduction() -> String {
    format!(
        "Connect APIs, say in plain English what you want, review the plan, run it, and read in the log everything \
         that happened.\n\n\
         **Answers** are `{{\"success\": true, \"data\": …, \"timestamp\": …}}`; errors \
         `{{\"success\": false, \"error\": …, \"code\": …, \"details\": […], \"requestId\": …}}`, where `details` \
         names every wrong field.\n\n\
         **Credentials**: `Authorization: Bearer` with an access token or an API key, or `X-API-Key`. The workspace \
         is theirs; `X-Workspace-Id` may repeat it.\n\n\
         **Read your writes**: a write's answer carries `X-Event-Position`; reads with the same credentials, or that \
         send it back, show the write.\n\n\
         **Repeat safely**: writes take `Idempotency-Key`. **Change safely**: single resources carry `ETag`, and \
         changes take `If-Match`.\n\n\
         The routes answer under `/api` as well.\n\n{}",
        document::code_table()
    )
}

#[cfg(test)]
mod tests;
