//! Memory of the server and of nats-server at rest, and the most that a process took.

use std::{process::Command, time::Duration};

use super::SUITE;
use crate::{process, report::Report, server::Server};

/// After a start, until freed memory is given back.
const REST: Duration = Duration::from_secs(5);

/// At rest; call it before anything else is asked of the server.
pub async fn idle(report: &mut Report, server: &Server) -> Result<(), String> {
    tokio::time::sleep(REST).await;
    let (apiq, nats) = (process::rss(server.pid())?, process::rss(server.nats_pid()?)?);
    report.plain(SUITE, "memory_idle_apiq", "MB", &[apiq]);
    report.plain(SUITE, "memory_idle_nats", "MB", &[nats]);
    report.promised(SUITE, "memory_idle_apiq_and_nats", "MB", 60.0, &[apiq + nats]);
    Ok(())
}

/// Peaks are counted from here on.
pub fn forget(server: &Server) -> Result<(), String> {
    process::forget_peak(server.pid())?;
    process::forget_peak(server.nats_pid()?)
}

/// The peaks since `forget`: server and nats-server, MB.
pub fn peaks(server: &Server) -> Result<(f64, f64), String> {
    Ok((process::peak_rss(server.pid())?, process::peak_rss(server.nats_pid()?)?))
}

/// Runs a program to its end; the most memory it took, MB.
pub fn peak_of(command: &mut Command) -> Result<f64, String> {
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
    let child = child.as_mut().map_err(|e| e.to_string())?;
    let mut peak: f64 = 0.0;
    loop {
        // Gone between the two questions: the last answer stands.
        peak = peak.max(process::peak_rss(child.id()).unwrap_or_default());
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            return if status.success() { Ok(peak) } else { Err(format!("{command:?} ended with {status}")) };
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
