//! The canonical hash record of an event: what a sealed log will commit to. Fixed from the first event on.

use std::fmt::Write;

use domain::event::RecordedEvent;
use sha2::{Digest, Sha256};

/// One line a column, in this order; payload and metadata by the SHA-256 (hex) of their stored bytes; times in
/// microseconds since 1970. Under 64 KiB for every event.
///
/// ```text
/// apiq-event/1
/// <generation> <transaction id> <position>
/// <workspace uuid>
/// <aggregate type> <aggregate uuid> <sequence>
/// <event type> <event version>
/// <event uuid>
/// <recorded at, µs>
/// <payload hash>
/// <metadata hash>
/// ```
pub fn hash_record(event: &RecordedEvent) -> String {
    let digest = |text: &str| hex::encode(Sha256::digest(text.as_bytes()));
    let mut out = String::with_capacity(512);
    let at = event.at;
    let written = write!(
        out,
        "apiq-event/1\n{} {} {}\n{}\n{} {} {}\n{} {}\n{}\n{}\n{}\n{}\n",
        at.generation,
        at.transaction_id,
        at.position,
        event.workspace_id,
        event.aggregate_type,
        event.aggregate_id,
        event.sequence,
        event.event_type,
        event.event_version,
        event.event_id,
        event.recorded_at.timestamp_micros(),
        digest(&event.payload),
        digest(&event.metadata),
    );
    debug_assert!(written.is_ok(), "a String takes every write");
    out
}

#[cfg(test)]
mod tests {
    use domain::event::LogPosition;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_record_is_what_the_format_says() {
        let event = RecordedEvent {
            at: LogPosition { generation: 1, transaction_id: 742, position: 9 },
            workspace_id: Uuid::from_u128(1),
            aggregate_type: "connection".into(),
            aggregate_id: Uuid::from_u128(2),
            sequence: 3,
            event_type: "connection.deleted".into(),
            event_version: "1".into(),
            payload: "{}".into(),
            metadata: "{}".into(),
            event_id: Uuid::from_u128(4),
            recorded_at: chrono::DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap(),
        };
        let empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(
            hash_record(&event),
            format!(
                "apiq-event/1\n1 742 9\n00000000-0000-0000-0000-000000000001\n\
                 connection 00000000-0000-0000-0000-000000000002 3\nconnection.deleted 1\n\
                 00000000-0000-0000-0000-000000000004\n1800000000123456\n{empty}\n{empty}\n"
            )
        );
    }
}
