//! Ingests one document, or refuses it, and prints what that cost, for `make bench`: `ingest_bench <file>`.
//!
//! `cpuMs` counts user and system time from the start of the process, `peakRssKb` is its high-water mark.

use std::time::Instant;

use integrations::openapi::{Limits, Origin, Reader};

fn main() {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: ingest_bench <file>");
        std::process::exit(2);
    };
    let started = Instant::now();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("{path}: {error}");
            std::process::exit(1);
        }
    };
    let read = Reader::new(bytes, &Origin::default(), &Limits::default()).and_then(Reader::finish);
    let (operations, warnings, refused) = match &read {
        Ok((ingested, _)) => (ingested.summary.operations.len(), ingested.summary.warnings.len(), None),
        Err(error) => (0, 0, Some(error.to_string())),
    };
    let figures = serde_json::json!({
        "ops": operations,
        "warnings": warnings,
        "refused": refused,
        "cpuMs": cpu_ms(),
        "wallMs": started.elapsed().as_secs_f64() * 1e3,
        "peakRssKb": peak_rss_kb(),
    });
    println!("{figures}");
}

/// CPU time of this (single-threaded) process: nanoseconds of the scheduler where the kernel tells them, else the
/// clock ticks of `stat`, of which Linux has 100 a second.
fn cpu_ms() -> Option<f64> {
    if let Ok(text) = std::fs::read_to_string("/proc/self/schedstat")
        && let Some(nanos) = text.split_whitespace().next().and_then(|n| n.parse::<f64>().ok())
    {
        return Some(nanos / 1e6);
    }
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The fields after the command's name, which may contain blanks: utime and stime are the 12th and 13th.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks * 10.0)
}

fn peak_rss_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
