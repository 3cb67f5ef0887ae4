//! The log: whole commands (load, decide, append) a second, against pgbench inserting the same row.

use std::{
    io::Write,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use domain::aggregate::Decider;
use domain::{
    ids::{OrganizationId, WorkspaceId},
    workspace::{Workspace, WorkspaceCommand},
};
use event_store::{Append, DatabaseRole, EventStore, NewEvent, Options, StreamAppend, connect_pool};
use uuid::Uuid;

use crate::{
    report::{Figure, Report},
    server::Server,
};

/// About 290 B of metadata, as every event has.
fn metadata() -> String {
    format!(
        "{{\"actorKind\":\"user\",\"actorId\":\"user_{0}\",\"requestId\":\"req_{0}\",\"sessionId\":\"sess_{0}\",\
         \"correlationId\":\"00000000-0000-7000-8000-000000000000\",\"traceparent\":\"{1}\",\
         \"occurredAt\":\"2026-01-01T00:00:00.000000Z\",\"ip\":\"{2}\"}}",
        "0".repeat(26),
        "0".repeat(55),
        "x".repeat(20)
    )
}

/// About 420 B of payload come from a name of this length.
const NAME: usize = 340;

pub fn run(report: &mut Report, quick: bool) -> Result<(), String> {
    let server = Server::start()?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
    let (rounds, seconds) = if quick { (1, 2) } else { (3, 5) };
    psql(
        &server.database_url,
        "create table public.bench_events (like log.events including defaults including constraints including indexes)",
    )?;
    for (callers, target) in [(1, 0.9), (8, 0.95), (64, 2.5)] {
        let mut pairs = Vec::new();
        for _ in 0..rounds {
            let ours = runtime.block_on(commands(&server.database_url, callers, Duration::from_secs(seconds)))?;
            pairs.push((ours, pgbench(&server.database_url, callers, seconds)?));
        }
        let name = format!("commands_{callers}_vs_pgbench");
        let figure = Figure {
            suite: "log",
            name: &name,
            unit: "commands/s",
            against: "pgbench tps",
            less_is_better: false,
            target,
        };
        report.paired(figure, &pairs);
    }
    Ok(())
}

async fn commands(url: &str, callers: usize, time: Duration) -> Result<f64, String> {
    let fault = |e: &dyn std::fmt::Display| e.to_string();
    let pool = connect_pool(url, DatabaseRole::Writer, 20).await.map_err(|e| fault(&e))?;
    let store = EventStore::open(pool.clone(), Options::default()).await.map_err(|e| fault(&e))?;
    let before = stored(&pool).await?;
    let done = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (store, done) = (store.clone(), done.clone());
            tokio::spawn(async move {
                while began.elapsed() < time {
                    one(&store).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), String>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|e| fault(&e))??;
    }
    let rate = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    drop(store);
    // What was acknowledged is stored, no more and no less.
    let stored = stored(&pool).await? - before;
    // The next round's connections need the places.
    pool.close().await;
    if stored != done.load(Ordering::Relaxed) as i64 {
        return Err(format!("{} commands were acknowledged, {stored} events stored", done.load(Ordering::Relaxed)));
    }
    Ok(rate)
}

async fn one(store: &EventStore) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "a benchmark makes its own ids")]
    let (id, event_id) = (Uuid::now_v7(), Uuid::now_v7());
    let loaded = store.load::<Workspace>(id).await.map_err(|e| e.to_string())?;
    let create = WorkspaceCommand::Create { organization_id: OrganizationId(id), name: "n".repeat(NAME) };
    let events = loaded.state.decide(create).map_err(|e| e.to_string())?;
    let events =
        events.iter().map(|e| NewEvent::of(event_id, e)).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let stream = StreamAppend {
        aggregate_type: "workspace",
        aggregate_id: id,
        expected: loaded.sequence,
        predecessor: None,
        events,
    };
    let append = Append { workspace_id: WorkspaceId(id).0, streams: vec![stream], metadata: metadata(), claim: None };
    store.append(append).await.map(|_| ()).map_err(|e| e.to_string())
}

async fn stored(pool: &sqlx::PgPool) -> Result<i64, String> {
    let count =
        "select count(*) from log.events where aggregate_type = 'workspace' and event_type = 'workspace.created'";
    sqlx::query_scalar(count).fetch_one(pool).await.map_err(|e| e.to_string())
}

fn pgbench(url: &str, clients: usize, seconds: u64) -> Result<f64, String> {
    let mut script = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    let payload = format!("{{\"organizationId\":\"org_{}\",\"name\":\"{}\"}}", "0".repeat(26), "n".repeat(NAME));
    write!(
        script,
        "\\set n random(1, 9223372036854775806)\n\
         insert into public.bench_events (generation, workspace_id, aggregate_type, aggregate_id, sequence, event_type,
           event_version, payload, metadata, event_id)
         values (1, '00000000-0000-7000-8000-000000000000', 'workspace',
           (lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(md5((:n::bigint)::text), 1, 19))::uuid,
           1, 'workspace.created', '1', '{payload}', '{}',
           (lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(md5((:n::bigint - 1)::text), 1, 19))::uuid);\n",
        metadata()
    )
    .map_err(|e| e.to_string())?;
    let jobs = clients.min(2).to_string();
    let out = Command::new(tool("pgbench"))
        .args(["-n", "-M", "prepared", "-f"])
        .arg(script.path())
        .args(["-c", &clients.to_string(), "-j", &jobs, "-T", &seconds.to_string(), url])
        .output()
        .map_err(|e| format!("pgbench does not start: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let tps = text.lines().find_map(|l| l.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    tps.ok_or_else(|| format!("pgbench failed: {}", String::from_utf8_lossy(&out.stderr)))
}

fn psql(url: &str, sql: &str) -> Result<(), String> {
    let out = Command::new(tool("psql")).args([url, "-v", "ON_ERROR_STOP=1", "-qc", sql]).output();
    let out = out.map_err(|e| format!("psql does not start: {e}"))?;
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

/// On the path, or where Debian keeps the server's programs.
fn tool(name: &str) -> std::path::PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|v| v.path().join("bin").join(name)).find(|p| p.exists());
    found.unwrap_or_else(|| name.into())
}
