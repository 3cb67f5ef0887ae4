//! Lists: filters, search, order, pages and cursors.

use domain::ids::WorkspaceId;
use projections::{ExecutionView, ListFilter, Listed, Page, QueryError, ReadModels};

use crate::{
    history,
    log::{Log, time},
};

async fn executions(reads: &ReadModels, ws: WorkspaceId, filter: ListFilter, page: Page) -> Listed<ExecutionView> {
    reads.executions(ws, &filter, &page).await.unwrap()
}

#[tokio::test]
async fn pages_and_cursors_agree() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    let reads = log.project_until(h.end).await;
    let ids = |l: &Listed<ExecutionView>| l.items.iter().map(|e| e.id).collect::<Vec<_>>();
    let all = executions(&reads, h.workspace, ListFilter::default(), Page::default()).await;
    assert_eq!((all.total, all.items.len(), all.has_next, all.has_prev), (5, 5, false, false));
    assert!(all.items.is_sorted_by(|a, b| a.started_at > b.started_at), "newest first");

    let first = executions(&reads, h.workspace, ListFilter::default(), Page { limit: 2, ..Page::default() }).await;
    let by_page = Page { limit: 2, page: 2, ..Page::default() };
    let second = executions(&reads, h.workspace, ListFilter::default(), by_page).await;
    let cursor = |c: &Option<String>| Page { limit: 2, cursor: c.clone(), ..Page::default() };
    let sought = executions(&reads, h.workspace, ListFilter::default(), cursor(&first.next_cursor)).await;
    assert_eq!((ids(&first), ids(&second)), (ids(&all)[..2].to_vec(), ids(&all)[2..4].to_vec()));
    assert_eq!(ids(&sought), ids(&second));
    let last = executions(&reads, h.workspace, ListFilter::default(), cursor(&sought.next_cursor)).await;
    assert_eq!((ids(&last), last.has_next, last.next_cursor.clone()), (ids(&all)[4..].to_vec(), false, None));
    let back = executions(&reads, h.workspace, ListFilter::default(), cursor(&last.prev_cursor)).await;
    assert_eq!(ids(&back), ids(&second));
    let front = executions(&reads, h.workspace, ListFilter::default(), cursor(&back.prev_cursor)).await;
    assert_eq!((ids(&front), front.has_prev), (ids(&first), false));
}

#[tokio::test]
async fn filters_ranges_and_orders() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    let reads = log.project_until(h.end).await;
    let with = |field: &str, value: &str| ListFilter::default().with(field, Some(value));
    let two = executions(&reads, h.workspace, with("status", "running, failed"), Page::default()).await;
    assert_eq!(two.items.iter().map(|e| e.id).collect::<Vec<_>>(), [h.failed, h.running]);
    let of = executions(&reads, h.workspace, with("workflowId", &h.workflow.to_string()), Page::default()).await;
    assert_eq!(of.total, 5);
    let range = ListFilter { created_after: Some(time(2)), created_before: Some(time(4)), ..ListFilter::default() };
    assert_eq!(executions(&reads, h.workspace, range, Page::default()).await.total, 2);
    let sorted = Page { sort: Some("status,-startedAt".into()), ..Page::default() };
    let sorted = executions(&reads, h.workspace, ListFilter::default(), sorted).await;
    let statuses: Vec<_> = sorted.items.iter().map(|e| e.status.as_str()).collect();
    assert_eq!(statuses, ["cancelled", "completed", "failed", "outcome_unknown", "running"]);
    let refused = reads.executions(h.workspace, &with("colour", "red"), &Page::default()).await;
    assert!(matches!(refused, Err(QueryError::Invalid(faults)) if faults[0].field == "colour"));
}

#[tokio::test]
async fn search_takes_wildcards_as_themselves() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    let reads = log.project_until(h.end).await;
    for (search, found) in [("crm", 1), ("100%_S", 1), ("100_%", 0), ("'; drop table x; --", 0), ("\\", 0)] {
        let filter = ListFilter { search: Some(search.into()), ..ListFilter::default() };
        let listed = reads.connections(h.workspace, &filter, &Page::default()).await.unwrap();
        assert_eq!(listed.total, found, "{search}");
    }
    let of = async |filter: ListFilter| {
        let listed = reads.operations_of(h.workspace, h.connection, &filter, &Page::default()).await.unwrap();
        listed.items.into_iter().map(|o| o.path).collect::<Vec<_>>()
    };
    assert_eq!(of(ListFilter { search: Some("50% of".into()), ..ListFilter::default() }).await, ["/mail"]);
    assert_eq!(of(ListFilter::default().with("method", Some("GET"))).await, ["/customers"]);
    assert_eq!(of(ListFilter::default().with("tag", Some("mail,none"))).await, ["/mail"]);
}
