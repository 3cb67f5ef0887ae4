//! Events: how they are named, written and read back.

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    actor::Metadata,
    upcast::{STEPS, Step, upcast},
};

/// Place of an event in the log's one order: `(generation, transaction_id, position)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LogPosition {
    /// Raised when a log moves to another cluster, whose transaction ids start anew.
    pub generation: i32,
    pub transaction_id: u64,
    pub position: i64,
}

impl LogPosition {
    /// Before the first event.
    pub const START: LogPosition = LogPosition { generation: 0, transaction_id: 0, position: 0 };
}

/// `generation-transaction-position`: opaque to clients.
impl std::fmt::Display for LogPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.generation, self.transaction_id, self.position)
    }
}

impl std::str::FromStr for LogPosition {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '-');
        let mut next = || parts.next().ok_or(());
        let generation = next()?.parse().map_err(|_| ())?;
        let transaction_id = next()?.parse().map_err(|_| ())?;
        let position = next()?.parse().map_err(|_| ())?;
        Ok(Self { generation, transaction_id, position })
    }
}

/// An event as the log keeps it. `payload` and `metadata` are the stored bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedEvent {
    pub at: LogPosition,
    pub workspace_id: Uuid,
    pub aggregate_type: String,
    pub aggregate_id: Uuid,
    /// From 1, without a gap, in its stream.
    pub sequence: i64,
    pub event_type: String,
    pub event_version: String,
    pub payload: String,
    pub metadata: String,
    pub event_id: Uuid,
    pub recorded_at: DateTime<Utc>,
}

impl RecordedEvent {
    pub fn decode<E: EventSet>(&self) -> Result<E, DecodeError> {
        E::decode(&self.event_type, &self.event_version, &self.payload)
    }

    pub fn decode_metadata(&self) -> Result<Metadata, DecodeError> {
        serde_json::from_str(&self.metadata).map_err(|e| DecodeError::new("metadata", e))
    }
}

/// Why a stored event is no event to this build.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("an event of type {event_type} cannot be read: {reason}")]
    Unreadable { event_type: String, reason: String },
    #[error("event {event_type} version {version} is not known to this build; it was written by a newer one")]
    Newer { event_type: String, version: String },
}

impl DecodeError {
    pub fn new(event_type: &str, reason: impl std::fmt::Display) -> Self {
        Self::Unreadable { event_type: event_type.to_owned(), reason: reason.to_string() }
    }

    pub fn newer(event_type: &str, version: &str) -> Self {
        Self::Newer { event_type: event_type.to_owned(), version: version.to_owned() }
    }
}

/// A family of events of one aggregate, made by the `events!` macro.
pub trait EventSet: DomainEvent {
    /// `(name, version)` of each member, in declaration order.
    const NAMES: &'static [(&'static str, &'static str)];

    /// How payloads of older versions are lifted.
    const UPCASTERS: &'static [Step] = STEPS;

    /// The payload alone, as stored: the members' fields, without the name.
    fn encode(&self) -> Result<String, DecodeError> {
        // Adjacent tagging prints `{"type":"…","data":{…}}`: the payload is a slice of it.
        let event_type = self.event_type();
        let text = serde_json::to_string(self).map_err(|e| DecodeError::new(&event_type, e))?;
        let head = format!("{{\"type\":\"{event_type}\",\"data\":");
        text.strip_prefix(&head)
            .and_then(|t| t.strip_suffix('}'))
            .map(str::to_owned)
            .ok_or_else(|| DecodeError::new(&event_type, "unexpected shape"))
    }

    /// Reads a payload of any version this build knows, upcasting old ones. What a newer build wrote is refused: it
    /// might parse by luck and mean something else.
    fn decode(event_type: &str, event_version: &str, payload: &str) -> Result<Self, DecodeError> {
        let Some((_, current)) = Self::NAMES.iter().find(|(name, _)| *name == event_type) else {
            return Err(DecodeError::newer(event_type, event_version));
        };
        let payload = upcast(Self::UPCASTERS, event_type, event_version, current, payload)?;
        let text = format!("{{\"type\":\"{event_type}\",\"data\":{payload}}}");
        serde_json::from_str(&text).map_err(|e| DecodeError::new(event_type, e))
    }
}

/// Declares an aggregate's events: the stored name of each, its version and its fields.
macro_rules! events {
    ($(#[$meta:meta])* pub enum $name:ident {
        $( $(#[$vmeta:meta])* $text:literal v $version:literal = $variant:ident { $( $(#[$fmeta:meta])* $field:ident : $ty:ty ),* $(,)? } ),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "type", content = "data", rename_all_fields = "camelCase")]
        pub enum $name {
            $( $(#[$vmeta])* #[serde(rename = $text)] $variant { $( $(#[$fmeta])* $field: $ty ),* } ),*
        }

        impl cqrs_es::DomainEvent for $name {
            fn event_type(&self) -> String {
                match self { $( Self::$variant { .. } => $text ),* }.to_owned()
            }
            fn event_version(&self) -> String {
                match self { $( Self::$variant { .. } => $version ),* }.to_owned()
            }
        }

        impl $crate::event::EventSet for $name {
            const NAMES: &'static [(&'static str, &'static str)] = &[ $( ($text, $version) ),* ];
        }
    };
}
pub(crate) use events;
