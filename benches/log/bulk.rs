//! Many events at once: large commands through the public API, against COPY of the same rows on one connection.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use event_store::Append;

use super::{
    SUITE, database, fault,
    pgbench::{self, psql},
    store::{self, Log},
};
use crate::{
    Plan,
    report::{Figure, Report},
    server::Server,
};

/// Events of one command, and commands under way.
const LARGE: usize = 200;
const IN_FLIGHT: usize = 8;
/// What is given; the database adds transaction, position and time.
const COLUMNS: &str = "generation, workspace_id, aggregate_type, aggregate_id, sequence, event_type, event_version, \
                       payload, metadata, event_id";

pub async fn run(report: &mut Report, plan: &Plan, server: &Server) -> Result<(), String> {
    let (rounds, commands) = if plan.quick { (1, 150) } else { (5, 500) };
    let figure = |name| Figure {
        suite: SUITE,
        name,
        unit: "events/s",
        against: "COPY, one connection",
        less_is_better: false,
        target: Some(0.8),
    };
    let alone = database::another(&server.database_url, "bench_bulk").await?;
    for (name, url) in [("bulk_append_vs_copy", &server.database_url), ("bulk_append_only_vs_copy", &alone)] {
        let mut pairs = Vec::new();
        for _ in 0..rounds {
            pairs.push(round(url, commands).await?);
        }
        report.paired(figure(name), &pairs);
    }
    database::run(&server.database_url, "drop database bench_bulk").await
}

/// Rows a second, ours and COPY's.
async fn round(url: &str, commands: usize) -> Result<(f64, f64), String> {
    let mut db = database::connect(url).await?;
    database::checkpoint(&mut db).await?;
    let log = Log::open(url).await?;
    // The connections' first statements are not what is measured.
    log.store.append(store::large(1)?).await.map_err(fault)?;
    let work: Vec<Append> = (0..commands).map(|_| store::large(LARGE)).collect::<Result<_, _>>()?;
    let mark = database::mark(&mut db).await?;
    let rows = (commands * LARGE) as i64;
    let began = Instant::now();
    append(&log, work).await?;
    let ours = rows as f64 / began.elapsed().as_secs_f64();
    let stored = database::stored_since(&mut db, &mark).await?;
    log.close().await;
    if stored != rows {
        return Err(format!("{rows} events were acknowledged in bulk, {stored} stored"));
    }
    database::run(url, pgbench::TABLE).await?;
    database::checkpoint(&mut db).await?;
    Ok((ours, copy(url, &mark, rows)?))
}

async fn append(log: &Log, work: Vec<Append>) -> Result<(), String> {
    let work = Arc::new(Mutex::new(work));
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (store, work) = (log.store.clone(), work.clone());
            tokio::spawn(async move {
                loop {
                    let next = work.lock().map_err(fault)?.pop();
                    let Some(next) = next else { return Ok::<(), String>(()) };
                    store.append(next).await.map_err(fault)?;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(fault)??;
    }
    Ok(())
}

/// Takes the rows out to a file, and times how they go into the identical table.
fn copy(url: &str, mark: &str, rows: i64) -> Result<f64, String> {
    let file = tempfile::NamedTempFile::new().map_err(fault)?;
    let path = file.path().display();
    let script = format!(
        "\\copy (select {COLUMNS} from log.events where transaction_id >= '{mark}' and aggregate_type = 'workflow' \
         order by position) to '{path}'\n\\timing on\n\\copy public.bench_events ({COLUMNS}) from '{path}'\n"
    );
    let said = psql(url, &script)?;
    let copied = said.lines().filter_map(|line| line.strip_prefix("COPY ")?.parse::<i64>().ok()).next_back();
    if copied != Some(rows) {
        return Err(format!("COPY took {copied:?} of {rows} rows: {said}"));
    }
    let time = said.lines().find_map(|line| line.strip_prefix("Time: ")?.split(' ').next()?.parse::<f64>().ok());
    let time = time.ok_or_else(|| format!("psql told no time: {said}"))?;
    Ok(rows as f64 / time * 1e3)
}
