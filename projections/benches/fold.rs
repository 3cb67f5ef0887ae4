//! How fast the read models are folded: `cargo bench -p projections`. Set `APIQ_TEST_DATABASE_URL` to a server with fsync
//! on for honest write times; `EVENTS` is the log's size (100,000).
#![allow(dead_code, reason = "the tests' helpers serve here too")]

#[path = "../tests/it/generate.rs"]
mod generate;
#[path = "../tests/it/log.rs"]
mod log;
#[path = "../../tests/support/postgres.rs"]
mod postgres;

use std::time::Instant;

use domain::event::LogPosition;
use projections::rebuild;
use sqlx::PgConnection;

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
        for size in [250, 5_000] {
            let meter = Meter::start(&mut db).await;
            rebuild(&mut db, log.store.generation(), at, size, |_| {}).await.unwrap();
            meter.stop(&format!("rebuild in temporary tables, batches of {size}, with checksums"), read);
        }
    }
}
