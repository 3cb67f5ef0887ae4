//! `make bench`: ratios against a peer or a ceiling, measured in the same run, round by round.
//!
//! Prints a table and writes `benches/results.json` and `benches/results.md` with machine and date. Each figure is
//! the median over the rounds; each benchmark checks its own result before it counts.

mod ingest;
mod log;
mod process;
mod report;
mod server;

use std::process::ExitCode;

use report::Report;

const SUITES: [&str; 2] = ["ingest", "log"];

/// How much is run.
pub struct Plan {
    suite: Option<String>,
    /// Short rounds, for a look; the files are not written.
    pub quick: bool,
    /// Only the parts whose name holds one of these texts; empty: all. The files are not written.
    only: Vec<String>,
}

impl Plan {
    fn parse(words: impl Iterator<Item = String>) -> Result<Plan, String> {
        let mut plan = Plan { suite: None, quick: false, only: Vec::new() };
        let mut words = words;
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => plan.quick = true,
                // `cargo bench` adds it.
                "--bench" => {}
                "--only" => {
                    let parts = words.next().ok_or("--only wants the part of a name")?;
                    plan.only.extend(parts.split(',').map(|part| part.trim().to_owned()));
                }
                name if SUITES.contains(&name) => plan.suite = Some(name.to_owned()),
                other => return Err(format!("{other:?} is no suite; there are {}", SUITES.join(" and "))),
            }
        }
        Ok(plan)
    }

    fn suite(&self, name: &str) -> bool {
        self.suite.as_deref().is_none_or(|s| s == name)
    }

    /// Is a part of a suite wanted?
    pub fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|text| part.contains(text.as_str()))
    }

    /// A look at a part says nothing about the whole.
    fn keeps(&self) -> bool {
        !self.quick && self.only.is_empty()
    }
}

fn main() -> ExitCode {
    let plan = match Plan::parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::default();
    let mut run = || -> Result<(), String> {
        if plan.suite("ingest") {
            ingest::run(&mut report, plan.quick)?;
        }
        if plan.suite("log") {
            log::run(&mut report, &plan)?;
        }
        Ok(())
    };
    let ran = run();
    // What was measured before a fault is shown, and never kept.
    let written = report.write(plan.keeps() && ran.is_ok());
    match ran.and(written) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(1)
        }
    }
}
