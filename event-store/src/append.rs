//! What is appended: one command's events, and how an append can fail.

use domain::event::{DecodeError, EventSet, LogPosition};
use uuid::Uuid;

use crate::idempotency::Claim;

/// An event that has no place yet.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub event_id: Uuid,
    pub event_type: String,
    pub event_version: String,
    /// JSON text, stored to the byte.
    pub payload: String,
}

impl NewEvent {
    pub fn of<E: EventSet>(event_id: Uuid, event: &E) -> Result<Self, DecodeError> {
        Ok(Self {
            event_id,
            event_type: event.event_type(),
            event_version: event.event_version(),
            payload: event.encode()?,
        })
    }
}

/// Events for the end of one stream.
#[derive(Debug, Clone)]
pub struct StreamAppend {
    pub aggregate_type: &'static str,
    pub aggregate_id: Uuid,
    /// The stream's last sequence as it was loaded; 0 for a new stream.
    pub expected: i64,
    pub events: Vec<NewEvent>,
}

/// One command's events. Several streams stand or fall together.
#[derive(Debug, Clone)]
pub struct Append {
    pub workspace_id: Uuid,
    pub streams: Vec<StreamAppend>,
    /// JSON text, the same for every event of the command.
    pub metadata: String,
    pub claim: Option<Claim>,
}

/// The place of the command's last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub at: LogPosition,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Another append was first, or a predecessor is missing: load again and decide again.
    #[error("the stream was changed by somebody else")]
    Conflict,
    /// Another request has used this idempotency key.
    #[error("the idempotency key is in use")]
    KeyTaken,
    /// Postgres could not store it; nothing was written.
    #[error("the event cannot be stored: {0}")]
    Refused(String),
    /// It is unknown whether it was written: the connection broke while waiting for the commit.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    #[error("too many commands are waiting")]
    Overloaded,
}

impl Append {
    /// What Postgres would take and then choke on, or what makes no sense.
    pub(crate) fn check(&self) -> Result<(), AppendError> {
        let refuse = |why: &str| Err(AppendError::Refused(why.to_owned()));
        if self.streams.iter().all(|s| s.events.is_empty()) {
            return refuse("there is no event");
        }
        let texts = self.streams.iter().flat_map(|s| &s.events).map(|e| &e.payload);
        for text in texts.chain([&self.metadata]) {
            // Stored by `json`, but every operator on it fails later.
            if holds_nul(text) {
                return refuse("a text holds a NUL character");
            }
        }
        Ok(())
    }
}

/// A NUL in JSON text: bare, or as an escape (an odd number of backslashes before `u0000`).
fn holds_nul(text: &str) -> bool {
    let escaped = text.match_indices("\\u0000").any(|(at, _)| {
        let before = text.as_bytes()[..at].iter().rev().take_while(|b| **b == b'\\').count();
        before % 2 == 0
    });
    escaped || text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_nul_is_told_from_its_spelling() {
        assert!(holds_nul(r#"{"a":"x\u0000"}"#));
        assert!(holds_nul(r#"{"a":"\\\u0000"}"#));
        assert!(!holds_nul(r#"{"a":"\\u0000"}"#));
        assert!(!holds_nul("{}"));
    }
}
