//! One projector over all nodes, takeover, lost connections, reads that wait for writes.

use std::time::Duration;

use domain::{event::LogPosition, ids::WorkspaceId, workspace::WorkspaceEvent};
use projections::{Progress, ReadModels};

use crate::log::{Log, SOON, unique};

async fn workspace(log: &mut Log, name: &str) -> (WorkspaceId, LogPosition) {
    let id = WorkspaceId(unique());
    let created = WorkspaceEvent::Created { organization_id: unique().into(), name: name.into() };
    let at = log.append(id.0, "workspace", id.0, vec![created]).await;
    (id, at)
}

const LOCKS: &str = "select count(*) from pg_locks where locktype = 'advisory' and granted
                        and database = (select oid from pg_database where datname = current_database())";

#[tokio::test]
async fn a_second_projector_stands_by_and_takes_over() {
    let mut log = Log::fresh().await;
    let first = log.project().await;
    let (_, at) = workspace(&mut log, "one").await;
    assert!(first.reads.wait_for(at, SOON).await);
    let second = log.project().await;
    let (id, at) = workspace(&mut log, "two").await;
    assert!(second.reads.wait_for(at, SOON).await, "a node that stands by sees the other's progress");
    assert_eq!(second.reads.workspace(id).await.unwrap().unwrap().name, "two");
    let mut db = log.database.connect().await;
    assert_eq!(sqlx::query_scalar::<_, i64>(LOCKS).fetch_one(&mut db).await.unwrap(), 1);

    first.stop().await;
    let (id, at) = workspace(&mut log, "three").await;
    assert!(second.reads.wait_for(at, SOON).await, "the second one takes over");
    assert_eq!(second.reads.workspace(id).await.unwrap().unwrap().name, "three");
    second.stop().await;
}

#[tokio::test]
async fn a_lost_connection_is_retried_and_quarantines_nothing() {
    let mut log = Log::fresh().await;
    let running = log.project().await;
    let (_, at) = workspace(&mut log, "one").await;
    assert!(running.reads.wait_for(at, SOON).await);
    let mut db = log.database.connect().await;
    let killed: Vec<bool> = sqlx::query_scalar(
        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted
            and database = (select oid from pg_database where datname = current_database())",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    assert_eq!(killed, [true]);
    let (id, at) = workspace(&mut log, "two").await;
    assert!(running.reads.wait_for(at, SOON).await);
    assert!(running.reads.workspace(id).await.unwrap().is_some());
    assert_eq!(log.system().await.quarantined().await.unwrap(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_missing_table_stops_the_projector_and_quarantines_nothing() {
    let mut log = Log::fresh().await;
    let mut db = log.database.connect().await;
    sqlx::query("alter table read_models.workspaces rename to elsewhere").execute(&mut db).await.unwrap();
    let running = log.project().await;
    let (id, at) = workspace(&mut log, "one").await;
    assert!(!running.reads.wait_for(at, Duration::from_millis(300)).await);
    sqlx::query("alter table read_models.elsewhere rename to workspaces").execute(&mut db).await.unwrap();
    assert!(running.reads.wait_for(at, SOON).await);
    assert!(running.reads.workspace(id).await.unwrap().is_some());
    assert_eq!(log.system().await.quarantined().await.unwrap(), 0);
    running.stop().await;
}

#[tokio::test]
async fn waiting_ends_with_the_write_or_with_the_time() {
    let mut log = Log::fresh().await;
    let (id, at) = workspace(&mut log, "one").await;
    // No projector runs: the answer is no, in time.
    let alone = ReadModels::new(log.api_pool().await, Progress::default());
    assert!(!alone.wait_for(at, Duration::from_millis(50)).await);
    assert_eq!(alone.workspace(id).await.unwrap(), None);
    let running = log.project().await;
    // One hears of it in process, the other asks the checkpoint.
    let (heard, asked) = tokio::join!(running.reads.wait_for(at, SOON), alone.wait_for(at, SOON));
    assert!(heard && asked);
    assert!(alone.workspace(id).await.unwrap().is_some());
    running.stop().await;
}
