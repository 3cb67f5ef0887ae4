//! Pages of lists: what may be asked, and what every list answers beside its items.

use domain::error::FieldError;
use poem_openapi::Object;
use projections::{ListFilter, Listed, Page, QueryError};

use crate::{problem::Problem, query::Params};

/// Where a page stands in its list.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct Pagination {
    /// From 1.
    page: u32,
    limit: u32,
    /// Counted up to 100,000.
    total: i64,
    total_pages: i64,
    has_next: bool,
    has_prev: bool,
    /// For `cursor`: costs the same at any depth.
    next_cursor: Option<String>,
    prev_cursor: Option<String>,
}

impl Pagination {
    pub fn of<T>(listed: &Listed<T>) -> Self {
        let limit = i64::from(listed.limit.max(1));
        Self {
            page: listed.page,
            limit: listed.limit,
            total: listed.total,
            total_pages: (listed.total + limit - 1) / limit,
            has_next: listed.has_next,
            has_prev: listed.has_prev,
            next_cursor: listed.next_cursor.clone(),
            prev_cursor: listed.prev_cursor.clone(),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Invalid(faults) => Problem::invalid(faults),
            QueryError::Database(cause) => Problem::unavailable(cause),
            corrupt @ QueryError::Corrupt { .. } => Problem::internal(corrupt),
        }
    }
}

/// Reads a list's parameters as its notes declare them; `sort`, pages and times are the same everywhere.
pub fn read(params: &mut Params, own: &'static [&'static str], sorts: &str) -> (ListFilter, Page) {
    let mut filter = ListFilter::default();
    for (name, kind, _) in own.iter().filter_map(|note| crate::query::parts(note)) {
        let value = value_of(params, name, kind);
        match name {
            "search" => filter.search = value,
            _ => filter = filter.with(name, value),
        }
    }
    filter.created_after = params.time("createdAfter");
    filter.created_before = params.time("createdBefore");
    (filter, page(params, sorts))
}

fn value_of(params: &mut Params, name: &str, kind: &str) -> Option<String> {
    let (kind, rest) = kind.split_once(':').unwrap_or((kind, ""));
    match kind {
        "some" | "one" => {
            let choices: Vec<&str> = rest.split(',').collect();
            let chosen = params.some_of(name, &choices);
            (!chosen.is_empty()).then(|| chosen.join(","))
        }
        "id" => {
            let text = params.text(name)?;
            let good = text.split(',').all(|part| is_id(part.trim(), rest));
            if !good {
                let message = format!("must be an id: {rest}_ and 26 characters of 0-9a-z without i, l, o, u");
                params.faults.0.push(FieldError::new(name, message));
            }
            good.then_some(text)
        }
        _ => params.text(name),
    }
}

fn is_id(text: &str, prefix: &str) -> bool {
    let suffix = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
    suffix.is_some_and(|suffix| format!("evt_{suffix}").parse::<domain::ids::EventId>().is_ok())
}

/// `page`, `limit`, `cursor` and `sort`, whose fields are `sorts` by comma.
pub fn page(params: &mut Params, sorts: &str) -> Page {
    let sort = params.text("sort");
    let known: Vec<&str> = sorts.split(',').filter(|name| !name.is_empty()).collect();
    for wanted in sort.iter().flat_map(|text| text.split(',')) {
        let name = wanted.trim().trim_start_matches('-');
        if !known.contains(&name) {
            params.faults.add("sort", format!("must be some of {}, with - for descending", known.join(", ")));
            break;
        }
    }
    Page {
        page: params.number("page", 1, 1_000_000).unwrap_or(1),
        limit: params.number("limit", 1, 100).unwrap_or(20),
        cursor: params.text("cursor"),
        sort,
    }
}

/// Declares a list's parameters: `name = kind, description;` (kinds as in `query`), and the fields it sorts by.
macro_rules! listing {
    ($(#[$meta:meta])* pub struct $name:ident sorted by $sorts:literal {
        $( $field:literal = $kind:literal, $text:literal; )*
    }) => {
        $(#[$meta])*
        pub struct $name {
            pub filter: projections::ListFilter,
            pub page: projections::Page,
        }

        impl $crate::query::QuerySet for $name {
            const NOTES: &'static [&'static str] = &[
                $( concat!("query|", $field, "|", $kind, "|", $text), )*
                "query|createdAfter|date-time|From this time on.",
                "query|createdBefore|date-time|Before this time.",
                concat!("query|sort|string|Fields by comma, - for descending: ", $sorts, "."),
                "query|page|integer:1:1000000:1|The page, from 1.",
                "query|limit|integer:1:100:20|Items on a page.",
                "query|cursor|string|nextCursor or prevCursor of an earlier page; goes before page.",
            ];

            fn read(params: &mut $crate::query::Params) -> Self {
                const OWN: &[&str] = &[$( concat!("query|", $field, "|", $kind, "|", $text) ),*];
                let (filter, page) = $crate::pagination::read(params, OWN, $sorts);
                Self { filter, page }
            }
        }
    };
}
pub(crate) use listing;

#[cfg(test)]
mod tests {
    use super::*;

    listing! {
        /// A sample.
        pub struct Sample sorted by "createdAt,name" {
            "status" = "some:on,off", "State.";
            "workflowId" = "id:wf", "Of this workflow.";
            "search" = "string", "Part of the name.";
        }
    }

    #[test]
    fn every_fault_of_a_list_is_named() {
        let query = "page=0&limit=1000&sort=-colour&status=x&workflowId=conn_1&createdAfter=soon&nonsense=1";
        let problem = crate::query::read::<Sample>(query).err().unwrap();
        let mut fields: Vec<_> = problem.details.iter().map(|d| d.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["createdAfter", "limit", "nonsense", "page", "sort", "status", "workflowId"]);
    }

    #[test]
    fn defaults_and_filters() {
        let sample = crate::query::read::<Sample>("status=on,off&search=a b&sort=-name").ok().unwrap();
        assert_eq!((sample.page.page, sample.page.limit), (1, 20));
        assert_eq!(sample.filter.fields, [("status".to_owned(), "on,off".to_owned())]);
        assert_eq!(sample.filter.search.as_deref(), Some("a b"));
    }

    #[test]
    fn pages_are_counted_up() {
        let listed = Listed {
            items: vec![1],
            total: 41,
            page: 2,
            limit: 20,
            next_cursor: None,
            prev_cursor: None,
            has_next: true,
            has_prev: true,
        };
        assert_eq!(Pagination::of(&listed).total_pages, 3);
    }
}
