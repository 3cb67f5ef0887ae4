//! `make bench`: ratios against a peer or a ceiling, measured in the same run, round by round.
//!
//! Prints a table and writes `benches/results.json` and `benches/results.md` with machine and date. Each figure is
//! the median over the rounds; each benchmark checks its own result before it counts.

mod ingest;
mod log;
mod report;
mod server;

use std::process::ExitCode;

use report::Report;

fn main() -> ExitCode {
    let mut suite: Option<String> = None;
    let mut quick = false;
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--quick" => quick = true,
            // `cargo bench` adds it.
            "--bench" => {}
            name if ["log", "ingest"].contains(&name) => suite = Some(name.to_owned()),
            other => {
                eprintln!("bench: {other:?} is no suite; there are log and ingest");
                return ExitCode::from(2);
            }
        }
    }
    let wanted = |name: &str| suite.as_deref().is_none_or(|s| s == name);
    let mut report = Report::default();
    let mut run = || -> Result<(), String> {
        if wanted("ingest") {
            ingest::run(&mut report, quick)?;
        }
        if wanted("log") {
            log::run(&mut report, quick)?;
        }
        report.write(suite.is_none() && !quick)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(1)
        }
    }
}
