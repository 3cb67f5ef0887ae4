//! From a commit's acknowledgement to where it shows: the projection checkpoint, and a plain subscriber of NATS. At a
//! steady, moderate rate with all roles; arrivals do not wait for each other.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use domain::event::LogPosition;
use futures::StreamExt;
use rand::RngExt;
use uuid::Uuid;

use super::{
    SUITE, database, fault,
    store::{self, Log},
};
use crate::{
    Plan,
    report::{Report, quantile},
    server::Server,
};

/// Commands a second.
const RATE: f64 = 200.0;
/// The checkpoint is asked this often, on a connection of its own.
const LOOK: Duration = Duration::from_millis(1);
/// After the last commit, everything shows within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// Promised, milliseconds.
const P50: f64 = 5.0;
const P99: f64 = 20.0;

/// A commit: its event, its place, and when it was acknowledged.
type Commit = (Uuid, LogPosition, Instant);

pub async fn run(report: &mut Report, plan: &Plan, server: &Server) -> Result<(), String> {
    let (rounds, seconds) = if plan.quick { (1, 3) } else { (3, 10) };
    let mut figures: HashMap<(&str, &str), Vec<f64>> = HashMap::new();
    for _ in 0..rounds {
        let (projected, relayed) = round(server, Duration::from_secs(seconds)).await?;
        for (name, values) in [("commit_to_projection", projected), ("commit_to_nats", relayed)] {
            figures.entry((name, "p50")).or_default().push(quantile(&values, 0.5));
            figures.entry((name, "p99")).or_default().push(quantile(&values, 0.99));
        }
    }
    for name in ["commit_to_projection", "commit_to_nats"] {
        for (which, promise) in [("p50", P50), ("p99", P99)] {
            let values = figures.remove(&(name, which)).unwrap_or_default();
            report.promised(SUITE, &format!("{name}_{which}"), "ms", promise, &values);
        }
    }
    Ok(())
}

/// Milliseconds from acknowledgement to projection, and to NATS.
async fn round(server: &Server, time: Duration) -> Result<(Vec<f64>, Vec<f64>), String> {
    let mut db = database::connect(&server.database_url).await?;
    database::drain(&mut db).await?;
    let log = Log::open(&server.database_url).await?;
    let ended = Arc::new(AtomicBool::new(false));
    let received = Arc::new(Mutex::new(HashMap::new()));
    let subscriber = subscribe(server, received.clone()).await?;
    let looking = tokio::spawn(look(server.database_url.clone(), ended.clone()));
    let commits = commit(&log, time).await?;
    log.close().await;
    database::drain(&mut db).await?;
    let began = Instant::now();
    while received.lock().map_err(fault)?.len() < commits.len() && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(5 * LOOK).await;
    ended.store(true, Ordering::Relaxed);
    let looks = looking.await.map_err(fault)??;
    subscriber.abort();
    let received = received.lock().map_err(fault)?;
    let (mut projected, mut relayed) = (Vec::new(), Vec::new());
    for (event, at, acknowledged) in &commits {
        let shown = looks.iter().find(|(checkpoint, _)| checkpoint >= at).map(|(_, when)| *when);
        let shown = shown.ok_or_else(|| format!("event {event} was never projected"))?;
        projected.push(since(shown, *acknowledged));
        let heard = received.get(event).ok_or_else(|| format!("event {event} was never published"))?;
        relayed.push(since(*heard, *acknowledged));
    }
    Ok((projected, relayed))
}

/// What shows before its writer was answered took no time.
fn since(shown: Instant, acknowledged: Instant) -> f64 {
    shown.saturating_duration_since(acknowledged).as_secs_f64() * 1e3
}

async fn commit(log: &Log, time: Duration) -> Result<Vec<Commit>, String> {
    let began = Instant::now();
    let mut tasks = Vec::new();
    let mut due = Duration::ZERO;
    while due < time {
        // Not in step with anyone's ticks.
        due += Duration::from_secs_f64(rand::rng().random_range(0.0..2.0) / RATE);
        tokio::time::sleep_until((began + due).into()).await;
        let store = log.store.clone();
        tasks.push(tokio::spawn(async move {
            let loaded = store.load(store::new_id()).await.map_err(fault)?;
            let (event, appended) = store::append(&store, loaded, store::creation()).await.map_err(fault)?;
            Ok::<Commit, String>((event, appended.at, Instant::now()))
        }));
    }
    let mut commits = Vec::with_capacity(tasks.len());
    for task in tasks {
        commits.push(task.await.map_err(fault)??);
    }
    Ok(commits)
}

/// When the projection checkpoint was first seen at each place, in order.
async fn look(url: String, ended: Arc<AtomicBool>) -> Result<Vec<(LogPosition, Instant)>, String> {
    let mut db = database::connect(&url).await?;
    let mut seen: Vec<(LogPosition, Instant)> = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let at = event_store::checkpoint(&mut db, projections::CHECKPOINT).await.map_err(fault)?;
        if seen.last().is_none_or(|(last, _)| at > *last) {
            seen.push((at, Instant::now()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(seen)
}

/// When each event was first received, by its id.
async fn subscribe(
    server: &Server,
    received: Arc<Mutex<HashMap<Uuid, Instant>>>,
) -> Result<tokio::task::JoinHandle<()>, String> {
    // `nats://user:password@host`: the client wants the two apart.
    let url = &server.nats_url;
    let (login, host) = url.trim_start_matches("nats://").split_once('@').ok_or("the NATS URL names no user")?;
    let (user, password) = login.split_once(':').ok_or("the NATS URL names no password")?;
    let options = async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
    let client = options.connect(host).await.map_err(fault)?;
    let mut messages = client.subscribe("apiq.events.>").await.map_err(fault)?;
    client.flush().await.map_err(fault)?;
    Ok(tokio::spawn(async move {
        // The subscription ends with its client.
        let _client = client;
        while let Some(message) = messages.next().await {
            let now = Instant::now();
            let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
            if let Some(id) = id.and_then(|id| Uuid::parse_str(id.as_str()).ok())
                && let Ok(mut received) = received.lock()
            {
                received.entry(id).or_insert(now);
            }
        }
    }))
}
