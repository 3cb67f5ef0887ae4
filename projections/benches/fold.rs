//! How fast the read models are folded: `cargo bench -p projections`. Set `APIQ_TEST_DATABASE_URL` to a server with fsync
//! on for honest write times; `EVENTS` is the log's size (100,000).
#![allow(dead_code, reason = "the tests' helpers serve here too")]

#[path = "../tests/it/generate.rs"]
mod generate;
#[path = "../tests/it/log.rs"]
mod log;
#[path = "../../tests/support/postgres.rs"]
mod postgres;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use domain::event::LogPosition;
use projections::{OnlineOptions, ReadModels, rebuild, rebuild_online};
use sqlx::PgConnection;
use tokio::{sync::oneshot, task::JoinSet};

use crate::log::Log;

fn main() {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run());
}

/// CPU time of a process so far, in microseconds; its clock ticks every 10 ms.
fn cpu(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) * 10_000.0
}

/// Prints what a piece of work took for each event: time, CPU here, CPU of the database's backend.
struct Meter {
    backend: String,
    begun: Instant,
    here: f64,
    there: f64,
}

impl Meter {
    async fn start(db: &mut PgConnection) -> Meter {
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(db).await.unwrap();
        let backend = pid.to_string();
        Meter { begun: Instant::now(), here: cpu("self"), there: cpu(&backend), backend }
    }

    fn stop(self, what: &str, events: usize) -> f64 {
        let rate = events as f64 / self.begun.elapsed().as_secs_f64();
        let each = |cpu: f64| cpu / events as f64;
        let (here, there) = (each(cpu("self") - self.here), each(cpu(&self.backend) - self.there));
        println!("{what}: {rate:.0} events/s; CPU an event: {here:.1} µs here, {there:.1} µs in Postgres");
        rate
    }
}

async fn run() {
    let events: usize = std::env::var("EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let log = Log::fresh().await;
    let begun = Instant::now();
    generate::fill(&log.store, events, 32).await;
    println!("{events} events appended in {:.1} s", begun.elapsed().as_secs_f64());

    let mut db = log.database.connect().await;
    sqlx::query("vacuum analyze log.events").execute(&mut db).await.unwrap();
    for _ in 0..2 {
        let (mut at, mut read) = (LogPosition::START, 0usize);
        let meter = Meter::start(&mut db).await;
        loop {
            let batch = event_store::read_after(&mut db, log.store.generation(), at, 1_000).await.unwrap();
            let Some(last) = batch.last() else { break };
            at = last.at;
            read += batch.len();
        }
        meter.stop("replay", read);
        let meter = Meter::start(&mut db).await;
        rebuild(&mut db, log.store.generation(), at, 5_000, |_| {}).await.unwrap();
        meter.stop("rebuild in temporary tables, batches of 5000, with checksums", read);
        online(&log, &mut db, read).await;
    }
    steady(&log, 500.0, Duration::from_secs(10)).await;
    steady(&log, 3_000.0, Duration::from_secs(10)).await;
    bursts(&log).await;
    backlog(&log).await;
}

/// A rebuild beside the live tables, and how long a transaction id is held meanwhile: what readers of the log wait for.
async fn online(log: &Log, db: &mut PgConnection, read: usize) {
    let done = AtomicBool::new(false);
    let watched = async {
        let (mut since, mut oldest) = (HashMap::new(), (0.0, String::new()));
        while !done.load(Ordering::Relaxed) {
            let held: Vec<(String, String)> = sqlx::query_as(
                "select backend_xid::text, left(query, 60) from pg_stat_activity where backend_xid is not null",
            )
            .fetch_all(&mut *db)
            .await
            .unwrap();
            since.retain(|xid, _| held.iter().any(|(held, _)| held == xid));
            for (xid, query) in held {
                let age = since.entry(xid).or_insert_with(Instant::now).elapsed().as_secs_f64() * 1_000.0;
                if age > oldest.0 {
                    oldest = (age, query);
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        oldest
    };
    let here = cpu("self");
    let rebuilt = async {
        let report = rebuild_online(&log.database.url, OnlineOptions::default(), |_| {}).await.unwrap();
        done.store(true, Ordering::Relaxed);
        report
    };
    let (report, oldest) = tokio::join!(rebuilt, watched);
    let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
    println!(
        "online rebuild: folded at {:.0} events/s, {:.1} s in all ({:.0}/s), swap {:.1} ms, longest write {:.1} ms, \
         longest held transaction id {:.0} ms ({}), CPU here {:.1} µs an event",
        read as f64 / report.folding.as_secs_f64(),
        report.elapsed.as_secs_f64(),
        read as f64 / report.elapsed.as_secs_f64(),
        ms(report.swap),
        ms(report.longest_write),
        oldest.0,
        oldest.1.replace('\n', " "),
        (cpu("self") - here) / read as f64,
    );
}

fn percentile(sorted: &[f64], part: f64) -> f64 {
    sorted.get(((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Executions at a steady rate of events: how long from an append's answer until the read models show it.
async fn steady(log: &Log, rate: f64, time: Duration) {
    let projector = log.projector().await;
    let (progress, mut batches) = (projector.progress(), projector.batches());
    let end = generate::last(log).await;
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(projector.run(async { drop(stopped.await) }));
    let reads = ReadModels::new(log.api_pool().await, progress.clone());
    assert!(reads.wait_for(end, Duration::from_secs(120)).await);
    let tenant = generate::tenant(&log.store).await;
    let sampled = tokio::spawn(async move {
        let mut all: Vec<(usize, f64)> = vec![];
        while batches.changed().await.is_ok() {
            let batch = *batches.borrow_and_update();
            all.push((batch.events, batch.took.as_secs_f64() * 1_000.0));
        }
        all
    });
    let (begun, mut running, mut number) = (Instant::now(), JoinSet::new(), 0);
    let mut waits = vec![];
    // Each execution makes four appends of 2 to 3 events.
    let every = Duration::from_secs_f64(generate::EVENTS as f64 / rate);
    while begun.elapsed() < time {
        let (store, reads) = (log.store.clone(), reads.clone());
        running.spawn(async move { generate::execution_shown(&store, &tenant, number, &reads).await });
        number += 1;
        tokio::time::sleep_until((begun + every * number as u32).into()).await;
        while let Some(done) = running.try_join_next() {
            waits.extend(done.unwrap());
        }
    }
    while let Some(done) = running.join_next().await {
        waits.extend(done.unwrap());
    }
    drop(stop);
    task.await.unwrap();
    waits.sort_by(f64::total_cmp);
    let mut took: Vec<f64> = sampled.await.unwrap().into_iter().map(|(_, took)| took).collect();
    took.sort_by(f64::total_cmp);
    println!(
        "{rate:.0} events/s: commit to projection p50 {:.1} ms, p99 {:.1} ms ({} appends); {} batches, write p50 {:.1} ms, \
         p99 {:.1} ms",
        percentile(&waits, 0.5),
        percentile(&waits, 0.99),
        waits.len(),
        took.len(),
        percentile(&took, 0.5),
        percentile(&took, 0.99),
    );
}

/// What comes at once after a quiet time is one batch.
async fn bursts(log: &Log) {
    for (size, appends) in [(1usize, 40usize), (50, 40)] {
        let projector = log.projector().await;
        let (progress, batches) = (projector.progress(), projector.batches());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(projector.run(async { drop(stopped.await) }));
        let reads = ReadModels::new(log.api_pool().await, progress);
        let tenant = generate::tenant(&log.store).await;
        let mut took = vec![];
        for number in 0..appends {
            let at = generate::burst(&log.store, &tenant, number, size).await;
            assert!(reads.wait_for(at, Duration::from_secs(60)).await);
            let batch = *batches.borrow();
            if batch.events == size {
                took.push(batch.took.as_secs_f64() * 1_000.0);
            }
        }
        drop(stop);
        task.await.unwrap();
        took.sort_by(f64::total_cmp);
        let (p50, p99) = (percentile(&took, 0.5), percentile(&took, 0.99));
        println!("write transaction of {size} events: p50 {p50:.1} ms, p99 {p99:.1} ms ({} samples)", took.len());
    }
}

/// A backlog: the projector's own batches, by size.
async fn backlog(log: &Log) {
    generate::fill(&log.store, 40_000, 32).await;
    let end = generate::last(log).await;
    let projector = log.projector().await;
    let (progress, mut batches) = (projector.progress(), projector.batches());
    let reads = ReadModels::new(log.api_pool().await, progress);
    let sampled = tokio::spawn(async move {
        let mut all: Vec<(usize, f64)> = vec![];
        while batches.changed().await.is_ok() {
            let batch = *batches.borrow_and_update();
            all.push((batch.events, batch.took.as_secs_f64() * 1_000.0));
        }
        all
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let begun = Instant::now();
    let task = tokio::spawn(projector.run(async { drop(stopped.await) }));
    assert!(reads.wait_for(end, Duration::from_secs(120)).await);
    println!("a backlog is folded live at {:.0} events/s", 40_000.0 / begun.elapsed().as_secs_f64());
    drop(stop);
    task.await.unwrap();
    let all = sampled.await.unwrap();
    for (from, to) in [(10, 100), (101, 400), (401, 900), (901, 3_000)] {
        let mut took: Vec<f64> = all.iter().filter(|(n, _)| (from..=to).contains(n)).map(|(_, took)| *took).collect();
        took.sort_by(f64::total_cmp);
        let mean = all.iter().map(|(n, _)| *n).filter(|n| (from..=to).contains(n)).sum::<usize>() / took.len().max(1);
        let (p50, p99) = (percentile(&took, 0.5), percentile(&took, 0.99));
        println!(
            "batches of {from} to {to} events ({mean} on average, {}): write p50 {p50:.1} ms, p99 {p99:.1} ms",
            took.len()
        );
    }
}
