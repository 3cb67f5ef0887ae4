//! Two small APIs to try things on without an account anywhere: a CRM and a mailer that only pretends to send.
//!
//! They are served on a loopback listener of their own and are called like any API outside: through the egress guard,
//! with credentials, from their OpenAPI documents. What they keep is bounded and lives in memory.

mod crm;
mod fields;
mod mailer;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use poem::http::StatusCode;
use poem::http::header::CONTENT_TYPE;
use poem::listener::TcpAcceptor;
use poem::{Endpoint, EndpointExt, Response, Route, Server};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long open requests may go on after the shutdown has begun.
const GRACE: Duration = Duration::from_secs(2);

/// Serves both APIs under `/crm` and `/mailer` until `shutdown` is cancelled. Their documents are at
/// `/crm/openapi.json` and `/mailer/openapi.json` and name the listener's address as their server.
pub async fn serve(listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the sandbox listener has no address")?;
    let app = app(&base_url(address))?;
    let acceptor = TcpAcceptor::from_tokio(listener).context("the sandbox listener cannot be used")?;
    Server::new_with_acceptor(acceptor)
        .run_with_graceful_shutdown(app, shutdown.cancelled_owned(), Some(GRACE))
        .await
        .context("the sandbox APIs stopped")
}

/// Both APIs with fresh data. `base_url`, such as `http://127.0.0.1:4010`, goes into their documents.
fn app(base_url: &str) -> anyhow::Result<impl Endpoint<Output = Response> + 'static> {
    let crm = crm::routes(document(include_str!("crm.openapi.json"), base_url)?);
    let mailer = mailer::routes(document(include_str!("mailer.openapi.json"), base_url)?);
    Ok(Route::new().nest("/crm", crm).nest("/mailer", mailer).catch_all_error(|error| async { as_problem(error) }))
}

fn base_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

/// An OpenAPI document with its `servers` set.
fn document(text: &str, base_url: &str) -> anyhow::Result<Value> {
    let mut document: Value = serde_json::from_str(text).context("a sandbox OpenAPI document is not JSON")?;
    document["servers"] = json!([{ "url": base_url, "description": "The sandbox on this machine" }]);
    Ok(document)
}

/// The documented form of an error. `faults` holds every wrong field.
fn problem(status: StatusCode, code: &str, message: &str, faults: &[fields::Fault]) -> Response {
    let mut error = json!({ "code": code, "message": message });
    if !faults.is_empty() {
        error["fields"] =
            faults.iter().map(|fault| json!({ "field": fault.field, "message": fault.message })).collect();
    }
    answer(status, &json!({ "error": error }))
}

fn answer(status: StatusCode, body: &Value) -> Response {
    Response::builder().status(status).content_type("application/json").body(body.to_string())
}

fn not_found(what: &str) -> Response {
    problem(StatusCode::NOT_FOUND, "not_found", &format!("there is no such {what}"), &[])
}

/// Gives the framework's own refusals (unknown path, wrong method) the form of all other errors.
fn as_problem(error: poem::Error) -> Response {
    let response = error.into_response();
    if response.header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json")) {
        return response;
    }
    let status = response.status();
    let message = status.canonical_reason().unwrap_or("the request was refused").to_lowercase();
    problem(status, &message.replace(' ', "_"), &message, &[])
}

/// The time of day as the APIs write it: RFC 3339 in UTC, whole seconds.
#[allow(clippy::disallowed_methods, reason = "a pretended third party has a clock of its own")]
fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
