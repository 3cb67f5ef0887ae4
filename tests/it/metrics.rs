//! `GET /metrics`: what Prometheus reads, on an address of its own, and nothing without the setting.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use sqlx::Connection;

use crate::support::client::http;
use crate::support::keeper::free_port;
use crate::support::{Server, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// Samples by name and labels, as `name{a="b"}`; fails on a line that is no sample, no comment and not empty.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let samples = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    });
    samples.collect()
}

async fn scrape(url: &str) -> BTreeMap<String, f64> {
    let response = http().get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    parse(&response.text().await.unwrap())
}

/// TCP ports on which a process listens; Linux only.
fn listening(server: &Server) -> BTreeSet<u16> {
    let running = std::fs::read_to_string(server.data().join("run.json")).unwrap();
    let pid = serde_json::from_str::<serde_json::Value>(&running).unwrap()["pid"].as_u64().unwrap();
    let sockets: BTreeSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    // Columns: number, local address, remote address, state (0A: listening), …, inode.
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = rows.filter(|row| row[3] == "0A" && sockets.contains(row[9]));
    own.map(|row| u16::from_str_radix(row[1].rsplit_once(':').unwrap().1, 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_lag_and_long_transactions() {
    let port = free_port();
    let server = Server::start_with(&[("APIQ_METRICS_LISTEN", &format!("127.0.0.1:{port}"))]).await;
    let url = format!("http://127.0.0.1:{port}/metrics");
    if cfg!(target_os = "linux") {
        assert!(listening(&server).contains(&port), "{:?}", listening(&server));
    }
    // Nothing else is there, and the API does not show it.
    let elsewhere = http().get(format!("http://127.0.0.1:{port}/")).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404);
    assert_eq!(http().get(format!("{}/metrics", server.url())).send().await.unwrap().status(), 404);

    // A transaction that writes and stays open holds the readers back, and that can be seen.
    let mut database = server.database().await;
    let mut open = database.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()").execute(&mut *open).await.unwrap();
    let account = server.account("metrics").await;
    account.client.post("/api-keys", json!({ "name": "k", "role": "viewer" })).await.data(201);
    let held = r#"apiq_log_lag_events{consumer="read_models"}"#;
    until("the lag is seen", PATIENCE, async || {
        let samples = scrape(&url).await;
        (samples.get(held).is_some_and(|lag| *lag > 0.0) && samples["apiq_log_oldest_transaction_seconds"] > 5.0)
            .then_some(())
    })
    .await;
    open.rollback().await.unwrap();

    let samples = until("the lag goes", PATIENCE, async || {
        let samples = scrape(&url).await;
        let lags: Vec<f64> =
            ["read_models", "relay"].map(|c| samples[&format!("apiq_log_lag_events{{consumer=\"{c}\"}}")]).to_vec();
        (lags == [0.0, 0.0] && samples["apiq_log_oldest_transaction_seconds"] < 5.0).then_some(samples)
    })
    .await;
    assert_eq!(samples[r#"apiq_log_lag_seconds{consumer="read_models"}"#], 0.0);
    assert_eq!((samples["apiq_log_quarantined"], samples["apiq_database_up"]), (0.0, 1.0));
    assert_eq!(samples[&format!("apiq_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))], 1.0);
    assert!(samples["process_resident_memory_bytes"] > 1e6, "{samples:?}");
    for pool in ["writer", "projector", "api"] {
        let of = |name: &str| samples[&format!("apiq_database_connections{name}{{pool=\"{pool}\"}}")];
        assert!(of("") >= of("_idle") && of("_limit") >= of(""), "{samples:?}");
    }
    let cache = ["apiq_cache_bytes", "apiq_append_waiting_commands"].map(|name| samples.contains_key(name));
    assert_eq!(cache, [true, true], "{samples:?}");
    assert!(samples["apiq_append_commands_total"] >= samples["apiq_append_batches_total"], "{samples:?}");
    let output = server.output();
    let told = |text: &str| output.matches(text).count();
    // As often as one was open: a machine that stood still may have had another.
    let (begun, over) = (told("readers of the log wait for a transaction"), told("the long transaction is over"));
    assert!(begun >= 1 && begun == over, "{output}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_nothing_listens() {
    let server = Server::start().await;
    assert!(!server.output().contains("/metrics"), "{}", server.output());
    if cfg!(target_os = "linux") {
        // The API and the sandbox.
        assert_eq!(listening(&server).len(), 2, "{:?}", listening(&server));
    }
    assert_eq!(http().get(format!("{}/metrics", server.url())).send().await.unwrap().status(), 404);
    server.finish().await;
}
