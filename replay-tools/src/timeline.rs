//! `replay timeline <id>`: an aggregate's history as a table.

use std::io::Write;

use chrono::SecondsFormat;
use domain::event::RecordedEvent;
use projections::{resource_id, resource_of};
use serde_json::{Value, json};

use crate::{
    ReplayError, print,
    redact::{Erased, redact, summary},
    session::Session,
};

/// Longest history printed, events.
const MOST: i64 = 10_000;

/// `id` is any TypeID or a UUID. Sealed values print as `sealed`, those whose key was destroyed as `erased`.
pub async fn timeline(
    database_url: &str,
    id: &str,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<(), ReplayError> {
    let (kind, uuid) = match resource_of(id) {
        Some((kind, uuid)) => (Some(kind), uuid),
        None => (None, id.parse().map_err(|_| ReplayError::Id(id.to_owned()))?),
    };
    let mut session = Session::open(database_url).await?;
    let mut events = event_store::read_stream(&mut session.db, uuid, MOST).await?;
    events.retain(|e| kind.is_none_or(|k| k == e.aggregate_type));
    if events.is_empty() {
        return Err(ReplayError::NoEvents(id.to_owned()));
    }
    let erased = session.erased(events[0].workspace_id).await?;
    if json {
        let all: Vec<Value> = events.iter().map(|event| document(event, &erased)).collect();
        writeln!(out, "{:#}", Value::from(all))?;
        return Ok(());
    }
    let rows = events.iter().map(|event| {
        vec![
            event.sequence.to_string(),
            event.recorded_at.to_rfc3339_opts(SecondsFormat::Millis, true),
            event.event_type.clone(),
            actor(event),
            summary(&payload(event, &erased)),
        ]
    });
    let first = &events[0];
    writeln!(out, "{} {}", first.aggregate_type, resource_id(&first.aggregate_type, uuid))?;
    writeln!(out, "{}", print::table(&["#", "time", "event", "actor", "payload"], &[0], rows))?;
    Ok(())
}

fn payload(event: &RecordedEvent, erased: &Erased) -> Value {
    redact(serde_json::from_str(&event.payload).unwrap_or_else(|_| Value::from("unreadable")), erased)
}

fn actor(event: &RecordedEvent) -> String {
    event
        .decode_metadata()
        .map_or_else(|_| "unreadable".to_owned(), |m| format!("{} {}", m.actor_kind.as_str(), m.actor_id))
}

fn document(event: &RecordedEvent, erased: &Erased) -> Value {
    let metadata = serde_json::from_str(&event.metadata).unwrap_or_else(|_| Value::from("unreadable"));
    json!({
        "sequence": event.sequence,
        "time": event.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        "eventId": domain::ids::EventId(event.event_id),
        "event": event.event_type,
        "version": event.event_version,
        "resource": resource_id(&event.aggregate_type, event.aggregate_id),
        "position": event.at.to_string(),
        "payload": payload(event, erased),
        "metadata": redact(metadata, erased),
    })
}
