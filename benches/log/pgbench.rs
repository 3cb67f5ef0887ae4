//! The ceiling that others work under: pgbench with one prepared INSERT of the same row for each transaction, on an
//! identical table; and the psql of the same installation.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output},
    time::{SystemTime, UNIX_EPOCH},
};

use super::store;

/// The table that pgbench and COPY fill: what the log has, indexes and all.
pub const TABLE: &str = "create table if not exists public.bench_events
     (like log.events including defaults including constraints including indexes)";

/// Transactions a second.
pub fn pgbench(url: &str, clients: usize, seconds: u64) -> Result<f64, String> {
    let mut script = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    let (_, payload) = store::payloads()?;
    // Ids rise with time over all clients, as version 7 does, and cost the server next to nothing to make.
    write!(
        script,
        "\\set n :n + 256\n\\set id :n + :client_id\n\
         insert into public.bench_events (generation, workspace_id, aggregate_type, aggregate_id, sequence, event_type,
           event_version, payload, metadata, event_id)
         values (1, '00000000-0000-7000-8000-000000000000', 'workflow', lpad(to_hex(:id::bigint), 32, '0')::uuid,
           1, 'workflow.updated', '1', '{payload}', '{}', lpad(to_hex(:id::bigint), 32, '0')::uuid);\n",
        store::metadata()
    )
    .map_err(|e| e.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?;
    let first = now.as_millis() << 20;
    let mut command = Command::new(tool("pgbench"));
    command.args(["-n", "-M", "prepared", "-D", &format!("n={first}"), "-f"]).arg(script.path());
    command.args(["-c", &clients.to_string(), "-j", &clients.min(2).to_string(), "-T", &seconds.to_string(), url]);
    let out = output(command, "pgbench")?;
    let text = String::from_utf8_lossy(&out.stdout);
    let tps = text.lines().find_map(|l| l.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    tps.ok_or_else(|| format!("pgbench failed: {text}{}", String::from_utf8_lossy(&out.stderr)))
}

/// Lines of psql, one command each; what it printed.
pub fn psql(url: &str, script: &str) -> Result<String, String> {
    let mut file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    file.write_all(script.as_bytes()).map_err(|e| e.to_string())?;
    let mut command = Command::new(tool("psql"));
    command.args([url, "-X", "-v", "ON_ERROR_STOP=1", "-f"]).arg(file.path());
    let out = output(command, "psql")?;
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn output(mut command: Command, name: &str) -> Result<Output, String> {
    let out = command.output().map_err(|e| format!("{name} does not start: {e}"))?;
    if out.status.success() { Ok(out) } else { Err(format!("{name} failed: {}", String::from_utf8_lossy(&out.stderr))) }
}

/// Where Debian keeps the server's programs, the newest; else on the path.
fn tool(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|v| v.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| name.into())
}
