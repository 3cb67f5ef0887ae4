//! The append rate of a log with five million events, against a fresh one on the same server, in turns.

use std::time::Duration;

use super::{
    SUITE,
    commands::{self, Workload},
    database, fault,
};
use crate::{
    report::{Figure, Report},
    server::Server,
};

const ROWS: i64 = 5_000_000;
/// What the fresh log has.
const FRESH_ROWS: i64 = 20_000;
const CALLERS: usize = 64;
const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(4);

/// Too long for a quick run.
pub async fn run(report: &mut Report, server: &Server) -> Result<(), String> {
    let fresh = database::another(&server.database_url, "bench_fresh").await?;
    let grown = database::another(&server.database_url, "bench_grown").await?;
    eprintln!("  growth: making {ROWS} rows");
    let mut db = database::connect(&grown).await?;
    database::history(&mut db, ROWS, true).await?;
    // Not empty: both have statistics, and pages to begin with.
    let mut first = database::connect(&fresh).await?;
    database::history(&mut first, FRESH_ROWS, false).await?;
    sqlx::Connection::close(first).await.map_err(fault)?;
    let mut pairs = Vec::new();
    for round in 0..ROUNDS {
        // Who is first changes, so that neither always follows the other's checkpoint.
        let mut rates = [0.0, 0.0];
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let url = if which == 0 { &grown } else { &fresh };
            database::checkpoint(&mut db).await?;
            rates[which] = commands::measure(url, CALLERS, TIME, Workload::Loaded).await?.rate;
        }
        pairs.push((rates[0], rates[1]));
    }
    let figure = Figure {
        suite: SUITE,
        name: "growth_5m",
        unit: "commands/s",
        against: "a fresh log",
        less_is_better: false,
        target: Some(0.95),
    };
    report.paired(figure, &pairs);
    sqlx::Connection::close(db).await.map_err(fault)?;
    database::run(&server.database_url, "drop database bench_grown").await?;
    database::run(&server.database_url, "drop database bench_fresh").await
}
