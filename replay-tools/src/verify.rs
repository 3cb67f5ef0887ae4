//! `replay verify`: do the live read models say what the log says, and is the log whole?

use std::io::Write;

use projections::{Checksum, live_state};
use serde::Serialize;

use crate::{Options, ReplayError, StreamReport, fold, print, session::Session, streams};

/// Of a run that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyOutcome {
    Identical,
    Different,
}

impl VerifyOutcome {
    /// The process' exit code: 0 identical, 1 different. (2: `ReplayError::exit_code`.)
    pub fn exit_code(self) -> u8 {
        match self {
            VerifyOutcome::Identical => 0,
            VerifyOutcome::Different => 1,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableReport {
    pub table: &'static str,
    pub identical: bool,
    pub live: Checksum,
    /// Of the rows folded from the log.
    pub folded: Checksum,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    pub outcome: VerifyOutcome,
    /// How far the live read models had come: everything is compared at this place.
    pub checkpoint: String,
    /// The fold came to that place.
    pub reached: bool,
    pub quarantined: u64,
    pub tables: Vec<TableReport>,
    pub log: StreamReport,
}

/// Compares at the live read models' own checkpoint, so that they may move on meanwhile; prints the report.
pub async fn verify(
    database_url: &str,
    options: &Options,
    out: &mut (dyn Write + Send),
) -> Result<VerifyOutcome, ReplayError> {
    let mut session = Session::open(database_url).await?;
    let report = examine(&mut session, options).await?;
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print_report(&report, out)?;
    }
    Ok(report.outcome)
}

async fn examine(session: &mut Session, options: &Options) -> Result<VerifyReport, ReplayError> {
    let mut live = live_state(&mut session.db).await?;
    let folded = fold::fold(session, live.at, options).await?;
    let bar = print::bar(options.progress, folded.events, "checking streams");
    let log = streams::check(session, live.at, options.batch, |n| bar.set_position(n)).await?;
    bar.finish_and_clear();
    let mut tables = Vec::new();
    for (table, folded) in folded.checksums {
        if let Some(live) = live.checksums.remove(table) {
            tables.push(TableReport { table, identical: live == folded, live, folded });
        }
    }
    let reached = folded.reached == live.at;
    let same = reached && log.fault_count == 0 && tables.iter().all(|t| t.identical);
    Ok(VerifyReport {
        outcome: if same { VerifyOutcome::Identical } else { VerifyOutcome::Different },
        checkpoint: live.at.to_string(),
        reached,
        quarantined: folded.quarantined,
        tables,
        log,
    })
}

fn print_report(report: &VerifyReport, out: &mut (dyn Write + Send)) -> Result<(), ReplayError> {
    let rows = report.tables.iter().map(|t| {
        let result = if t.identical { "identical" } else { "DIFFERENT" };
        let (live, folded) = (&t.live, &t.folded);
        vec![
            t.table.to_owned(),
            live.rows.to_string(),
            folded.rows.to_string(),
            short(&live.md5),
            short(&folded.md5),
            result.to_owned(),
        ]
    });
    let header = ["table", "live rows", "rows from the log", "live", "from the log", "result"];
    writeln!(out, "{}", print::table(&header, &[1, 2], rows))?;
    let log = &report.log;
    writeln!(
        out,
        "{} events in {} streams and {} blobs read up to {}",
        log.events, log.streams, log.blobs, report.checkpoint
    )?;
    if !report.reached {
        writeln!(out, "the log ends before the read models' checkpoint")?;
    }
    if report.quarantined > 0 {
        writeln!(out, "{} could not be applied (see log.quarantine)", report.quarantined)?;
    }
    for fault in &log.faults {
        writeln!(out, "{} #{} {}: {}", fault.aggregate, fault.sequence, fault.event_type, fault.message)?;
    }
    if log.fault_count > log.faults.len() as u64 {
        writeln!(out, "… and {} more", log.fault_count - log.faults.len() as u64)?;
    }
    let verdict = match report.outcome {
        VerifyOutcome::Identical => "identical: the read models say what the log says, and every stream is whole",
        VerifyOutcome::Different => "DIFFERENT: see above",
    };
    writeln!(out, "{verdict}")?;
    Ok(())
}

/// Enough of a checksum for the eye; JSON has all of it.
fn short(md5: &str) -> String {
    md5.chars().take(12).collect()
}
