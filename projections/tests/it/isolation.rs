//! One tenant never sees another, whatever a query forgets.

use domain::ids::WorkspaceId;
use projections::{AuditFilter, ListFilter, Page, TABLES};

use crate::{
    history,
    log::{Log, unique},
};

#[tokio::test]
async fn another_workspace_sees_nothing() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    let reads = log.project_until(h.end).await;
    let other = WorkspaceId(unique());
    let (all, page) = (ListFilter::default(), Page::default());
    assert_eq!(reads.connections(other, &all, &page).await.unwrap().total, 0);
    assert_eq!(reads.connection(other, h.connection).await.unwrap(), None);
    assert_eq!(reads.operations_of(other, h.connection, &all, &page).await.unwrap().items, []);
    assert_eq!(reads.credential(other, h.credential).await.unwrap(), None);
    assert_eq!(reads.credential_reads(other, h.credential).await.unwrap(), []);
    assert_eq!(reads.execution(other, h.execution).await.unwrap(), None);
    assert_eq!(reads.steps(other, h.execution).await.unwrap(), []);
    assert_eq!(reads.workflow_version(other, h.workflow, 1).await.unwrap(), None);
    assert_eq!(reads.delivery(other, h.delivery).await.unwrap(), None);
    assert_eq!(reads.user(other, h.user).await.unwrap(), None);
    assert_eq!(reads.audit(other, &AuditFilter::default(), &page).await.unwrap().items, []);
    assert_eq!(reads.audit_stream(other, h.connection.0).await.unwrap(), []);
}

#[tokio::test]
async fn a_query_that_names_no_workspace_sees_nothing() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    log.project_until(h.end).await;
    let pool = log.api_pool().await;
    let mut owner = log.database.connect().await;
    for table in TABLES {
        let count = format!("select count(*) from read_models.{table}");
        let there: i64 = sqlx::query_scalar(&count).fetch_one(&mut owner).await.unwrap();
        assert!(there > 0, "{table} is empty: the test would prove nothing");
        let seen: i64 = sqlx::query_scalar(&count).fetch_one(&pool).await.unwrap();
        assert_eq!(seen, 0, "{table}");
        let written = sqlx::query(&format!("delete from read_models.{table}")).execute(&pool).await;
        assert!(written.is_err(), "the API's role changed {table}");
    }
    let seen: i64 = sqlx::query_scalar("select count(*) from log.tenant_events").fetch_one(&pool).await.unwrap();
    assert_eq!(seen, 0);
    assert!(sqlx::query("select 1 from log.events").execute(&pool).await.is_err());
}
