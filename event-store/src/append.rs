//! What is appended: one command's events, and how an append can fail.

use domain::event::{DecodeError, EventSet, LogPosition};
use uuid::Uuid;

use crate::{idempotency::Claim, storable};

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
    /// The id of the event at `expected`, when it was loaded: the append looks whether the log still has that one there. A
    /// standby that was promoted without it may have another.
    pub predecessor: Option<Uuid>,
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
    /// More than the log takes; nothing was written.
    #[error("too large for the log: {0}")]
    TooLarge(String),
    /// Nothing was written, or it could not be found out whether it was: the database did not come back in time.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    #[error("too many commands are waiting")]
    Overloaded,
}

/// Bytes of payload one event may have: as much as a reader is ready to hold many of.
pub const MAX_PAYLOAD: usize = 16 * 1024 * 1024;
/// Events one command may have, and their bytes.
pub const MAX_COMMAND: usize = 20_000;
pub const MAX_COMMAND_BYTES: usize = 64 * 1024 * 1024;

impl Append {
    /// What makes no sense, what is too much, and what Postgres would take and then choke on.
    pub(crate) fn check(&self) -> Result<(), AppendError> {
        let refuse = |why: String| Err(AppendError::Refused(why));
        let events = || self.streams.iter().flat_map(|s| &s.events);
        let count = events().count();
        if count == 0 {
            return refuse("there is no event".into());
        }
        if count > MAX_COMMAND {
            return Err(AppendError::TooLarge(format!("one command has {count} events; {MAX_COMMAND} are allowed")));
        }
        if let Some(large) = events().find(|e| e.payload.len() > MAX_PAYLOAD) {
            let (name, bytes) = (&large.event_type, large.payload.len());
            return Err(AppendError::TooLarge(format!("{name} has {bytes} bytes; {MAX_PAYLOAD} are allowed")));
        }
        if self.bytes() > MAX_COMMAND_BYTES {
            let bytes = self.bytes();
            return Err(AppendError::TooLarge(format!(
                "one command has {bytes} bytes; {MAX_COMMAND_BYTES} are allowed"
            )));
        }
        for (index, stream) in self.streams.iter().enumerate() {
            let again = |other: &StreamAppend| other.key() == stream.key();
            if self.streams[..index].iter().any(again) {
                return refuse(format!("the stream {} is named twice", stream.aggregate_id));
            }
        }
        for event in events() {
            if let Some(why) = storable::fault(&event.payload) {
                return refuse(format!("{}: {why}", event.event_type));
            }
        }
        match storable::fault(&self.metadata) {
            Some(why) => refuse(format!("metadata: {why}")),
            None => Ok(()),
        }
    }

    /// Bytes of JSON, metadata counted once for each event as it is stored.
    pub(crate) fn bytes(&self) -> usize {
        let events = self.streams.iter().flat_map(|s| &s.events);
        events.map(|e| e.payload.len() + self.metadata.len()).sum()
    }

    pub(crate) fn events(&self) -> usize {
        self.streams.iter().map(|s| s.events.len()).sum()
    }
}

/// Which stream: aggregate type and id.
pub(crate) type StreamKey = (&'static str, Uuid);

impl StreamAppend {
    pub(crate) fn key(&self) -> StreamKey {
        (self.aggregate_type, self.aggregate_id)
    }

    /// The stream's last sequence once this is appended.
    pub(crate) fn end(&self) -> i64 {
        self.expected + self.events.len() as i64
    }
}
