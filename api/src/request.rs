//! What is known of a request when it arrives: its id, where it comes from, how it stands with the limits.

use std::sync::{Arc, Mutex, PoisonError};

use commands::{Claim, RequestInfo};
use domain::ids::RequestId;
use poem::{Request, http::header};
use uuid::Uuid;

use crate::{limits::Rate, problem::Problem, state::ApiState};

/// Namespace of request ids made from what a client calls its request.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b1f_3c62_9d0e_5d1a_8a57_2f6e_41c9_77b3);

/// Put beside every request by the outermost layer.
pub struct Arrival {
    /// As the client calls it, or as we do; echoed in `X-Request-Id`.
    pub label: String,
    /// As it came, before any rewriting.
    pub path: String,
    id: RequestId,
    ip: Option<String>,
    rate: Mutex<Option<Rate>>,
}

impl Arrival {
    pub fn new(state: &ApiState, request: &Request) -> Self {
        let wanted = request.header("x-request-id").map(str::trim).filter(|text| is_token(text));
        let (label, id) = match wanted {
            Some(text) => (text.to_owned(), correlation(text)),
            None => {
                let id: RequestId = state.app().new_id();
                (id.to_string(), id)
            }
        };
        let ip = request.remote_addr().as_socket_addr().map(|address| address.ip().to_canonical().to_string());
        Self { label, path: request.uri().path().to_owned(), id, ip, rate: Mutex::default() }
    }

    pub fn of(request: &Request) -> Result<Arc<Self>, Problem> {
        request.data::<Arc<Arrival>>().cloned().ok_or_else(|| Problem::internal("a route outside of the application"))
    }

    pub fn ip(&self) -> Option<&str> {
        self.ip.as_deref()
    }

    /// What use cases remember of a request.
    pub fn info(&self, request: &Request) -> RequestInfo {
        RequestInfo {
            request_id: self.id,
            ip: self.ip.clone(),
            user_agent: request.header(header::USER_AGENT).map(|text| text.chars().take(500).collect()),
            traceparent: request.header("traceparent").filter(|text| is_traceparent(text)).map(str::to_owned),
            idempotency: request.data::<Claim>().cloned(),
        }
    }

    pub fn note_rate(&self, rate: Rate) {
        *self.rate.lock().unwrap_or_else(PoisonError::into_inner) = Some(rate);
    }

    pub fn rate(&self) -> Option<Rate> {
        *self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id under which events remember a client's request id: the same text gives the same id.
pub fn correlation(text: &str) -> RequestId {
    text.parse().unwrap_or_else(|_| RequestId(Uuid::new_v5(&NAMESPACE, text.as_bytes())))
}

fn is_token(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// W3C Trace Context, version 00: `00-<32 hex>-<16 hex>-<2 hex>`.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(parts.as_slice(), [version, trace, span, flags]
        if hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_ids_are_taken_when_they_are_harmless() {
        assert!(is_token("req_01h455vb4pex5vsknk084sn02q") && is_token("my-trace/1"));
        assert!(!is_token("") && !is_token("two words") && !is_token(&"x".repeat(129)) && !is_token("ünïcode"));
        let id = RequestId(Uuid::from_u128(5));
        assert_eq!(correlation(&id.to_string()), id);
        assert_eq!(correlation("mine"), correlation("mine"));
        assert_ne!(correlation("mine"), correlation("yours"));
    }

    #[test]
    fn traceparents() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(!is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"));
        assert!(!is_traceparent("00-xbf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    }
}
