//! What the system says of a process: memory and processor time. Linux; elsewhere there is nothing to read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

const MB: f64 = 1024.0;

/// Resident memory now, MB.
pub fn rss(pid: u32) -> Result<f64, String> {
    kilobytes(pid, "VmRSS").map(|kb| kb / MB)
}

/// The most resident memory since the process began, or since `forget_peak`, MB.
pub fn peak_rss(pid: u32) -> Result<f64, String> {
    kilobytes(pid, "VmHWM").map(|kb| kb / MB)
}

/// From here on `peak_rss` counts anew.
pub fn forget_peak(pid: u32) -> Result<(), String> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").map_err(|e| format!("the peak of {pid} cannot be reset: {e}"))
}

fn kilobytes(pid: u32, name: &str) -> Result<f64, String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| format!("process {pid}: {e}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("process {pid} says no {name}"))
}

/// Processor time of a process so far, milliseconds; 0 of one that is gone. Of a resolution of 10 ms.
pub fn cpu_ms(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The program's name may hold spaces; what follows its closing bracket does not.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) * 10.0
}

/// Child processes with their titles.
pub fn children(parent: u32) -> BTreeMap<u32, String> {
    let tasks = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let pids = tasks.split_whitespace().filter_map(|pid| pid.parse().ok());
    let title = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned()
    };
    pids.map(|pid| (pid, title(pid))).collect()
}

/// Local ports of this process's TCP connections over IPv4.
pub fn own_ports() -> BTreeSet<u16> {
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let sockets: BTreeSet<String> = descriptors
        .filter_map(|entry| fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    // Columns: number, local address, remote address, state, …, inode.
    let port = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        sockets.contains(*columns.get(9)?).then_some(())?;
        u16::from_str_radix(columns.get(1)?.rsplit_once(':')?.1, 16).ok()
    };
    table.lines().filter_map(port).collect()
}
