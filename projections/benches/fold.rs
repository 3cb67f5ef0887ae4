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

use crate::log::Log;

fn main() {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run());
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
        let (begun, mut at, mut read) = (Instant::now(), LogPosition::START, 0usize);
        loop {
            let batch = event_store::read_after(&mut db, log.store.generation(), at, 1_000).await.unwrap();
            let Some(last) = batch.last() else { break };
            at = last.at;
            read += batch.len();
        }
        let rate = read as f64 / begun.elapsed().as_secs_f64();
        println!("replay: {read} events, {rate:.0}/s");
        for size in [250, 1_000] {
            let report = rebuild(&mut db, log.store.generation(), at, size, |_| {}).await.unwrap();
            let folded = report.events as f64 / report.elapsed.as_secs_f64();
            println!("rebuild (scratch, batches of {size}): {folded:.0}/s = {:.2} of replay", folded / rate);
        }
    }
}
