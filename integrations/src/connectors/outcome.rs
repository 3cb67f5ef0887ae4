//! What comes of an action.

use std::time::Duration;

use domain::call::CallFacts;
use serde_json::{Map, Value};

use crate::egress::{EgressError, OutboundResponse};

use super::{Wrong, redact::Secrets};

/// An action that was tried.
pub struct Ran {
    pub result: Result<Answer, Failed>,
    /// What is recorded of the call; absent when there was none.
    pub call: Option<CallFacts>,
}

/// It is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The step's output.
    pub output: Value,
    pub status: Option<u16>,
    /// Names in lower case.
    pub headers: Map<String, Value>,
}

/// It is not done, or nobody knows.
#[derive(Debug)]
pub enum Failed {
    /// Nothing was sent.
    Wrong(Wrong),
    /// The service said no.
    Refused(Refused),
    /// There was no answer.
    Egress(EgressError),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    pub refusal: Refusal,
    pub answer: Answer,
    pub retry_after: Option<Duration>,
}

/// Why a service did not do it.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// `HTTP_402`, `SLACK_CHANNEL_NOT_FOUND`.
    pub code: String,
    /// Public: no values.
    pub message: String,
    /// The HTTP status that stands for it where retries are decided.
    pub like: u16,
    /// The service's own word as it came, until it is known to hold no secret.
    pub(super) word: Option<String>,
}

impl Refusal {
    /// A refusal with the service's own word for it.
    pub fn of_word(service: &str, word: &str, like: u16) -> Self {
        let (raw, word) = (word.to_owned(), plain(word));
        let code = format!("{}_{}", service.to_ascii_uppercase(), word.to_ascii_uppercase());
        Self { code, message: format!("{service} answered {word}."), like, word: Some(raw) }
    }

    /// A refusal in our own words.
    pub fn new(code: impl Into<String>, message: impl Into<String>, like: u16) -> Self {
        Self { code: code.into(), message: message.into(), like, word: None }
    }

    /// A word that holds a secret becomes `error`. Asked with the word as it came: what was cut short or changed on its way
    /// into code and message would not be found there.
    pub(super) fn redact(&mut self, service: &str, secrets: &Secrets) {
        if self.word.take().is_some_and(|word| secrets.are_in(&word)) {
            *self = Self { word: None, ..Self::of_word(service, "error", self.like) };
        }
    }
}

pub(super) fn is_done(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Words of services end up in events: whatever is not a plain one is left out.
fn plain(word: &str) -> String {
    let kept: String = word.chars().filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c)).take(60).collect();
    let kept = kept.replace(['-', '.'], "_");
    if kept.is_empty() { "error".to_owned() } else { kept }
}

/// With 2xx it is done. A redirect that was not followed is none: what was asked for did not happen there.
pub fn by_status(service: &str, answer: &OutboundResponse) -> Result<Value, Refusal> {
    let status = answer.status;
    if is_done(status) {
        return Ok(answer.decoded());
    }
    let hint = match status {
        ..=399 => ": it leads elsewhere, and nothing was done. Set the right baseUrl",
        401 => ": the credential is not accepted. It is wrong, expired or revoked: store a new one",
        403 => ": the credential is known, and may not do this",
        429 => ": too many calls",
        _ => "",
    };
    Err(Refusal::new(format!("HTTP_{status}"), format!("{service} answered {status}{hint}."), status))
}
