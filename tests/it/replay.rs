//! The auditors' tools: verify, rebuild, timeline, their output and exit codes, and that they notice tampering.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Ledger, Server};

#[tokio::test(flavor = "multi_thread")]
async fn tools_read_the_log_and_notice_tampering() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    let ledger = Ledger::start(Duration::ZERO).await;
    let connection = maria.client.connect(ledger.connection("ledger")).await;
    let step =
        json!({ "id": "fetch", "type": "api_call", "connectionId": id(&connection), "operationId": "listItems" });
    let workflow = maria.client.workflow(json!({ "name": "fetch", "steps": [step] })).await;
    let execution = maria.client.execute(&workflow, json!({ "who": "input-canary" })).await;
    server.assert_settled().await;

    let (code, text) = server.tool(&["replay", "verify"]).await;
    assert_eq!(code, 0, "{text}");
    for part in ["connections", "executions", "workflows", "identical"] {
        assert!(text.contains(part), "{text}");
    }
    let (code, text) = server.tool(&["replay", "verify", "--json"]).await;
    assert_eq!(code, 0, "{text}");
    let start = text.find('{').unwrap();
    let report: Value = serde_json::from_str(text[start..].trim()).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(report["outcome"], "identical");
    assert!(report["tables"].as_array().unwrap().len() >= 15 && report["log"]["events"].as_u64().unwrap() > 10);

    let (code, text) = server.tool(&["replay", "rebuild"]).await;
    assert!(code == 0 && text.contains("events folded"), "{code} {text}");

    let (code, text) = server.tool(&["replay", "timeline", id(&execution)]).await;
    assert_eq!(code, 0, "{text}");
    for part in ["execution.started", "execution.step_started", "execution.step_completed", "execution.completed"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("input-canary"), "sealed values stay sealed: {text}");
    let (code, _) = server.tool(&["replay", "timeline", "exec_01h455vb4pex5vsknk084sn02q"]).await;
    assert_eq!(code, 2, "no such history");
    let (code, _) = server.tool(&["replay", "timeline", "nonsense"]).await;
    assert_eq!(code, 2, "no id");

    // A row of a read model that says something else, one too many, one too few.
    let mut database = server.database().await;
    let changes = [
        (
            "workflows",
            "update read_models.workflows set name = 'mine'",
            "update read_models.workflows set name = 'fetch'",
        ),
        (
            "operations",
            "create table public.kept as select * from read_models.operations where method = 'POST'; \
             delete from read_models.operations where method = 'POST'",
            "insert into read_models.operations select * from public.kept; drop table public.kept",
        ),
        (
            "users",
            "insert into read_models.users select gen_random_uuid(), workspace_id, organization_id, 'owner', email, name, \
             created_at, last_login_at from read_models.users limit 1",
            "delete from read_models.users where id not in (select aggregate_id from log.events)",
        ),
    ];
    for (table, tamper, mend) in changes {
        sqlx::raw_sql(tamper).execute(&mut database).await.unwrap();
        let (code, text) = server.tool(&["replay", "verify"]).await;
        assert_eq!(code, 1, "{table}: {text}");
        let lines: Vec<_> = text.lines().filter(|line| line.contains("DIFFERENT") && line.contains('|')).collect();
        assert!(lines.len() == 1 && lines[0].contains(table), "{table}: {text}");
        sqlx::raw_sql(mend).execute(&mut database).await.unwrap();
        let (code, text) = server.tool(&["replay", "verify"]).await;
        assert_eq!(code, 0, "{table} is mended: {text}");
    }

    // Without a running server: the tool starts the data folder's own database, and stops it again.
    server.kill().await;
    let (code, text) = server.tool(&["replay", "verify"]).await;
    assert_eq!(code, 0, "{text}");
    server.launch().await;

    // A hole in the log itself.
    let mut database = server.database().await;
    sqlx::raw_sql("delete from log.events where event_type = 'execution.step_completed'")
        .execute(&mut database)
        .await
        .unwrap();
    let (code, text) = server.tool(&["replay", "verify"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("execution"), "{text}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_takes_no_changes_from_the_service() {
    let server = Server::start().await;
    server.account("maria").await;
    let mut database = server.database().await;
    for role in ["apiq_api", "apiq_writer", "apiq_projector", "apiq_auditor"] {
        for statement in ["update log.events set position = 0", "delete from log.events", "truncate log.events"] {
            let mut transaction = sqlx::Connection::begin(&mut database).await.unwrap();
            sqlx::raw_sql(&format!("set local role {role}")).execute(&mut *transaction).await.unwrap();
            let refused = sqlx::raw_sql(statement).execute(&mut *transaction).await;
            let error = refused.expect_err(statement).to_string();
            assert!(error.contains("permission denied"), "{role}: {statement}: {error}");
        }
    }
    server.finish().await;
}
