//! Connectors: what APIQ can do at a service without an API document. A file a connector.
//!
//! A connector says what it can do ([`Connector::kind`]: actions, JSON Schemas, what its credential holds), makes the
//! request of an action ([`Connector::request`]) and reads the answer ([`Connector::read`]). It sends nothing itself:
//! [`Runner`] does, through the egress guard, and keeps credentials out of what is recorded. `docs/connectors.md` shows
//! how to write one.

mod discord;
mod http;
mod job;
mod mail;
#[cfg(test)]
mod mail_tests;
mod outcome;
mod redact;
mod runner;
mod schema;
mod slack;
mod smtp;
mod stripe;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tutorial;
mod wire;

use domain::connector::kind::ConnectorType;
use serde_json::{Map, Value};

pub use job::{Caps, Input, Job, Wrong};
pub use mail::Mail;
pub use outcome::{Answer, Failed, Ran, Refused};
pub use runner::{Call, Runner};

use crate::egress::{OutboundRequest, OutboundResponse};
use domain::error::FieldError;
use outcome::{Refusal, by_status};

/// A service and what can be done there. Implementations hold no state.
pub trait Connector: Send + Sync {
    fn kind(&self) -> ConnectorType;

    /// What is wrong with an action's input beyond its schema. Asked when a workflow is saved, with expressions still in
    /// the input (see [`Input`]), and again before anything is sent.
    fn check(&self, _action: &str, _input: &Input<'_>, _caps: &Caps) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with a credential's data beyond its schema. No message holds a value.
    fn check_credential(&self, _data: &Map<String, Value>) -> Vec<FieldError> {
        Vec::new()
    }

    /// What an action sends. Its input fits the schema and `check`; its credential fits the credential's schema.
    fn request(&self, job: &Job<'_>) -> Result<Outgoing, Wrong>;

    /// What the answer to an action means. The usual one: with 2xx it is done.
    fn read(&self, _action: &str, answer: &OutboundResponse) -> Result<Value, Refusal> {
        by_status(self.kind().title, answer)
    }

    /// A harmless request that shows whether the credential works. `job.action` is empty.
    fn probe(&self, job: &Job<'_>) -> Result<Outgoing, Wrong>;

    /// Forms of the credential's values that are not values themselves, and must not be recorded either.
    fn derived_secrets(&self, _credential: &Map<String, Value>) -> Vec<String> {
        Vec::new()
    }
}

/// What leaves for an action.
pub enum Outgoing {
    Http(OutboundRequest),
    Mail(Box<Mail>),
}

/// Every connector there is.
pub(crate) fn all() -> Vec<Box<dyn Connector>> {
    vec![
        Box::new(slack::Slack),
        Box::new(smtp::Smtp),
        Box::new(stripe::Stripe),
        Box::new(discord::Discord),
        Box::new(http::Http),
    ]
}
