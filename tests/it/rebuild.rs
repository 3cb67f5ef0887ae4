//! The read models are rebuilt by another process while the server works: nobody notices, and what was wrong is right.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::Server;
use crate::support::client::id;

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_beside_a_working_server_goes_unnoticed() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let steps = json!([{ "id": "say", "type": "transform", "output": "{{ input.who }}" }]);
    let workflow = maria.client.workflow(json!({ "name": "say", "steps": steps })).await;
    for n in 0..5 {
        maria.client.execute(&workflow, json!({ "who": n })).await;
    }
    server.assert_settled().await;
    let watched = format!("/workflows/{workflow}");
    let before = maria.client.get(&watched).await.data(200);
    let mut database = server.database().await;
    sqlx::raw_sql("update read_models.executions set trigger = 'tampered'").execute(&mut database).await.unwrap();
    let (code, text) = server.tool(&["replay", "verify"]).await;
    assert_eq!(code, 1, "{text}");

    let done = AtomicBool::new(false);
    let rebuilding = async {
        let (code, text) = server.tool(&["admin", "rebuild", "--batch", "50", "--json"]).await;
        done.store(true, Ordering::Relaxed);
        (code, text)
    };
    let writing = async {
        let mut number = 0;
        while !done.load(Ordering::Relaxed) {
            let renamed = maria.client.patch(&watched, json!({ "name": format!("say {number}") })).await.data(200);
            assert_eq!(renamed["name"], format!("say {number}"));
            // What was written is read, before, during and after the swap.
            let read = maria.client.get(&watched).await.data(200);
            assert_eq!(read["name"], renamed["name"]);
            number += 1;
        }
        number
    };
    let ((code, text), number) = tokio::join!(rebuilding, writing);
    assert!(code == 0 && number > 0, "{code} {number} {text}");
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let last = lines.last().unwrap();
    assert!(last["done"] == true && last["events"].as_u64().unwrap() > 30 && lines.len() > 2, "{text}");

    let execution = maria.client.execute(&workflow, json!({ "who": "after" })).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    server.assert_settled().await;
    let after = maria.client.get(&watched).await.data(200);
    for field in ["id", "createdAt", "status", "steps"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let (code, text) = server.tool(&["replay", "verify"]).await;
    assert_eq!(code, 0, "{text}");
    let (code, text) = server.tool(&["admin", "quarantine"]).await;
    assert!(code == 0 && text.contains("taken every event"), "{code} {text}");
    let shown = maria.client.get("/admin/projections").await.data(200);
    assert!(shown["projections"][0]["rebuild"].is_null(), "{shown}");
    assert!(!id(&execution).is_empty());
    server.finish().await;
}
