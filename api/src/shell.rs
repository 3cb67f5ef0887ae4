//! The outermost layer: request id, trace span, one shape for every error (panics too), headers, CORS.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures::FutureExt;
use poem::{
    Endpoint, IntoResponse, Request, Response, Result,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
};
use tracing::Instrument;

use crate::{limits::Class, problem::Problem, request::Arrival, state::ApiState};

const API_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The page of a connect link has a form.
const CONNECT_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Swagger UI is one page with its script and style inside.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                           form-action 'self'; frame-ancestors 'none'";

const EXPOSED: &str = "X-Request-Id, X-Event-Position, ETag, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, \
                       X-RateLimit-Reset, X-RateLimit-Window, Idempotency-Replayed";
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, X-API-Key, X-Workspace-Id, X-Request-Id, X-Event-Position, \
                               Idempotency-Key, If-Match, traceparent";

pub struct Shell<E> {
    inner: E,
    state: ApiState,
}

impl<E> Shell<E> {
    pub fn new(inner: E, state: ApiState) -> Self {
        Self { inner, state }
    }
}

impl<E: Endpoint> Endpoint for Shell<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let started = Instant::now();
        let arrival = Arc::new(Arrival::new(&self.state, &request));
        request.set_data(arrival.clone());
        request.set_data(self.state.clone());
        let (method, path) = (request.method().clone(), arrival.path.clone());
        let origin = self.allowed_origin(request.headers());
        let preflight = method == Method::OPTIONS && request.headers().contains_key("access-control-request-method");
        // No query string and no header: they may carry secrets.
        let span = tracing::info_span!("request", %method, path, request_id = arrival.label);
        let mut response = if preflight && origin.is_some() {
            preflight_answer()
        } else {
            self.answer(request, &arrival).instrument(span.clone()).await
        };
        let is_api = path.starts_with("/api");
        if is_api && !path.contains("/health") {
            self.rate_headers(&arrival, &path, response.headers_mut());
        }
        self.headers(response.headers_mut(), &arrival, &path, origin);
        let (status, elapsed_ms) = (response.status().as_u16(), started.elapsed().as_millis() as u64);
        span.in_scope(|| tracing::info!(status, elapsed_ms, "answered"));
        Ok(response)
    }
}

impl<E: Endpoint> Shell<E> {
    async fn answer(&self, request: Request, arrival: &Arrival) -> Response {
        match AssertUnwindSafe(self.inner.call(request)).catch_unwind().await {
            Ok(Ok(output)) => output.into_response(),
            Ok(Err(error)) => Problem::from(error).respond(&arrival.label),
            // The panic hook has written where and why.
            Err(_) => Problem::internal("a handler panicked").respond(&arrival.label),
        }
    }

    /// Requests that no permit counted are counted by address, so that every answer tells where it stands.
    fn rate_headers(&self, arrival: &Arrival, path: &str, headers: &mut HeaderMap) {
        let rate = arrival.rate().unwrap_or_else(|| {
            let key = format!("ip {}", arrival.ip().unwrap_or_default());
            self.state.limiter().charge(Class::of(path), &key).0
        });
        rate.write(headers);
    }

    fn headers(&self, headers: &mut HeaderMap, arrival: &Arrival, path: &str, origin: Option<HeaderValue>) {
        let is_docs = path.starts_with("/docs");
        let policy = match path {
            _ if is_docs => DOCS_POLICY,
            _ if path.ends_with("/oauth/connect") => CONNECT_POLICY,
            _ => API_POLICY,
        };
        let mut set = |name: &'static str, value: &'static str| {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        };
        set("x-content-type-options", "nosniff");
        set("x-frame-options", "DENY");
        set("referrer-policy", "no-referrer");
        set("content-security-policy", policy);
        if !is_docs {
            set("cache-control", "no-store");
        }
        if origin.is_some() {
            set("access-control-expose-headers", EXPOSED);
        }
        if !self.state.config().cors_origins.is_empty() {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        if let Some(seconds) = self.state.config().hsts_seconds
            && let Ok(value) = HeaderValue::from_str(&format!("max-age={seconds}; includeSubDomains"))
        {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
        }
        if let Ok(value) = HeaderValue::from_str(&arrival.label) {
            headers.insert(HeaderName::from_static("x-request-id"), value);
        }
    }

    fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let allowed = &self.state.config().cors_origins;
        allowed.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }
}

fn preflight_answer() -> Response {
    Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE")
        .header(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS)
        .header(header::ACCESS_CONTROL_MAX_AGE, "600")
        .finish()
}
