//! Where the processor time of a command goes: by process, Postgres' backends by who uses them.

use std::collections::BTreeMap;

use comfy_table::Table;
use sqlx::PgConnection;

use super::fault;
use crate::{process, server::Server};

/// Processor time so far by process: what it is, milliseconds.
pub type Times = BTreeMap<u32, (String, f64)>;

/// Microseconds a command, by part.
pub type Split = BTreeMap<String, f64>;

pub async fn times(db: &mut PgConnection, server: &Server) -> Result<Times, String> {
    let mut times = Times::new();
    let mut take = |pid: u32, what: &str| times.insert(pid, (what.to_owned(), process::cpu_ms(pid)));
    take(std::process::id(), "commands and store (this process)");
    take(server.pid(), "apiq server (all its roles)");
    take(server.nats_pid()?, "nats-server");
    let activity = activity(db).await?;
    for (pid, title) in process::children(server.postgres_pid()?) {
        let what = match activity.get(&pid) {
            Some(Backend { asks: true, .. }) => continue,
            Some(Backend { name, ours: true, .. }) => format!("Postgres for the commands' {name}"),
            Some(Backend { name, .. }) => format!("Postgres for the server's {name}"),
            None => format!("Postgres itself: {}", title.trim_start_matches("postgres: ").trim()),
        };
        take(pid, &what);
    }
    Ok(times)
}

/// What passed between two moments, a command.
pub fn split(before: &Times, after: &Times, commands: u64) -> Split {
    let mut split = Split::new();
    for (pid, (what, ms)) in after {
        let spent = ms - before.get(pid).map_or(0.0, |(_, ms)| *ms);
        *split.entry(what.clone()).or_default() += spent * 1e3 / commands as f64;
    }
    split
}

/// One column a split; parts under half a microsecond everywhere are left out.
pub fn table(columns: &[(String, Split)]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    let head = ["part"].into_iter().chain(columns.iter().map(|(name, _)| name.as_str()));
    table.set_header(head);
    let mut parts: Vec<&String> = columns.iter().flat_map(|(_, split)| split.keys()).collect();
    parts.sort();
    parts.dedup();
    let value = |split: &Split, part: &str| split.get(part).copied().unwrap_or_default();
    for part in parts {
        if columns.iter().all(|(_, split)| value(split, part) < 0.5) {
            continue;
        }
        let cells = columns.iter().map(|(_, split)| format!("{:.1}", value(split, part)));
        table.add_row([part.clone()].into_iter().chain(cells));
    }
    let sums = columns.iter().map(|(_, split)| format!("{:.1}", split.values().sum::<f64>()));
    table.add_row(["sum".to_owned()].into_iter().chain(sums));
    table.to_string()
}

/// Who uses a backend.
struct Backend {
    name: String,
    /// This process does.
    ours: bool,
    /// The connection that asks.
    asks: bool,
}

/// Client backends; parallel workers and the like are not among them.
async fn activity(db: &mut PgConnection) -> Result<BTreeMap<u32, Backend>, String> {
    let rows: Vec<(i32, String, i32, bool)> = sqlx::query_as(
        "select pid, coalesce(nullif(application_name, ''), 'unnamed'), coalesce(client_port, 0),
                pid = pg_backend_pid()
           from pg_stat_activity where backend_type = 'client backend'",
    )
    .fetch_all(db)
    .await
    .map_err(fault)?;
    let ports = process::own_ports();
    let backend = |(pid, name, port, asks): (i32, String, i32, bool)| {
        (pid.unsigned_abs(), Backend { name, ours: ports.contains(&(port as u16)), asks })
    };
    Ok(rows.into_iter().map(backend).collect())
}
