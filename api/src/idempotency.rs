//! `Idempotency-Key`: the same key and request give the first answer again; another request is refused.
//!
//! The key is claimed by the append itself, in its transaction (`RequestInfo::idempotency`). Here the first answer is
//! looked up before, and kept (sealed) after. A key without credentials does nothing: it would belong to nobody. On
//! the routes below `/auth` it does nothing either: their answers are tokens, and the workspace that the credentials
//! name need not be the one that the answer is about.

use commands::{
    Claim,
    idempotency::{self, Lookup},
};
use domain::{error::Code, ids::WorkspaceId};
use poem::{
    Body, Endpoint, IntoResponse, Request, Response, Result,
    http::{HeaderName, HeaderValue, Method, StatusCode},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{answer::ShownOnce, auth, body, problem::Problem, request::Arrival, state::ApiState};

const HEADER: &str = "idempotency-key";
const MOST_CHARACTERS: usize = 255;

/// Wraps the routes.
pub struct Idempotent<E>(pub E);

impl<E: Endpoint> Endpoint for Idempotent<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let writes = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
        let honoured = writes && !is_about_sessions(request.uri().path());
        let Some(header) = request.headers().get(HEADER).filter(|_| honoured) else {
            return self.0.call(request).await.map(IntoResponse::into_response);
        };
        let key = key_of(header.as_bytes())?;
        let state = ApiState::of(&request)?;
        let Ok(actor) = auth::authenticate(&state, &request).await else {
            // A public route, or one whose gate will say what is wrong.
            return self.0.call(request).await.map(IntoResponse::into_response);
        };
        let payload = request.take_body();
        let bytes = body::read(&state, &request, payload).await?;
        let claim = Claim { key, request_hash: fingerprint(&actor.id, &request, &bytes) };
        match idempotency::lookup(state.app(), actor.workspace, &claim).await.map_err(Problem::from)? {
            Lookup::Fresh => {}
            Lookup::Answered(status, body) => return Ok(replayed(status, &body, &Arrival::of(&request)?.label)),
            Lookup::InFlight => {
                let sentence = "The first request with this Idempotency-Key is under way; ask again in a moment.";
                return Err(Problem::new(Code::IdempotencyConflict, sentence).with_retry_after(1).into());
            }
            Lookup::Lost => {
                let sentence = "The request with this Idempotency-Key was answered, but the answer can no longer be \
                                read; see what it did, or take a new key.";
                return Err(Problem::new(Code::IdempotencyConflict, sentence).into());
            }
            Lookup::OtherRequest => {
                let sentence = "This Idempotency-Key was used for another request; take a new key.";
                let problem = Problem::new(Code::IdempotencyConflict, sentence);
                return Err(problem.with_status(StatusCode::UNPROCESSABLE_ENTITY).into());
            }
        }
        auth::remember(&mut request, &actor);
        request.set_data(claim.clone());
        request.set_body(bytes);
        let answer = match self.0.call(request).await {
            Ok(output) => output.into_response(),
            Err(error) => {
                let problem = Problem::from(error);
                if is_final(problem.code) {
                    // Kept as the client will see it, but for the first request's id.
                    let kept = problem.clone().respond("");
                    keep(&state, actor.workspace, &claim, kept).await;
                }
                return Err(problem.into());
            }
        };
        Ok(keep(&state, actor.workspace, &claim, answer).await)
    }
}

/// Bare, or quoted as the draft standard writes it.
fn key_of(bytes: &[u8]) -> Result<String, Problem> {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let good = (1..=MOST_CHARACTERS).contains(&key.len()) && key.bytes().all(|b| (b' '..=b'~').contains(&b));
    good.then(|| key.to_owned()).ok_or_else(|| {
        Problem::field("Idempotency-Key", format!("must be 1 to {MOST_CHARACTERS} printable ASCII characters"))
    })
}

/// The path of a route, however its base is spelt.
fn below_base(path: &str) -> &str {
    path.strip_prefix("/api/v1").or_else(|| path.strip_prefix("/api")).unwrap_or(path)
}

/// Registration, login, refresh, logout.
fn is_about_sessions(path: &str) -> bool {
    below_base(path).starts_with("/auth/")
}

/// SHA-256 of caller, method, path, query and body, hex. Other spellings of a route are the route; another caller of the
/// workspace is another request, so that nobody reads an answer that was not theirs.
fn fingerprint(actor: &str, request: &Request, bytes: &[u8]) -> String {
    let uri = request.uri();
    let path = below_base(uri.path());
    let mut hash = Sha256::new();
    for part in [actor, request.method().as_str(), path, uri.query().unwrap_or_default()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(bytes);
    hex::encode(hash.finalize())
}

/// Would the same request get the same answer? Not one that was refused before it was looked at.
fn is_final(code: Code) -> bool {
    !matches!(
        code,
        Code::Unauthorized
            | Code::InvalidToken
            | Code::TokenExpired
            | Code::Forbidden
            | Code::IdempotencyConflict
            // A lost race, be it against the same request sent twice: the next one may win.
            | Code::Conflict
            | Code::RateLimitExceeded
            | Code::ServiceUnavailable
            | Code::InternalError
    )
}

/// Stores the answer, without what is shown once, and gives it back.
async fn keep(state: &ApiState, workspace: WorkspaceId, claim: &Claim, mut answer: Response) -> Response {
    let once = answer.data::<ShownOnce>().copied();
    let status = answer.status();
    let Ok(text) = answer.take_body().into_string().await else {
        return Problem::internal("an answer that is no text").into_response();
    };
    let kept = match once {
        Some(ShownOnce(field)) => without(&text, field),
        None => text.clone(),
    };
    // The write has taken place: an answer that cannot be kept must not hide it.
    if let Err(error) = idempotency::remember(state.app(), workspace, claim, status.as_u16(), &kept).await {
        tracing::warn!(%error, "an answer could not be kept for its idempotency key");
    }
    answer.set_body(Body::from_string(text));
    answer
}

fn without(text: &str, field: &str) -> String {
    let Ok(mut body) = serde_json::from_str::<Value>(text) else { return "{}".to_owned() };
    if let Some(data) = body.get_mut("data").and_then(Value::as_object_mut) {
        data.remove(field);
    }
    body.to_string()
}

/// The first answer; an error names the request that is answered now.
fn replayed(status: u16, body: &str, request_id: &str) -> Response {
    let mut body: Value = serde_json::from_str(body).unwrap_or_default();
    if let Some(id) = body.get_mut("requestId") {
        *id = Value::String(request_id.to_owned());
    }
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap_or(StatusCode::OK))
        .header(HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true"))
        .content_type("application/json; charset=utf-8")
        .body(body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_bare_and_quoted() {
        assert_eq!(key_of(b"abc").unwrap(), "abc");
        assert_eq!(key_of(b"\"a b\"").unwrap(), "a b");
        assert!(key_of(b"").is_err() && key_of(b"\"\"").is_err());
        assert!(key_of(&[b'x'; 256]).is_err() && key_of("ü".as_bytes()).is_err());
    }

    #[test]
    fn fingerprints_tell_requests_apart_but_not_the_two_spellings() {
        let of = |method: Method, uri: &'static str, body: &[u8]| {
            fingerprint("key_1", &Request::builder().method(method).uri_str(uri).finish(), body)
        };
        let first = of(Method::POST, "/api/v1/workflows", b"{}");
        assert_eq!(first, of(Method::POST, "/api/workflows", b"{}"));
        assert_ne!(first, of(Method::PUT, "/api/v1/workflows", b"{}"));
        assert_ne!(first, of(Method::POST, "/api/v1/workflows", b"{ }"));
        assert_ne!(first, of(Method::POST, "/api/v1/workflows?wait=1s", b"{}"));
    }

    #[test]
    fn routes_about_sessions_in_both_spellings() {
        for path in ["/api/v1/auth/refresh", "/api/auth/login", "/api/v1/auth/register"] {
            assert!(is_about_sessions(path), "{path}");
        }
        for path in ["/api/v1/workflows", "/api/v1/authors", "/api/v1/workflows/auth/x", "/api/v1"] {
            assert!(!is_about_sessions(path), "{path}");
        }
    }

    #[test]
    fn what_is_shown_once_is_not_kept() {
        let text = r#"{"success":true,"data":{"id":"key_1","key":"sk_secret"}}"#;
        assert_eq!(without(text, "key"), r#"{"data":{"id":"key_1"},"success":true}"#);
    }

    #[test]
    fn passing_refusals_are_not_final() {
        assert!(
            !is_final(Code::ServiceUnavailable) && !is_final(Code::IdempotencyConflict) && !is_final(Code::Conflict)
        );
        assert!(is_final(Code::ValidationError) && is_final(Code::WorkflowNotFound));
    }
}
