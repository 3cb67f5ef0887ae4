//! The audit log: an index over the events, which are the entries themselves.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use domain::{
    actor::ActorKind,
    error::FieldError,
    event::{LogPosition, RecordedEvent},
    ids::{EventId, WorkspaceId},
};
use event_store::{EVENT_COLUMNS, event_of};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use crate::{
    cells::Columns,
    fault::Fault,
    list::{COUNT_LIMIT, Listed, Page, bounds, escape_like, paged, values},
    read::{QueryError, ReadModels},
    resource::resource_of,
    statement::Statement,
    table::Rows,
    view::{Item, View},
};

/// Which entries. Texts may hold several comma-separated values, one of which must match.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditFilter {
    /// The actor's id as events keep it: `user_…`, `key_…`, an executor's name.
    pub user_id: Option<String>,
    /// Event types: `connection.created`, `connection.*`.
    pub action: Option<String>,
    /// Aggregates: a type (`connection`), an id (`conn_…`) or both (`connection:conn_…`).
    pub resource: Option<String>,
    pub start: Option<DateTime<Utc>>,
    pub end: Option<DateTime<Utc>>,
    pub correlation_id: Option<Uuid>,
}

/// The page's entries from the index, each with its event. `offset 0` keeps the key's conditions inside the view,
/// where they find the log's primary key; a plain join would read the whole log through the view's barrier.
fn select() -> QueryBuilder<'static, Postgres> {
    QueryBuilder::new(format!("select {EVENT_COLUMNS} from (select t.* from read_models.audit_entries t"))
}

const JOIN: &str = ") t cross join lateral (
         select * from log.tenant_events v
          where v.aggregate_type = t.aggregate_type and v.aggregate_id = t.aggregate_id and v.sequence = t.sequence
         offset 0) e
 order by t.generation";

impl ReadModels {
    /// Entries of the workspace, newest first; with payload and metadata as stored (personal parts are sealed).
    pub async fn audit(
        &self,
        workspace: WorkspaceId,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Listed<RecordedEvent>, QueryError> {
        let checked = check(filter, page)?;
        let mut tx = self.of(workspace).await?;
        let mut count = QueryBuilder::new("select count(*) from (select 1 from read_models.audit_entries t");
        push_where(&mut count, workspace, filter, &checked);
        count.push(" limit ").push_bind(COUNT_LIMIT).push(") as counted");
        let total: i64 = count.build_query_scalar().fetch_one(&mut *tx).await?;

        let mut query = select();
        push_where(&mut query, workspace, filter, &checked);
        let backwards = checked.cursor.is_some_and(|(backwards, _)| backwards);
        push_page(&mut query, &checked, backwards);
        let found: Vec<_> = query.build().fetch_all(&mut *tx).await?.iter().map(event_of).collect::<Result<_, _>>()?;
        tx.commit().await?;
        let came = checked.cursor.map(|(backwards, _)| backwards);
        let cursor = |event: &RecordedEvent, backwards| Some(print_cursor(backwards, event.at));
        Ok(paged(found, total, came, checked.page, checked.limit, cursor, |event| event))
    }

    pub async fn audit_entry(&self, workspace: WorkspaceId, id: EventId) -> Result<Option<RecordedEvent>, QueryError> {
        let mut query = select();
        query.push(" where t.event_id = ").push_bind(id.0).push(JOIN);
        let mut tx = self.of(workspace).await?;
        let row = query.build().fetch_optional(&mut *tx).await?;
        tx.commit().await?;
        Ok(row.as_ref().map(event_of).transpose()?)
    }

    /// An aggregate's own events, first to last; at most 10,000.
    pub async fn audit_stream(
        &self,
        workspace: WorkspaceId,
        aggregate_id: Uuid,
    ) -> Result<Vec<RecordedEvent>, QueryError> {
        let mut query = select();
        query.push(" where t.workspace_id = ").push_bind(workspace.0);
        query.push(" and t.aggregate_id = ").push_bind(aggregate_id);
        query.push(" order by t.aggregate_type, t.sequence limit 10000");
        query.push(JOIN).push(", t.transaction_id, t.position");
        let mut tx = self.of(workspace).await?;
        let rows = query.build().fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(rows.iter().map(event_of).collect::<Result<_, _>>()?)
    }
}

struct Checked {
    page: u32,
    limit: u32,
    cursor: Option<(bool, LogPosition)>,
    actors: Vec<String>,
    /// `LIKE` patterns: exact names have no wildcard.
    actions: Vec<String>,
    types: Vec<String>,
    ids: Vec<Uuid>,
}

fn check(filter: &AuditFilter, page: &Page) -> Result<Checked, QueryError> {
    let mut faults = Vec::new();
    let (number, limit) = bounds(page, &mut faults);
    let cursor = page.cursor.as_deref().and_then(|text| {
        let parsed = parse_cursor(text);
        if parsed.is_none() {
            faults.push(FieldError::new("cursor", "is no cursor of this list"));
        }
        parsed
    });
    if page.sort.is_some() {
        faults.push(FieldError::new("sort", "this list has one order: newest first"));
    }
    let of = |text: &Option<String>| text.as_deref().map(values).unwrap_or_default();
    let actions = of(&filter.action).iter().map(|action| pattern(action)).collect();
    let (mut types, mut ids) = (Vec::new(), Vec::new());
    for resource in of(&filter.resource) {
        // The id says its type itself; an id whose type the text contradicts matches nothing.
        let (kind, id) = resource.split_once(':').map_or((None, resource.as_str()), |(k, id)| (Some(k), id));
        match (resource_of(id), kind) {
            (Some((named, uuid)), kind) if kind.is_none_or(|k| k == named) => ids.push(uuid),
            (None, Some(_)) if id.parse::<Uuid>().is_ok() => ids.extend(id.parse::<Uuid>()),
            (None, None) if domain::catalogue::all().iter().any(|(aggregate, _, _)| *aggregate == id) => {
                types.push(id.to_owned());
            }
            _ => faults.push(FieldError::new("resource", format!("{resource:?} names no kind of resource and no id"))),
        }
    }
    if !faults.is_empty() {
        return Err(QueryError::Invalid(faults));
    }
    Ok(Checked { page: number, limit, cursor, actors: of(&filter.user_id), actions, types, ids })
}

/// `connection.*` → `connection.%`; everything else as itself.
fn pattern(action: &str) -> String {
    match action.strip_suffix('*') {
        Some(prefix) => format!("{}%", escape_like(prefix)),
        None => escape_like(action),
    }
}

fn push_where(query: &mut QueryBuilder<'_, Postgres>, workspace: WorkspaceId, filter: &AuditFilter, checked: &Checked) {
    query.push(" where t.workspace_id = ").push_bind(workspace.0);
    if !checked.actors.is_empty() {
        query.push(" and t.actor_id = any(").push_bind(checked.actors.clone()).push(")");
    }
    if !checked.actions.is_empty() {
        query.push(" and t.event_type like any(").push_bind(checked.actions.clone()).push(")");
    }
    if !checked.types.is_empty() || !checked.ids.is_empty() {
        query.push(" and (t.aggregate_type = any(").push_bind(checked.types.clone());
        query.push(") or t.aggregate_id = any(").push_bind(checked.ids.clone()).push("))");
    }
    if let Some(start) = filter.start {
        query.push(" and t.recorded_at >= ").push_bind(start);
    }
    if let Some(end) = filter.end {
        query.push(" and t.recorded_at < ").push_bind(end);
    }
    if let Some(correlation) = filter.correlation_id {
        query.push(" and t.correlation_id = ").push_bind(correlation);
    }
}

fn push_page(query: &mut QueryBuilder<'_, Postgres>, checked: &Checked, up: bool) {
    if let Some((_, at)) = checked.cursor {
        query.push(" and (t.generation, t.transaction_id, t.position) ").push(if up { "> (" } else { "< (" });
        query.push_bind(at.generation).push(", ").push_bind(at.transaction_id.to_string()).push("::text::xid8, ");
        query.push_bind(at.position).push(")");
    }
    let direction = if up { "asc" } else { "desc" };
    let order = format!(" {direction}, t.transaction_id {direction}, t.position {direction}");
    query.push(" order by t.generation").push(&order);
    query.push(" limit ").push_bind(i64::from(checked.limit) + 1);
    if checked.cursor.is_none() {
        query.push(" offset ").push_bind(i64::from(checked.page - 1) * i64::from(checked.limit));
    }
    query.push(JOIN).push(&order);
}

fn print_cursor(backwards: bool, at: LogPosition) -> String {
    hex::encode(format!("{}{at}", if backwards { 'p' } else { 'n' }))
}

fn parse_cursor(text: &str) -> Option<(bool, LogPosition)> {
    let text = String::from_utf8(hex::decode(text).ok()?).ok()?;
    match text.strip_prefix('p') {
        Some(at) => Some((true, at.parse().ok()?)),
        None => Some((false, text.strip_prefix('n')?.parse().ok()?)),
    }
}

pub(crate) const COLUMNS: [&str; 13] = [
    "event_id",
    "workspace_id",
    "generation",
    "transaction_id",
    "position",
    "aggregate_type",
    "aggregate_id",
    "sequence",
    "event_type",
    "actor_kind",
    "actor_id",
    "correlation_id",
    "recorded_at",
];

/// One line of the index.
#[derive(serde::Serialize)]
struct Entry {
    event_id: Uuid,
    workspace_id: Uuid,
    generation: i32,
    transaction_id: u64,
    position: i64,
    aggregate_type: String,
    aggregate_id: Uuid,
    sequence: i64,
    event_type: String,
    actor_kind: &'static str,
    actor_id: String,
    correlation_id: Uuid,
    recorded_at: DateTime<Utc>,
}

#[derive(Default)]
pub(crate) struct Audit {
    entries: Entries,
}

/// The lines that a batch adds: every event writes one, and none is ever changed.
#[derive(Default)]
struct Entries(VecDeque<Entry>);

impl Rows for Entries {
    fn load(&mut self, _: &mut Statement) -> Result<(), Fault> {
        Ok(())
    }

    fn take(&mut self, _: &str, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    fn store(&mut self, statement: &mut Statement, most: usize) -> Result<usize, Fault> {
        let count = most.min(self.0.len());
        if count == 0 {
            return Ok(0);
        }
        let mut columns = Columns::new(&statement.types, "audit_entries", &COLUMNS);
        for entry in self.0.drain(..count) {
            columns.push(&entry).map_err(|e| Fault::Event(e.to_string()))?;
        }
        statement.insert("audit_entries", &["event_id"], &columns, false)?;
        Ok(count)
    }

    fn keep(&mut self, _: usize) {
        self.clear();
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl View for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn events(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reservations are inner bookkeeping; what they serve is audited itself.
    fn handles(&self, event_type: &str) -> bool {
        !event_type.starts_with("reservation.")
    }

    fn in_order(&self) -> bool {
        false
    }

    fn want(&mut self, _: &Item) -> Result<(), Fault> {
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Rows> {
        vec![&mut self.entries]
    }

    /// Needs no payload: an event that cannot be decoded is audited all the same, by nobody known when even its
    /// metadata cannot be read.
    fn fold(&mut self, item: &Item) -> Result<(), Fault> {
        let event = &item.recorded;
        let (kind, actor, correlation) = match item.metadata() {
            Ok(m) => (m.actor_kind, m.actor_id.clone(), m.correlation_id),
            Err(_) => (ActorKind::Anonymous, String::new(), event.event_id),
        };
        self.entries.0.push_back(Entry {
            event_id: event.event_id,
            workspace_id: event.workspace_id,
            generation: event.at.generation,
            transaction_id: event.at.transaction_id,
            position: event.at.position,
            aggregate_type: event.aggregate_type.clone(),
            aggregate_id: event.aggregate_id,
            sequence: event.sequence,
            event_type: event.event_type.clone(),
            actor_kind: kind.as_str(),
            actor_id: actor,
            correlation_id: correlation,
            recorded_at: event.recorded_at,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::ConnectionId;

    use super::*;

    #[test]
    fn resources_and_actions_are_understood_or_named() {
        let id = ConnectionId(Uuid::from_u128(3));
        let of = |text: String| check(&AuditFilter { resource: Some(text), ..Default::default() }, &Page::default());
        let both = of(format!("workflow, connection:{id}")).unwrap();
        assert_eq!((both.types, both.ids), (vec!["workflow".to_owned()], vec![id.0]));
        for bad in ["nonsense".to_owned(), format!("workflow:{id}"), "connection:xyz".to_owned()] {
            assert!(matches!(of(bad), Err(QueryError::Invalid(f)) if f[0].field == "resource"));
        }
        assert_eq!(pattern("api_key.*"), "api\\_key.%");
        assert_eq!(pattern("a%"), "a\\%");
    }

    #[test]
    fn cursors_round_trip() {
        let at = LogPosition { generation: 2, transaction_id: 99, position: 7 };
        assert_eq!(parse_cursor(&print_cursor(true, at)), Some((true, at)));
        assert_eq!(parse_cursor("zz"), None);
    }
}
