//! The log itself: streams without gaps, events that can be read, blobs that are what their names say.

use std::collections::{HashMap, HashSet};

use domain::event::{LogPosition, RecordedEvent};
use event_store::{BlobError, read_blob};
use projections::{decode_fault, resource_id};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{ReplayError, session::Session};

/// Fields that name a blob by its hash.
const BLOB_FIELDS: [&str; 4] = ["blob", "specHash", "operationsHash", "definitionHash"];
/// Faults beyond this many are counted, not listed.
const LISTED: usize = 100;

/// Something wrong at one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamFault {
    pub aggregate: String,
    pub sequence: i64,
    pub event_type: String,
    pub message: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamReport {
    pub events: u64,
    pub streams: u64,
    pub blobs: u64,
    pub fault_count: u64,
    /// The first 100.
    pub faults: Vec<StreamFault>,
}

impl StreamReport {
    fn fault(&mut self, event: &RecordedEvent, message: String) {
        self.fault_count += 1;
        if self.faults.len() < LISTED {
            self.faults.push(StreamFault {
                aggregate: format!(
                    "{} {}",
                    event.aggregate_type,
                    resource_id(&event.aggregate_type, event.aggregate_id)
                ),
                sequence: event.sequence,
                event_type: event.event_type.clone(),
                message,
            });
        }
    }
}

/// Reads the log up to and including `until`. Memory: some 100 bytes a stream and a blob.
pub(crate) async fn check(
    session: &mut Session,
    until: LogPosition,
    batch: i64,
    progress: impl Fn(u64),
) -> Result<StreamReport, ReplayError> {
    let mut report = StreamReport::default();
    let mut last: HashMap<(String, Uuid), i64> = HashMap::new();
    let mut blobs: HashSet<String> = HashSet::new();
    let mut at = LogPosition::START;
    while at < until {
        let mut events = event_store::read_after(&mut session.db, session.generation, at, batch.max(1)).await?;
        events.retain(|e| e.at <= until);
        let Some(end) = events.last() else { break };
        at = end.at;
        for event in &events {
            report.events += 1;
            let before = last.entry((event.aggregate_type.clone(), event.aggregate_id)).or_default();
            if event.sequence != *before + 1 {
                report.fault(event, format!("comes after sequence {before} in the log's order"));
            }
            *before = event.sequence;
            if let Some(reason) = decode_fault(event) {
                report.fault(event, reason);
            }
            for hash in named_blobs(event) {
                if blobs.insert(hash.clone())
                    && let Some(reason) = blob_fault(session, &hash).await?
                {
                    report.fault(event, reason);
                }
            }
        }
        progress(report.events);
    }
    report.streams = last.len() as u64;
    report.blobs = blobs.len() as u64;
    Ok(report)
}

async fn blob_fault(session: &mut Session, hash: &str) -> Result<Option<String>, ReplayError> {
    match read_blob(&mut session.db, hash).await {
        Ok(_) => Ok(None),
        Err(BlobError::Database(error)) => Err(error.into()),
        Err(fault) => Ok(Some(fault.to_string())),
    }
}

fn named_blobs(event: &RecordedEvent) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(payload) = serde_json::from_str::<Value>(&event.payload) {
        collect(&payload, &mut found);
    }
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(hash) if BLOB_FIELDS.contains(&name.as_str()) => found.push(hash.clone()),
                    other => collect(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}
