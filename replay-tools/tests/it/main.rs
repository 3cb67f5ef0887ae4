//! The tools on a real Postgres: what is whole verifies, what was changed behind the log's back does not.

#[path = "../../../projections/tests/it/history.rs"]
#[expect(dead_code, reason = "shared with the projections' tests, which use all of it")]
mod history;
#[path = "../../../projections/tests/it/log.rs"]
#[expect(dead_code, reason = "shared with the projections' tests, which use all of it")]
mod log;
#[path = "../../../projections/tests/it/oauth_history.rs"]
mod oauth_history;
#[path = "../../../tests/support/postgres.rs"]
mod postgres;
#[path = "../../../projections/tests/it/vault_history.rs"]
mod vault_history;

use log::Log;
use replay_tools::{Options, ReplayError, VerifyOutcome, rebuild, timeline, verify};
use serde_json::Value;
use sqlx::Executor;

const QUIET: Options = Options { json: false, progress: false, batch: 20 };

/// A projected history, whose blobs are all there.
async fn projected() -> (Log, history::History) {
    let mut log = Log::fresh().await;
    let h = history::write(&mut log).await;
    log.project_until(h.end).await;
    (log, h)
}

async fn verified(log: &Log) -> (VerifyOutcome, Value) {
    let mut out = Vec::new();
    let outcome = verify(&log.database.url, &Options { json: true, ..QUIET }, &mut out).await.unwrap();
    (outcome, serde_json::from_slice(&out).unwrap())
}

#[tokio::test]
async fn what_is_whole_is_identical() {
    let (log, _) = projected().await;
    let (outcome, report) = verified(&log).await;
    assert_eq!((outcome, outcome.exit_code()), (VerifyOutcome::Identical, 0), "{report:#}");
    assert_eq!(report["tables"].as_array().unwrap().len(), projections::TABLES.len());
    assert!(report["log"]["blobs"].as_u64().unwrap() >= 4);
    let mut out = Vec::new();
    verify(&log.database.url, &QUIET, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("execution_steps") && text.contains("identical: "), "{text}");
}

#[tokio::test]
async fn a_changed_row_is_found_and_named() {
    let (log, _) = projected().await;
    let mut db = log.database.connect().await;
    db.execute("update read_models.connections set name = 'forged' where status = 'INACTIVE'").await.unwrap();
    let (outcome, report) = verified(&log).await;
    assert_eq!((outcome, outcome.exit_code()), (VerifyOutcome::Different, 1));
    let tables = report["tables"].as_array().unwrap();
    let differing: Vec<_> = tables.iter().filter(|t| t["identical"] == false).map(|t| &t["table"]).collect();
    assert_eq!(differing, ["connections"]);
}

#[tokio::test]
async fn gaps_unreadable_events_and_damaged_blobs_are_found() {
    let (log, h) = projected().await;
    let mut db = log.database.connect().await;
    let gap = format!("delete from log.events where aggregate_id = '{}' and sequence = 4", h.execution.0);
    db.execute(gap.as_str()).await.unwrap();
    db.execute("update log.events set payload = '{\"name\":7}' where event_type = 'workspace.created'").await.unwrap();
    db.execute("update log.blobs set content = (select content from log.blobs order by hash limit 1)").await.unwrap();
    let (outcome, report) = verified(&log).await;
    assert_eq!(outcome, VerifyOutcome::Different);
    let faults: Vec<_> = report["log"]["faults"].as_array().unwrap().iter().map(|f| f["message"].to_string()).collect();
    for wanted in ["comes after sequence 3", "workspace.created cannot be read", "is damaged"] {
        assert!(faults.iter().any(|f| f.contains(wanted)), "{wanted}: {faults:#?}");
    }
}

#[tokio::test]
async fn the_tools_change_nothing_and_say_why_they_cannot_run() {
    let (log, _) = projected().await;
    let mut db = log.database.connect().await;
    let count = "select (select count(*) from log.events) + (select count(*) from read_models.audit_entries)
                      + (select count(*) from log.checkpoints) + (select count(*) from pg_class)";
    let before: i64 = sqlx::query_scalar(count).fetch_one(&mut db).await.unwrap();
    let mut out = Vec::new();
    rebuild(&log.database.url, &QUIET, &mut out).await.unwrap();
    assert!(String::from_utf8(out).unwrap().contains("a second"));
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut db).await.unwrap(), before);

    db.execute("alter table read_models.plans add column later integer").await.unwrap();
    let refused = verify(&log.database.url, &QUIET, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(&refused, ReplayError::Schema(d) if d[0].contains("plans.later")), "{refused}");
    assert_eq!(refused.exit_code(), 2);
    let nowhere = verify("postgres://postgres@localhost:1/none", &QUIET, &mut Vec::new()).await.unwrap_err();
    assert!(matches!(nowhere, ReplayError::Database(_)));
}

#[tokio::test]
async fn a_timeline_tells_a_history_and_opens_nothing() {
    let (log, h) = projected().await;
    let mut out = Vec::new();
    timeline(&log.database.url, &h.execution.to_string(), false, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches("execution.step_started").count(), 2, "{text}");
    assert!(text.contains("input=sealed") && text.contains("user user_of_tests"), "{text}");
    assert!(!text.contains("bm9uY2U="), "ciphertext is no reading matter");

    let mut out = Vec::new();
    timeline(&log.database.url, &h.user.0.to_string(), true, &mut out).await.unwrap();
    let events: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&events[0]["payload"]["email"], &events[0]["metadata"]["ip"]), (&"sealed".into(), &"sealed".into()));
    let unknown = timeline(&log.database.url, "conn_00000000000000000000000009", false, &mut Vec::new()).await;
    assert!(matches!(unknown, Err(ReplayError::NoEvents(_))));
    let nonsense = timeline(&log.database.url, "nonsense", false, &mut Vec::new()).await;
    assert!(matches!(nonsense, Err(ReplayError::Id(_))));
}
