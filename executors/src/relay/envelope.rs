//! An event as JetStream carries it: a CloudEvent, written straight from the stored bytes.

use std::fmt;

use chrono::SecondsFormat;
use domain::event::{LogPosition, RecordedEvent};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::nats::NatsError;

/// CloudEvents 1.0, structured.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: Uuid,
    #[serde(serialize_with = "displayed")]
    source: Source,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(serialize_with = "displayed")]
    subject: Subject<'a>,
    time: String,
    datacontenttype: &'static str,
    #[serde(serialize_with = "displayed")]
    sequence: Padded,
    workspaceid: Uuid,
    aggregateid: Uuid,
    aggregateseq: i64,
    #[serde(serialize_with = "displayed")]
    position: LogPosition,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    /// Where the payload is, when it is too large for a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    dataref: Option<String>,
}

struct Source(Uuid);
struct Subject<'a>(&'a str, Uuid);
/// The log's order as text: compared as text, it stays that order.
struct Padded(LogPosition);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/workspaces/{}", self.0)
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

impl fmt::Display for Padded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}.{:020}.{:019}", self.0.generation, self.0.transaction_id, self.0.position)
    }
}

fn displayed<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// The event's message, at most `limit` bytes: a larger payload stays in the log, and `dataref` names it. Sealed fields
/// stay sealed.
pub(super) fn cloud_event(event: &RecordedEvent, limit: usize) -> Result<Vec<u8>, NatsError> {
    let data: &RawValue = serde_json::from_str(&event.payload).map_err(NatsError::of)?;
    let mut envelope = CloudEvent {
        specversion: "1.0",
        id: event.event_id,
        source: Source(event.workspace_id),
        event_type: &event.event_type,
        subject: Subject(&event.aggregate_type, event.aggregate_id),
        time: event.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        datacontenttype: "application/json",
        sequence: Padded(event.at),
        workspaceid: event.workspace_id,
        aggregateid: event.aggregate_id,
        aggregateseq: event.sequence,
        position: event.at,
        data: Some(data),
        dataref: None,
    };
    let mut bytes = Vec::with_capacity(event.payload.len() + 640);
    serde_json::to_writer(&mut bytes, &envelope).map_err(NatsError::of)?;
    if bytes.len() > limit {
        bytes.clear();
        envelope.data = None;
        envelope.dataref = Some(format!("/workspaces/{}/events/{}", event.workspace_id, event.event_id));
        serde_json::to_writer(&mut bytes, &envelope).map_err(NatsError::of)?;
    }
    Ok(bytes)
}

/// What tells which event of the log a message is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stamp {
    pub id: Uuid,
    pub at: LogPosition,
}

impl Stamp {
    /// `None`: the message is none of ours.
    pub(super) fn read(message: &[u8]) -> Option<Stamp> {
        #[derive(Deserialize)]
        struct Stamped {
            id: Uuid,
            position: String,
        }
        let stamped: Stamped = serde_json::from_slice(message).ok()?;
        Some(Stamp { id: stamped.id, at: stamped.position.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::Value;

    use super::*;

    fn event(payload: &str) -> RecordedEvent {
        RecordedEvent {
            at: LogPosition { generation: 1, transaction_id: 9, position: 10 },
            workspace_id: Uuid::from_u128(1),
            aggregate_type: "workflow".into(),
            aggregate_id: Uuid::from_u128(2),
            sequence: 3,
            event_type: "workflow.created".into(),
            event_version: "1".into(),
            payload: payload.into(),
            metadata: "{}".into(),
            event_id: Uuid::from_u128(4),
            recorded_at: DateTime::from_timestamp_micros(1_800_000_000_000_001).unwrap(),
        }
    }

    #[test]
    fn a_cloud_event_keeps_the_payload_to_the_byte() {
        let payload = r#"{"z":1.50,"a":"é\u0041","z":2}"#;
        let bytes = cloud_event(&event(payload), usize::MAX).unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.contains(payload), "{text}");
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let id = |n: u128| Uuid::from_u128(n).to_string();
        for (name, wanted) in [
            ("specversion", "1.0"),
            ("id", &id(4)),
            ("source", &format!("/workspaces/{}", id(1))),
            ("type", "workflow.created"),
            ("subject", &format!("workflow/{}", id(2))),
            ("time", "2027-01-15T08:00:00.000001Z"),
            ("datacontenttype", "application/json"),
            ("sequence", "00000001.00000000000000000009.0000000000000000010"),
            ("workspaceid", &id(1)),
            ("aggregateid", &id(2)),
            ("position", "1-9-10"),
        ] {
            assert_eq!(value[name], wanted, "{name}");
        }
        assert_eq!(value["aggregateseq"], 3);
        assert_eq!(Stamp::read(&bytes), Some(Stamp { id: Uuid::from_u128(4), at: event("{}").at }));
        assert_eq!(Stamp::read(b"{\"id\":1}"), None);
    }

    #[test]
    fn a_payload_too_large_for_a_message_is_named_in_place_of_sent() {
        let large = format!("{{\"text\":\"{}\"}}", "x".repeat(2_000));
        let bytes = cloud_event(&event(&large), 1_500).unwrap();
        assert!(bytes.len() < 1_500);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(value.get("data").is_none(), "{value}");
        assert!(value["dataref"].as_str().unwrap().ends_with(&Uuid::from_u128(4).to_string()), "{value}");
        assert!(Stamp::read(&bytes).is_some(), "the relay finds its place by it");
    }

    #[test]
    fn sequences_compare_as_text() {
        let at = |t, p| Padded(LogPosition { generation: 1, transaction_id: t, position: p }).to_string();
        assert!(at(9, 100) < at(10, 1));
        assert!(at(10, 9) < at(10, 10));
    }
}
