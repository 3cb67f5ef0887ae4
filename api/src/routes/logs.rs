//! The event log, as auditors read it: what happened, who did it, from where.

use commands::{App, Context};
use domain::{
    actor::Metadata,
    error::Code,
    event::RecordedEvent,
    ids::{EventId, WorkspaceId},
};
use poem_openapi::{Object, OpenApi, param::Path};
use projections::{AuditFilter, Page, resource_id};
use serde_json::Value;
use uuid::Uuid;

use super::Tag;
use crate::{
    answer::Answer,
    auth::{Permit, grant::LogRead},
    pagination::{self, Pagination},
    problem::Problem,
    query::{Asked, Params, QuerySet},
    request::correlation,
    types::{Id, Time},
};

pub struct LogsApi;

/// What the log may be asked.
pub struct LogQuery {
    filter: AuditFilter,
    page: Page,
}

impl QuerySet for LogQuery {
    const NOTES: &'static [&'static str] = &[
        "query|userId|string|Who acted: `user_…`, `key_…`, or an executor's name; several by comma.",
        "query|action|string|What happened: `connection.created`, `connection.*`; several by comma.",
        "query|resource|string|To what: a kind (`connection`), an id (`conn_…`), or both (`connection:conn_…`).",
        "query|startDate|date-time|From this time on.",
        "query|endDate|date-time|Before this time.",
        "query|correlationId|string|Everything of one request or execution: its correlation id, or the request's id.",
        "query|page|integer:1:1000000:1|The page, from 1.",
        "query|limit|integer:1:100:20|Entries on a page.",
        "query|cursor|string|nextCursor or prevCursor of an earlier page; goes before page.",
    ];

    fn read(params: &mut Params) -> Self {
        let filter = AuditFilter {
            user_id: params.text("userId"),
            action: params.text("action"),
            resource: params.text("resource"),
            start: params.time("startDate"),
            end: params.time("endDate"),
            correlation_id: params.text("correlationId").map(|text| correlation_id(&text)),
        };
        Self { filter, page: pagination::page(params, "") }
    }
}

/// A UUID, the id of what it is about (`exec_…`), or what a client called its request.
fn correlation_id(text: &str) -> Uuid {
    let of_resource = || projections::resource_of(text).map(|(_, id)| id);
    text.parse().ok().or_else(of_resource).unwrap_or_else(|| correlation(text).0)
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct LogResourceJson {
    #[oai(rename = "type")]
    kind: String,
    id: String,
}

/// One event of the log.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct LogEntryJson {
    id: String,
    /// Its place in the log's one order.
    position: String,
    /// What happened: `connection.created`.
    action: String,
    /// Of the event's format.
    event_version: String,
    resource: LogResourceJson,
    /// Its place in the resource's own history, from 1.
    sequence: i64,
    actor: LogResourceJson,
    /// Of the actor, when it is a person.
    user_id: Option<String>,
    workspace_id: String,
    request_id: Option<String>,
    session_id: Option<String>,
    correlation_id: Option<String>,
    /// The event that caused this one.
    causation_id: Option<String>,
    timestamp: Time,
    /// The event's content; personal and confidential parts read `sealed`.
    data: Value,
    ip_address: Option<String>,
    user_agent: Option<String>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct LogsJson {
    logs: Vec<LogEntryJson>,
    pagination: Pagination,
}

async fn entry_of(app: &App, context: &Context, event: RecordedEvent) -> LogEntryJson {
    let metadata = event.decode_metadata().ok();
    let mut ip_address = None;
    let mut user_agent = None;
    if let Some(metadata) = &metadata {
        if let Some(ip) = &metadata.ip {
            ip_address = commands::open::text(app, context, "metadata.ip", ip).await;
        }
        if let Some(agent) = &metadata.user_agent {
            user_agent = commands::open::text(app, context, "metadata.userAgent", agent).await;
        }
    }
    let mut data = serde_json::from_str(&event.payload).unwrap_or_default();
    veil(&mut data);
    let of = |read: fn(&Metadata) -> Option<String>| metadata.as_ref().and_then(read);
    LogEntryJson {
        id: EventId(event.event_id).to_string(),
        position: event.at.to_string(),
        resource: LogResourceJson {
            id: resource_id(&event.aggregate_type, event.aggregate_id),
            kind: event.aggregate_type,
        },
        action: event.event_type,
        event_version: event.event_version,
        sequence: event.sequence,
        actor: LogResourceJson {
            kind: of(|m| Some(m.actor_kind.as_str().to_owned())).unwrap_or_default(),
            id: of(|m| Some(m.actor_id.clone())).unwrap_or_default(),
        },
        user_id: of(|m| Some(m.actor_id.clone()).filter(|id| id.starts_with("user_"))),
        workspace_id: WorkspaceId(event.workspace_id).to_string(),
        request_id: of(|m| m.request_id.map(|id| id.to_string())),
        session_id: of(|m| m.session_id.map(|id| id.to_string())),
        correlation_id: of(|m| Some(m.correlation_id.to_string())),
        causation_id: of(|m| m.causation_id.map(|id| id.to_string())),
        timestamp: event.recorded_at.into(),
        data,
        ip_address,
        user_agent,
    }
}

/// Sealed values become the word `sealed`, hashes of tokens and keys the word `hidden`: a log is read by many.
fn veil(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let has_just =
                |names: &[&str]| map.len() == names.len() && names.iter().all(|name| map.contains_key(*name));
            if has_just(&["s", "k", "n", "c"]) || has_just(&["blob", "size"]) {
                *value = Value::String("sealed".into());
                return;
            }
            for (name, item) in map {
                match name.as_str() {
                    "hash" | "tokenHash" | "valueHash" => *item = Value::String("hidden".into()),
                    _ => veil(item),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(veil),
        _ => {}
    }
}

#[OpenApi(tag = "Tag::Logs")]
impl LogsApi {
    /// Read the log
    ///
    /// Everything that happened in the workspace, newest first: who, what, to what, when, from where. Nothing can
    /// change or remove an entry.
    #[oai(path = "/logs", method = "get", operation_id = "listLogs")]
    async fn list(&self, permit: Permit<LogRead>, asked: Asked<LogQuery>) -> Result<Answer<LogsJson>, Problem> {
        let LogQuery { filter, page } = asked.0;
        let listed = permit.reads().audit(permit.workspace(), &filter, &page).await?;
        let pagination = Pagination::of(&listed);
        let mut logs = Vec::with_capacity(listed.items.len());
        for event in listed.items {
            logs.push(entry_of(permit.app(), permit.context(), event).await);
        }
        Ok(Answer::new(LogsJson { logs, pagination }))
    }

    /// Read one entry of the log
    #[oai(path = "/logs/:id", method = "get", operation_id = "getLogEntry")]
    async fn get(&self, permit: Permit<LogRead>, id: Path<Id<EventId>>) -> Result<Answer<LogEntryJson>, Problem> {
        let found = permit.reads().audit_entry(permit.workspace(), id.typed("id")?).await?;
        let event = found.ok_or_else(|| Problem::not_found(Code::ResourceNotFound, "log entry"))?;
        Ok(Answer::new(entry_of(permit.app(), permit.context(), event).await))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sealed_values_and_hashes_are_not_shown() {
        let mut data = json!({
            "name": "plain",
            "email": { "s": "user:1", "k": 1, "n": "bm9uY2U=", "c": "Y2lwaGVy" },
            "input": { "blob": "ab12", "size": 7 },
            "tokenHash": "ab", "hash": "cd",
            "list": [{ "s": "x", "k": 1, "n": "n", "c": "c" }, { "s": "not", "k": "sealed" }],
            "source": { "kind": "upload", "blob": "ab12" },
        });
        veil(&mut data);
        assert_eq!(
            data,
            json!({
                "name": "plain", "email": "sealed", "input": "sealed", "tokenHash": "hidden", "hash": "hidden",
                "list": ["sealed", { "s": "not", "k": "sealed" }],
                "source": { "kind": "upload", "blob": "ab12" },
            })
        );
    }

    #[test]
    fn a_correlation_can_be_named_in_three_ways() {
        let uuid = Uuid::from_u128(9);
        assert_eq!(correlation_id(&uuid.to_string()), uuid);
        assert_eq!(correlation_id(&domain::ids::ExecutionId(uuid).to_string()), uuid);
        assert_eq!(correlation_id("my-request"), correlation("my-request").0);
    }
}
