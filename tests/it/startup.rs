//! How a server starts, and how it refuses to: settings, keys, data folders; and what the server profile limits.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::keeper::{Keeper, free_port};
use crate::support::{Client, Server, engines, until};

/// `apiq serve` beside a dev server, on its engines; the URL, and what keeps the process.
pub(crate) async fn second_node(server: &Server, settings: &[(&str, &str)]) -> (Keeper, Client) {
    let port = free_port();
    let master = std::fs::read_to_string(server.data().join("master.key")).unwrap();
    let mut command = Command::new(engines::BINARY);
    engines::clean(&mut command);
    command.args(["serve", "--port", &port.to_string()]).env("APIQ_MASTER_KEY", master.trim());
    command.env("APIQ_DATABASE_URL", server.database_url()).env("APIQ_NATS_URL", server.nats_url());
    command.envs(settings.iter().copied());
    let log = server.data().join("second.log");
    let keeper = Keeper::spawn(&command, &log);
    let client = Client::new(&format!("http://127.0.0.1:{port}"));
    let ready = async || client.try_get("/health/ready").await.filter(|answer| answer.status == 200).map(drop);
    until(&format!("a second node, see {}", log.display()), Duration::from_secs(30), ready).await;
    (keeper, client)
}

/// The exit code and words of a command that should end by itself.
async fn refused(arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(engines::BINARY);
    engines::clean(&mut command);
    command.args(arguments).envs(settings.iter().copied());
    let output = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(30), output).await.expect("it ends").unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_at_the_start() {
    let (code, text) = refused(&["serve"], &[("APIQ_PORT", "no port"), ("APIQ_LOG_FORMAT", "xml")]).await;
    assert_eq!(code, Some(2), "{text}");
    for name in ["APIQ_DATABASE_URL", "APIQ_NATS_URL", "APIQ_MASTER_KEY", "APIQ_PORT", "APIQ_LOG_FORMAT"] {
        assert!(text.contains(name), "{name} is not named:\n{text}");
    }

    let server = Server::start().await;
    let (database, nats) = (server.database_url().to_owned(), server.nats_url().to_owned());
    let good = std::fs::read_to_string(server.data().join("master.key")).unwrap();
    let serve = async |database: &str, nats: &str, key: &str| {
        let settings =
            [("APIQ_DATABASE_URL", database), ("APIQ_NATS_URL", nats), ("APIQ_MASTER_KEY", key), ("APIQ_PORT", "0")];
        let (code, text) = refused(&["serve"], &settings).await;
        assert!(code.is_some_and(|code| code != 0) && !text.contains("panicked"), "{code:?} {text}");
        assert!(!text.contains(key) && text.len() < 2_000, "{text}");
        text
    };
    let other = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let text = serve(&database, &nats, other).await;
    assert!(text.contains("master key"), "{text}");
    assert!(serve(&database, &nats, "c2hvcnQ=").await.contains("APIQ_MASTER_KEY"));
    let nowhere = "postgres://apiq:database-canary@127.0.0.1:9/apiq";
    let text = serve(nowhere, &nats, good.trim()).await;
    assert!(text.contains("database") && !text.contains("database-canary"), "{text}");

    // One process per data folder: the second is told who has it.
    let folder = server.data().to_string_lossy().into_owned();
    let (code, text) = refused(&["dev", "--data-dir", &folder], &[]).await;
    assert!(code != Some(0) && text.contains("uses the data folder"), "{code:?} {text}");
    let (code, text) = refused(&["health", "--data-dir", &folder], &[]).await;
    assert!(code == Some(0) && text.contains("healthy"), "{code:?} {text}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_and_works_without_nats() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let master = std::fs::read_to_string(server.data().join("master.key")).unwrap();
    let port = free_port();
    let mut command = Command::new(engines::BINARY);
    engines::clean(&mut command);
    command.args(["serve", "--port", &port.to_string()]).env("APIQ_MASTER_KEY", master.trim());
    command.env("APIQ_DATABASE_URL", server.database_url());
    command.env("APIQ_NATS_URL", "nats://apiq:nats-canary@127.0.0.1:9");
    let log = server.data().join("without-nats.log");
    let keeper = Keeper::spawn(&command, &log);
    let client = Client::new(&format!("http://127.0.0.1:{port}"));
    let live = async || client.try_get("/health/live").await.filter(|answer| answer.status == 200).map(drop);
    until(&format!("a node without NATS, see {}", log.display()), Duration::from_secs(30), live).await;
    let health = client.get("/health").await;
    assert_eq!(health.data(200)["status"], "degraded", "{}", health.text);
    assert_eq!(health.data(200)["checks"]["nats"]["status"], "unhealthy", "{}", health.text);
    let there = client.bearer(&maria.access);
    let steps = json!([{ "id": "say", "type": "transform", "output": "hello" }]);
    let workflow = there.workflow(json!({ "name": "say", "steps": steps })).await;
    let execution = there.execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    drop(keeper);
    let said = std::fs::read_to_string(log).unwrap();
    assert!(said.contains("does not answer") && !said.contains("nats-canary"), "{said}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_serves_the_same_and_keeps_its_limits() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let steps = json!([{ "id": "say", "type": "transform", "output": "hello" }]);
    let workflow = maria.client.post("/workflows", json!({ "name": "say", "steps": steps })).await;
    let position = workflow.header("x-event-position").unwrap().to_owned();
    let workflow = workflow.data(201)["id"].as_str().unwrap().to_owned();
    let (node, other) = second_node(&server, &[]).await;

    // A token of one node is good on the other; a write here is read there by its position.
    let there = other.bearer(&maria.access);
    let read = there.header("x-event-position", &position).get(&format!("/workflows/{workflow}")).await;
    assert_eq!(read.data(200)["name"], "say");
    let execution = there.execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let written = there.patch(&format!("/workflows/{workflow}"), json!({ "name": "said" })).await;
    let position = written.header("x-event-position").unwrap();
    let here = maria.client.header("x-event-position", position).get(&format!("/workflows/{workflow}")).await;
    assert_eq!(here.data(200)["name"], "said");

    // The server profile reaches no inner address, and has no demo's generosity.
    let inner = json!({ "name": "x", "specUrl": "http://127.0.0.1:9/openapi.json" });
    there.post("/connections", inner).await.names(&["specUrl"]);
    let login = json!({ "email": "someone@example.com", "password": "a wrong password" });
    for _ in 0..5 {
        other.post("/auth/login", login.clone()).await.refused(401, "INVALID_CREDENTIALS");
    }
    let limited = other.post("/auth/login", login).await;
    let wait = limited.refused(429, "RATE_LIMIT_EXCEEDED")["retryAfter"].as_u64().unwrap();
    assert!((1..=900).contains(&wait), "{}", limited.text);
    assert_eq!(limited.header("retry-after"), Some(wait.to_string().as_str()));
    assert_eq!(limited.header("x-ratelimit-remaining"), Some("0"));
    // Another account is not locked out by it.
    let own = json!({ "email": maria.email, "password": maria.password });
    other.post("/auth/login", own).await.data(200);
    let mut last = Value::Null;
    for _ in 0..11 {
        let answer = there.post("/chat", json!({ "message": "hello" })).await;
        last = json!([answer.status, answer.body["code"]]);
    }
    assert_eq!(last, json!([429, "RATE_LIMIT_EXCEEDED"]));
    drop(node);
    server.finish().await;
}
