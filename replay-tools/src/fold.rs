//! `replay rebuild`: the fold alone, with its size and speed. It writes temporary tables only.

use std::io::Write;

use domain::event::LogPosition;
use projections::{RebuildReport, live_state, schema_differences};
use serde_json::json;

use crate::{Options, ReplayError, print, session::Session};

/// Folds the log as far as the live read models have come, and prints rows a table, time and events a second.
pub async fn rebuild(database_url: &str, options: &Options, out: &mut (dyn Write + Send)) -> Result<(), ReplayError> {
    let mut session = Session::open(database_url).await?;
    let live = live_state(&mut session.db).await?;
    let report = fold(&mut session, live.at, options).await?;
    let seconds = report.elapsed.as_secs_f64();
    let rate = report.events as f64 / seconds.max(1e-6);
    if options.json {
        let document = json!({
            "events": report.events,
            "quarantined": report.quarantined,
            "reached": report.reached.to_string(),
            "seconds": seconds,
            "eventsPerSecond": rate.round(),
            "tables": report.checksums,
        });
        writeln!(out, "{document:#}")?;
        return Ok(());
    }
    let rows =
        report.checksums.iter().map(|(table, sum)| vec![(*table).to_owned(), sum.rows.to_string(), sum.md5.clone()]);
    writeln!(out, "{}", print::table(&["table", "rows", "checksum"], &[1], rows))?;
    writeln!(out, "{} events folded in {seconds:.2} s: {rate:.0} a second", report.events)?;
    if report.quarantined > 0 {
        writeln!(out, "{} could not be applied (see log.quarantine)", report.quarantined)?;
    }
    Ok(())
}

pub(crate) async fn fold(
    session: &mut Session,
    until: LogPosition,
    options: &Options,
) -> Result<RebuildReport, ReplayError> {
    let differences = schema_differences(&mut session.db).await?;
    if !differences.is_empty() {
        return Err(ReplayError::Schema(differences));
    }
    let bar = print::bar(options.progress, session.count(until).await?, "folding the log");
    let batch = usize::try_from(options.batch).unwrap_or(1);
    let report =
        projections::rebuild(&mut session.db, session.generation, until, batch, |n| bar.set_position(n)).await?;
    bar.finish_and_clear();
    Ok(report)
}
