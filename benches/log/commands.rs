//! Whole commands a second: callers in a closed loop, each with one command under way. What was acknowledged is
//! compared with what is stored.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::workflow::Workflow;
use rand::RngExt;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{database, fault, store, store::Log};
use crate::report::quantile;

/// Before the clock runs: connections, prepared statements.
const WARM_UP: Duration = Duration::from_millis(300);

#[derive(Clone)]
pub enum Workload {
    /// What the use cases do: every second command begins a stream, the others change one of these.
    Both(Arc<Vec<Uuid>>),
    /// Each command begins a stream. Its id was just made, so there is nothing to load.
    New,
    /// Each command changes one of these streams, any of them.
    Existing(Arc<Vec<Uuid>>),
    /// Each command begins a stream, and asks the log for it first, which no use case does.
    Loaded,
}

impl Workload {
    pub fn name(&self) -> &'static str {
        match self {
            Workload::Both(_) => "new and existing streams",
            Workload::New => "new streams",
            Workload::Existing(_) => "existing streams",
            Workload::Loaded => "new streams, loaded first",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Commands a second.
    pub rate: f64,
    /// Milliseconds.
    pub p50: f64,
    pub p99: f64,
    pub commands: u64,
    /// Lost races, which were run again.
    pub conflicts: u64,
    pub elapsed: Duration,
}

/// Opens a log for it, and closes it again.
pub async fn measure(url: &str, callers: usize, time: Duration, workload: Workload) -> Result<Measured, String> {
    let log = Log::open(url).await?;
    warm_up(&log, callers, &workload).await?;
    let mut db = database::connect(url).await?;
    let measured = measure_on(&log, &mut db, callers, time, &workload).await;
    log.close().await;
    measured
}

/// Existing streams are in the cache afterwards, as those that a busy installation changes are.
pub async fn warm_up(log: &Log, callers: usize, workload: &Workload) -> Result<(), String> {
    if let Workload::Existing(ids) | Workload::Both(ids) = workload {
        for id in ids.iter() {
            log.store.load::<Workflow>(*id).await.map_err(fault)?;
        }
    }
    run(log, callers, WARM_UP, workload).await.map(|_| ())
}

/// On a log that is open and warm.
pub async fn measure_on(
    log: &Log,
    db: &mut PgConnection,
    callers: usize,
    time: Duration,
    workload: &Workload,
) -> Result<Measured, String> {
    let mark = database::mark(db).await?;
    let measured = run(log, callers, time, workload).await?;
    let stored = database::stored_since(db, &mark).await?;
    if stored != measured.commands as i64 {
        return Err(format!("{} commands were acknowledged, {stored} events stored", measured.commands));
    }
    Ok(measured)
}

async fn run(log: &Log, callers: usize, time: Duration, workload: &Workload) -> Result<Measured, String> {
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (store, workload) = (log.store.clone(), workload.clone());
            tokio::spawn(async move {
                let (mut latencies, mut conflicts) = (Vec::with_capacity(4_096), 0);
                while began.elapsed() < time {
                    let asked = Instant::now();
                    let done = match &workload {
                        Workload::Loaded => store::create(&store, true).await?,
                        Workload::New => store::create(&store, false).await?,
                        Workload::Both(_) if latencies.len() % 2 == 0 => store::create(&store, false).await?,
                        Workload::Existing(ids) | Workload::Both(ids) => {
                            let id = ids[rand::rng().random_range(0..ids.len())];
                            store::rename(&store, id).await?
                        }
                    };
                    latencies.push(asked.elapsed().as_secs_f32() * 1e3);
                    conflicts += done.conflicts;
                }
                Ok::<_, String>((latencies, conflicts))
            })
        })
        .collect();
    let (mut latencies, mut conflicts) = (Vec::new(), 0);
    for task in tasks {
        let (own, lost) = task.await.map_err(fault)??;
        latencies.extend(own.into_iter().map(f64::from));
        conflicts += lost;
    }
    let elapsed = began.elapsed();
    Ok(Measured {
        rate: latencies.len() as f64 / elapsed.as_secs_f64(),
        p50: quantile(&latencies, 0.5),
        p99: quantile(&latencies, 0.99),
        commands: latencies.len() as u64,
        conflicts,
        elapsed,
    })
}
