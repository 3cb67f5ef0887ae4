//! Folding the log again gives the same rows, however it is cut into batches.

use projections::{live_state, rebuild, schema_differences};
use sqlx::Executor;

use crate::{history, log::Log};

#[tokio::test]
async fn every_batch_size_gives_the_live_checksums() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    history::write(&mut log).await;
    // The live tables are folded in two runs, the second beginning in the middle of the log.
    log.project_until(h.end).await;
    let end = history::write(&mut log).await.end;
    log.project_until(end).await;
    let mut db = log.database.connect().await;
    let live = live_state(&mut db).await.unwrap();
    assert_eq!(live.at, end);
    for batch in [1, 7, 1_000] {
        let mut heard = 0;
        let report = rebuild(&mut db, log.store.generation(), live.at, batch, |events| heard = events).await.unwrap();
        assert_eq!(report.checksums, live.checksums, "batches of {batch}");
        assert_eq!((report.quarantined, report.events), (0, heard));
    }
    let left: i64 = sqlx::query_scalar("select count(*) from pg_class where relpersistence = 't'")
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert_eq!(left, 0, "the scratch tables are gone");
}

#[tokio::test]
async fn a_changed_row_shows_in_the_checksum() {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    log.project_until(h.end).await;
    let mut db = log.database.connect().await;
    let before = live_state(&mut db).await.unwrap().checksums;
    db.execute("update read_models.execution_steps set http_status = 201 where http_status = 200").await.unwrap();
    let after = live_state(&mut db).await.unwrap().checksums;
    let differing: Vec<_> = before.iter().filter(|(table, sum)| after[*table] != **sum).map(|(t, _)| *t).collect();
    assert_eq!(differing, ["execution_steps"]);
}

#[tokio::test]
async fn the_tables_are_what_this_build_writes() {
    let log = Log::fresh().await;
    let mut db = log.database.connect().await;
    assert_eq!(schema_differences(&mut db).await.unwrap(), Vec::<String>::new());
    db.execute("alter table read_models.plans drop column writes").await.unwrap();
    assert_eq!(schema_differences(&mut db).await.unwrap().len(), 1);
}
