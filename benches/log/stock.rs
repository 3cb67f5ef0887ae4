//! The peer: stock `cqrs-es` with `postgres-es`, the same aggregate and commands, on its own table in the same Postgres.
//! Event-sourced mode: its snapshot and aggregate modes apply events twice.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cqrs_es::{AggregateError, CqrsFramework, persist::PersistedEventStore};
use domain::workflow::Workflow;
use postgres_es::PostgresEventRepository;
use rand::RngExt;
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{database, fault, store};

type Framework = CqrsFramework<Workflow, PersistedEventStore<PostgresEventRepository, Workflow>>;

/// As its own `db` folder makes it.
const TABLE: &str = "create schema if not exists bench_stock;
    create table if not exists bench_stock.events (
      aggregate_type text not null, aggregate_id text not null, sequence bigint not null check (sequence >= 0),
      event_type text not null, event_version text not null, payload json not null, metadata json not null,
      primary key (aggregate_type, aggregate_id, sequence));
    truncate bench_stock.events";

const CONNECTIONS: u32 = 20;
const WARM_UP: Duration = Duration::from_millis(300);

pub struct Measured {
    /// Commands a second that succeeded.
    pub rate: f64,
    /// Percent of the commands that failed by a conflict: it repeats none.
    pub failed: f64,
}

/// `existing` streams of 20 events, or 0 for a new stream each command.
pub async fn measure(url: &str, callers: usize, time: Duration, existing: usize) -> Result<Measured, String> {
    database::run(url, TABLE).await?;
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await.map_err(fault)?;
    let ids = Arc::new(fill(&pool, existing).await?);
    let repository = PostgresEventRepository::new(pool.clone()).with_tables("bench_stock.events", "bench_stock.none");
    let event_store = PersistedEventStore::new_event_store(repository);
    let framework: Arc<Framework> = Arc::new(CqrsFramework::new(event_store, vec![], ()));
    run(&framework, callers, WARM_UP, &ids).await?;
    let before = count(&pool).await?;
    let began = Instant::now();
    let (done, lost) = run(&framework, callers, time, &ids).await?;
    let elapsed = began.elapsed();
    let stored = count(&pool).await? - before;
    pool.close().await;
    if stored != done as i64 {
        return Err(format!("stock: {done} commands were acknowledged, {stored} events stored"));
    }
    Ok(Measured { rate: done as f64 / elapsed.as_secs_f64(), failed: 100.0 * lost as f64 / (done + lost) as f64 })
}

async fn run(
    framework: &Arc<Framework>,
    callers: usize,
    time: Duration,
    ids: &Arc<Vec<String>>,
) -> Result<(u64, u64), String> {
    let began = Instant::now();
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let (framework, ids) = (framework.clone(), ids.clone());
            tokio::spawn(async move {
                let (mut done, mut lost) = (0, 0);
                while began.elapsed() < time {
                    match one(&framework, &ids).await {
                        Ok(()) => done += 1,
                        Err(AggregateError::AggregateConflict) => lost += 1,
                        Err(error) => return Err(format!("stock: {error}")),
                    }
                }
                Ok((done, lost))
            })
        })
        .collect();
    let (mut done, mut lost) = (0, 0);
    for caller in callers {
        let (own, conflicts) = caller.await.map_err(fault)??;
        done += own;
        lost += conflicts;
    }
    Ok((done, lost))
}

async fn one(framework: &Framework, ids: &[String]) -> Result<(), AggregateError<domain::error::Rejection>> {
    let (id, command) = match ids {
        [] => (store::new_id().to_string(), store::creation()),
        ids => (ids[rand::rng().random_range(0..ids.len())].clone(), store::renaming()),
    };
    // It takes texts only: one of them is as long as our metadata.
    let metadata = HashMap::from([("context".to_owned(), store::metadata().replace('"', "'"))]);
    framework.execute_with_metadata(&id, command, metadata).await
}

async fn fill(pool: &PgPool, streams: usize) -> Result<Vec<String>, String> {
    let ids: Vec<String> = (0..streams).map(|_| store::new_id().to_string()).collect();
    let (created, updated) = store::payloads()?;
    let metadata = serde_json::json!({ "context": store::metadata().replace('"', "'") });
    sqlx::query(
        "insert into bench_stock.events
         select 'workflow', s.id, n, case when n = 1 then 'workflow.created' else 'workflow.updated' end, '1',
                case when n = 1 then $2 else $3 end::json, $4::json
           from unnest($1::text[]) as s (id), generate_series(1, $5) n order by s.id, n",
    )
    .bind(&ids)
    .bind(format!("{{\"type\":\"workflow.created\",\"data\":{created}}}"))
    .bind(format!("{{\"type\":\"workflow.updated\",\"data\":{updated}}}"))
    .bind(metadata.to_string())
    .bind(database::STREAM)
    .execute(pool)
    .await
    .map_err(fault)?;
    sqlx::query("analyze bench_stock.events").execute(pool).await.map_err(fault)?;
    Ok(ids)
}

async fn count(pool: &PgPool) -> Result<i64, String> {
    sqlx::query_scalar("select count(*) from bench_stock.events").fetch_one(pool).await.map_err(fault)
}
