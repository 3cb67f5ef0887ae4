//! Reading all of the log: ordered, decoded and folded through the public API, against a plain SELECT of the same
//! columns by the same driver; rebuilding all read models, against that; and the memory of the tool that does it.

use std::{collections::HashMap, time::Instant};

use domain::{
    event::LogPosition,
    workflow::{Workflow, WorkflowEvent},
};
use event_store::{DatabaseRole, ReadAhead, connect_pool};
use futures::TryStreamExt;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{SUITE, database, fault, memory};
use crate::{
    Plan,
    report::{Figure, Report},
    server::Server,
};

/// Events a page.
const PAGE: usize = 2_000;
/// Events a batch of the rebuild.
const BATCH: usize = 1_000;

pub async fn run(report: &mut Report, plan: &Plan, server: &Server) -> Result<(), String> {
    let (rounds, rows, rebuilt) = if plan.quick { (1, 50_000, 10_000) } else { (3, 500_000, 60_000) };
    let url = database::another(&server.database_url, "bench_replay").await?;
    let mut db = database::connect(&url).await?;
    database::history(&mut db, rows, false).await?;
    let generation =
        sqlx::query_scalar("select generation from log.cluster").fetch_one(&mut db).await.map_err(fault)?;
    let pool = connect_pool(&url, DatabaseRole::Auditor, 2).await.map_err(fault)?;
    let (mut replays, mut rebuilds) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let ours = replay(&pool, generation, rows).await?;
        replays.push((ours, select(&mut db, rows).await?));
        rebuilds.push((rebuild(&mut db, generation, rebuilt).await?, ours));
    }
    pool.close().await;
    let figure = |name, against, target| Figure {
        suite: SUITE,
        name,
        unit: "events/s",
        against,
        less_is_better: false,
        target: Some(target),
    };
    report.paired(figure("replay_vs_select", "plain SELECT", 0.8), &replays);
    report.paired(figure("rebuild_all_events_per_s", "replay", 0.3), &rebuilds);
    let mut tool = server.tool(&["replay", "rebuild"]);
    let peak = memory::peak_of(tool.env("APIQ_DATABASE_URL", &url))?;
    report.plain(SUITE, "memory_peak_replay_rebuild", "MB", &[peak]);
    db_close(db).await?;
    database::run(&server.database_url, "drop database bench_replay").await
}

async fn db_close(db: PgConnection) -> Result<(), String> {
    sqlx::Connection::close(db).await.map_err(fault)
}

/// Events a second, in order, decoded, folded; every one of them seen once.
async fn replay(pool: &PgPool, generation: i32, rows: i64) -> Result<f64, String> {
    let began = Instant::now();
    let mut log = ReadAhead::new(pool.clone(), generation, LogPosition::START, |event| {
        let decoded = event.decode::<WorkflowEvent>();
        (event, decoded)
    });
    let mut states: HashMap<Uuid, (Workflow, i64)> = HashMap::new();
    let (mut at, mut seen) = (LogPosition::START, 0);
    loop {
        let (page, _) = log.next(PAGE).await.map_err(fault)?;
        if page.is_empty() {
            break;
        }
        for (event, decoded) in page {
            if event.at <= at {
                return Err(format!("{} was read after {at}", event.at));
            }
            at = event.at;
            let (state, sequence) = states.entry(event.aggregate_id).or_default();
            if event.sequence != *sequence + 1 {
                return Err(format!("event {} of {} was read after {sequence}", event.sequence, event.aggregate_id));
            }
            *sequence = event.sequence;
            cqrs_es::Aggregate::apply(state, decoded.map_err(fault)?);
            seen += 1;
        }
    }
    let elapsed = began.elapsed();
    let whole = states.values().filter(|(state, n)| state.created && *n == database::STREAM).count() as i64;
    if seen != rows || whole != rows / database::STREAM {
        return Err(format!("{seen} of {rows} events were read, {whole} streams are whole"));
    }
    Ok(seen as f64 / elapsed.as_secs_f64())
}

/// Rows a second: fetched and nothing else.
async fn select(db: &mut PgConnection, rows: i64) -> Result<f64, String> {
    let began = Instant::now();
    let mut answer = sqlx::query(
        "select generation, transaction_id, position, workspace_id, aggregate_type, aggregate_id, sequence, event_type,
                event_version, payload, metadata, event_id, recorded_at from log.events",
    )
    .fetch(&mut *db);
    let mut seen = 0;
    while answer.try_next().await.map_err(fault)?.is_some() {
        seen += 1;
    }
    let elapsed = began.elapsed();
    if seen == rows { Ok(rows as f64 / elapsed.as_secs_f64()) } else { Err(format!("{seen} of {rows} rows were read")) }
}

/// Events a second into every view; a part of the log, because it takes its time.
async fn rebuild(db: &mut PgConnection, generation: i32, events: i64) -> Result<f64, String> {
    let (generation_of, xid, position): (i32, String, i64) = sqlx::query_as(
        "select generation, transaction_id::text, position from log.events e
          order by e.generation, e.transaction_id, e.position offset $1 limit 1",
    )
    .bind(events - 1)
    .fetch_one(&mut *db)
    .await
    .map_err(fault)?;
    let transaction_id = xid.parse().map_err(fault)?;
    let until = LogPosition { generation: generation_of, transaction_id, position };
    let done = projections::rebuild(db, generation, until, BATCH, |_| {}).await.map_err(fault)?;
    if done.events != events as u64 || done.quarantined != 0 || done.reached != until {
        return Err(format!("{} of {events} events were folded, {} set aside", done.events, done.quarantined));
    }
    Ok(done.events as f64 / done.elapsed.as_secs_f64())
}
