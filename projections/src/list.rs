//! One way to list: filters, ranges, search, order, pages and cursors, over columns that each noun allows.
//!
//! What a client sends only ever becomes a bound parameter; names of fields are looked up in the noun's `ListSpec`.

use chrono::{DateTime, Utc};
use domain::{error::FieldError, ids::WorkspaceId};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use crate::{cursor::Cursor, read::QueryError, resource, row::Row};

pub const DEFAULT_LIMIT: u32 = 20;
pub const MAX_LIMIT: u32 = 100;
/// Totals are counted up to this many.
pub const COUNT_LIMIT: i64 = 100_000;

/// Which part of a list. `cursor` (of an earlier answer) goes before `page`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// From 1; 0 counts as 1.
    pub page: u32,
    /// 1 to 100; 0 counts as 20.
    pub limit: u32,
    pub cursor: Option<String>,
    /// `name,-createdAt`: fields of the noun, `-` for descending. Cursors serve the noun's own order only.
    pub sort: Option<String>,
}

/// Which items. Every condition must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListFilter {
    /// Field and its comma-separated values (one of them must be equal).
    pub fields: Vec<(String, String)>,
    pub created_after: Option<DateTime<Utc>>,
    pub created_before: Option<DateTime<Utc>>,
    /// Part of a text (name, description), in any case.
    pub search: Option<String>,
}

impl ListFilter {
    /// Adds a condition; an absent value adds none.
    pub fn with(mut self, field: &str, values: Option<impl Into<String>>) -> Self {
        self.fields.extend(values.map(|v| (field.to_owned(), v.into())));
        self
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// Counted up to `COUNT_LIMIT`.
    pub total: i64,
    pub page: u32,
    pub limit: u32,
    pub next_cursor: Option<String>,
    pub prev_cursor: Option<String>,
    pub has_next: bool,
    pub has_prev: bool,
}

/// How a filter's values are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    /// A TypeID of this prefix, or a UUID.
    Id(&'static str),
    /// The column is a `text[]`, one of whose elements must be equal.
    Element,
}

/// The noun's own order: by this column, then by `id`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// Newest first.
    Time(&'static str),
    /// Lowest first.
    Ordinal(&'static str),
}

/// What clients may ask of one noun: `(public field, column)`.
pub(crate) struct ListSpec {
    pub order: Order,
    pub filters: &'static [(&'static str, &'static str, Kind)],
    pub sorts: &'static [(&'static str, &'static str)],
    pub search: &'static [&'static str],
}

impl Order {
    fn column(self) -> &'static str {
        match self {
            Order::Time(column) | Order::Ordinal(column) => column,
        }
    }

    /// `(key, id)` as the cursor keeps it: microseconds or the number itself.
    fn key_sql(self) -> String {
        match self {
            Order::Time(column) => format!("(extract(epoch from t.{column}) * 1000000)::bigint"),
            Order::Ordinal(column) => format!("t.{column}::bigint"),
        }
    }
}

/// A request that was checked against its noun.
struct Checked {
    conditions: Vec<Condition>,
    sorts: Vec<(&'static str, bool)>,
    cursor: Option<Cursor>,
    page: u32,
    limit: u32,
}

enum Condition {
    Texts(&'static str, Vec<String>),
    Ids(&'static str, Vec<Uuid>),
    Elements(&'static str, Vec<String>),
}

/// Values of a comma-separated list.
pub(crate) fn values(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned).collect()
}

/// `LIKE` pattern for a part of a text; wildcards in it count as themselves.
pub(crate) fn like(text: &str) -> String {
    format!("%{}%", escape_like(text))
}

pub(crate) fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// Page number and limit within their bounds, or what is wrong with them.
pub(crate) fn bounds(page: &Page, faults: &mut Vec<FieldError>) -> (u32, u32) {
    if page.limit > MAX_LIMIT {
        faults.push(FieldError::new("limit", format!("must be 1 to {MAX_LIMIT}")));
    }
    if page.page > 1_000_000 {
        faults.push(FieldError::new("page", "must be 1 to 1000000; use cursor to go deep"));
    }
    (page.page.max(1), if page.limit == 0 { DEFAULT_LIMIT } else { page.limit })
}

fn check(spec: &ListSpec, filter: &ListFilter, page: &Page) -> Result<Checked, QueryError> {
    let mut faults = Vec::new();
    let (number, limit) = bounds(page, &mut faults);
    let mut conditions = Vec::new();
    for (field, text) in &filter.fields {
        match spec.filters.iter().find(|(name, _, _)| name == field) {
            None => faults.push(FieldError::new(field.as_str(), "is no filter of this list")),
            Some((_, column, kind)) => conditions.extend(condition(field, column, *kind, text, &mut faults)),
        }
    }
    let mut sorts = Vec::new();
    for wanted in page.sort.iter().flat_map(|s| values(s)) {
        let (name, descending) = wanted.strip_prefix('-').map_or((wanted.as_str(), false), |n| (n, true));
        match spec.sorts.iter().find(|(field, _)| *field == name) {
            Some((_, column)) => sorts.push((*column, descending)),
            None => {
                let known: Vec<_> = spec.sorts.iter().map(|(field, _)| *field).collect();
                faults.push(FieldError::new("sort", format!("{name:?} is none of {}", known.join(", "))));
            }
        }
    }
    let cursor = page.cursor.as_deref().map(Cursor::parse).transpose().unwrap_or_else(|()| {
        faults.push(FieldError::new("cursor", "is no cursor of this list"));
        None
    });
    if cursor.is_some() && !sorts.is_empty() {
        faults.push(FieldError::new("cursor", "goes with the list's own order only: leave sort out, or use page"));
    }
    if !faults.is_empty() {
        return Err(QueryError::Invalid(faults));
    }
    Ok(Checked { conditions, sorts, cursor, page: number, limit })
}

fn condition(
    field: &str,
    column: &'static str,
    kind: Kind,
    text: &str,
    faults: &mut Vec<FieldError>,
) -> Option<Condition> {
    let values = values(text);
    if values.is_empty() {
        faults.push(FieldError::new(field, "needs a value"));
        return None;
    }
    Some(match kind {
        Kind::Text => Condition::Texts(column, values),
        Kind::Element => Condition::Elements(column, values),
        Kind::Id(prefix) => {
            let ids: Vec<Uuid> = values.iter().filter_map(|v| resource::uuid_of(prefix, v)).collect();
            if ids.len() < values.len() {
                faults.push(FieldError::new(field, format!("must be an id ({prefix}_…)")));
            }
            Condition::Ids(column, ids)
        }
    })
}

fn push_where(
    query: &mut QueryBuilder<'_, Postgres>,
    spec: &ListSpec,
    workspace: WorkspaceId,
    filter: &ListFilter,
    checked: &Checked,
) {
    // Row-level security holds without this; the index needs it.
    query.push(" where t.workspace_id = ").push_bind(workspace.0);
    for condition in &checked.conditions {
        match condition {
            Condition::Texts(column, values) => {
                query.push(format!(" and t.{column} = any(")).push_bind(values.clone()).push(")");
            }
            Condition::Ids(column, ids) => {
                query.push(format!(" and t.{column} = any(")).push_bind(ids.clone()).push(")");
            }
            Condition::Elements(column, values) => {
                query.push(format!(" and t.{column} && ")).push_bind(values.clone());
            }
        }
    }
    if let Order::Time(column) = spec.order {
        if let Some(after) = filter.created_after {
            query.push(format!(" and t.{column} >= ")).push_bind(after);
        }
        if let Some(before) = filter.created_before {
            query.push(format!(" and t.{column} < ")).push_bind(before);
        }
    }
    if let Some(search) = filter.search.as_deref().map(str::trim).filter(|s| !s.is_empty()) {
        let pattern = like(search);
        for (i, column) in spec.search.iter().enumerate() {
            query.push(if i == 0 { " and (" } else { " or " });
            query.push(format!("t.{column} ilike ")).push_bind(pattern.clone());
        }
        if !spec.search.is_empty() {
            query.push(")");
        }
    }
}

/// Ascending in SQL: the noun's direction, turned round for the page before a cursor.
fn ascending(spec: &ListSpec, checked: &Checked) -> bool {
    let backwards = checked.cursor.as_ref().is_some_and(|c| c.backwards);
    matches!(spec.order, Order::Ordinal(_)) != backwards
}

fn push_order(query: &mut QueryBuilder<'_, Postgres>, spec: &ListSpec, checked: &Checked) {
    let up = ascending(spec, checked);
    let column = spec.order.column();
    if let Some(cursor) = &checked.cursor {
        query.push(format!(" and (t.{column}, t.id) {} (", if up { ">" } else { "<" }));
        match spec.order {
            Order::Time(_) => query.push_bind(DateTime::from_timestamp_micros(cursor.key).unwrap_or_default()),
            Order::Ordinal(_) => query.push_bind(cursor.key),
        };
        query.push(", ").push_bind(cursor.id).push(")");
    }
    query.push(" order by ");
    for (column, descending) in &checked.sorts {
        query.push(format!("t.{column} {} nulls last, ", if *descending { "desc" } else { "asc" }));
    }
    let direction = if up { "asc" } else { "desc" };
    query.push(format!("t.{column} {direction}, t.id {direction}"));
    query.push(" limit ").push_bind(i64::from(checked.limit) + 1);
    if checked.cursor.is_none() {
        query.push(" offset ").push_bind(i64::from(checked.page - 1) * i64::from(checked.limit));
    }
}

/// One page of a table, and how many there are.
pub(crate) async fn list<R: Row>(
    db: &mut PgConnection,
    spec: &ListSpec,
    workspace: WorkspaceId,
    filter: &ListFilter,
    page: &Page,
) -> Result<Listed<R>, QueryError> {
    let checked = check(spec, filter, page)?;
    let table = R::TABLE;
    let mut count = QueryBuilder::new(format!("select count(*) from (select 1 from read_models.{table} t"));
    push_where(&mut count, spec, workspace, filter, &checked);
    count.push(" limit ").push_bind(COUNT_LIMIT).push(") as counted");
    let total: i64 = count.build_query_scalar().fetch_one(&mut *db).await?;

    let key = spec.order.key_sql();
    let mut query = QueryBuilder::new(format!(
        "select row_to_json(t)::text as item, {key} as key, t.id as id from read_models.{table} t"
    ));
    push_where(&mut query, spec, workspace, filter, &checked);
    push_order(&mut query, spec, &checked);
    let mut found = Vec::new();
    for row in query.build().fetch_all(db).await? {
        let item: &str = row.try_get("item")?;
        let item: R = serde_json::from_str(item).map_err(|e| QueryError::corrupt(table, e))?;
        found.push((item, row.try_get::<i64, _>("key")?, row.try_get::<Uuid, _>("id")?));
    }
    let seek = checked.sorts.is_empty();
    let cursors =
        |(_, key, id): &(R, i64, Uuid), backwards| seek.then(|| Cursor { backwards, key: *key, id: *id }.to_string());
    Ok(paged(found, total, checked.cursor.map(|c| c.backwards), checked.page, checked.limit, cursors, |(item, ..)| {
        item
    }))
}

/// Turns `limit + 1` found rows into a page. `came`: the direction of the cursor that led here.
pub(crate) fn paged<F, T>(
    mut found: Vec<F>,
    total: i64,
    came: Option<bool>,
    page: u32,
    limit: u32,
    cursor: impl Fn(&F, bool) -> Option<String>,
    item: impl Fn(F) -> T,
) -> Listed<T> {
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let (has_next, has_prev) = match came {
        None => (more, page > 1),
        Some(false) => (more, true),
        Some(true) => (true, more),
    };
    if came == Some(true) {
        found.reverse();
    }
    let next_cursor = found.last().filter(|_| has_next).and_then(|f| cursor(f, false));
    let prev_cursor = found.first().filter(|_| has_prev).and_then(|f| cursor(f, true));
    let items = found.into_iter().map(item).collect();
    Listed { items, total, page, limit, next_cursor, prev_cursor, has_next, has_prev }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: ListSpec = ListSpec {
        order: Order::Time("created_at"),
        filters: &[("status", "status", Kind::Text), ("workflowId", "workflow_id", Kind::Id("wf"))],
        sorts: &[("name", "name")],
        search: &["name"],
    };

    #[test]
    fn every_fault_is_found_at_once() {
        let filter = ListFilter::default()
            .with("colour", Some("red"))
            .with("workflowId", Some("conn_1"))
            .with("status", Some(" , "));
        let page = Page { limit: 101, cursor: Some("zz".into()), sort: Some("name,-id; drop".into()), page: 1 };
        let Err(QueryError::Invalid(faults)) = check(&SPEC, &filter, &page) else { panic!("accepted") };
        let fields: Vec<_> = faults.iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["limit", "colour", "workflowId", "status", "sort", "cursor"]);
    }

    #[test]
    fn wildcards_count_as_themselves() {
        assert_eq!(like("50%_a\\b"), "%50\\%\\_a\\\\b%");
    }

    #[test]
    fn pages_know_their_neighbours() {
        let of = |came, page| {
            paged(
                vec![3, 2, 1],
                9,
                came,
                page,
                2,
                |n, back| Some(format!("{}{n}", if back { "<" } else { ">" })),
                |n| n,
            )
        };
        let first = of(None, 1);
        assert_eq!((first.items, first.next_cursor.as_deref(), first.prev_cursor), (vec![3, 2], Some(">2"), None));
        let back = of(Some(true), 1);
        assert_eq!((back.items, back.next_cursor.as_deref()), (vec![2, 3], Some(">3")));
        assert_eq!(back.prev_cursor.as_deref(), Some("<2"));
    }
}
