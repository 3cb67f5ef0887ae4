//! The table, and the files it is kept in.

use std::{collections::BTreeMap, process::Command};

use comfy_table::Table;
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub name: String,
    /// Our median.
    pub value: f64,
    pub unit: String,
    /// Ours to theirs, or theirs to ours where less is better: more is better always. Median of the rounds' ratios.
    pub ratio: Option<f64>,
    pub against: String,
    pub runs: usize,
    /// Smallest and largest of our values.
    pub spread: [f64; 2],
    /// The promised ratio.
    pub target: Option<f64>,
}

/// What is measured, against whom. `less_is_better` turns the ratio round.
pub struct Figure<'a> {
    pub suite: &'a str,
    pub name: &'a str,
    pub unit: &'a str,
    pub against: &'a str,
    pub less_is_better: bool,
    /// The promised ratio.
    pub target: f64,
}

#[derive(Default)]
pub struct Report {
    suites: BTreeMap<String, Vec<Row>>,
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

impl Report {
    /// `rounds` are pairs of ours and theirs.
    pub fn paired(&mut self, figure: Figure<'_>, rounds: &[(f64, f64)]) {
        let Figure { suite, name, unit, against, less_is_better, target } = figure;
        let ours: Vec<f64> = rounds.iter().map(|r| r.0).collect();
        let ratios: Vec<f64> = rounds.iter().map(|(a, b)| if less_is_better { b / a } else { a / b }).collect();
        let row = Row {
            name: name.into(),
            value: median(&ours),
            unit: unit.into(),
            ratio: Some(median(&ratios)),
            against: format!("{against} ({:.0})", median(&rounds.iter().map(|r| r.1).collect::<Vec<_>>())),
            runs: rounds.len(),
            spread: [
                ours.iter().copied().fold(f64::INFINITY, f64::min),
                ours.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ],
            target: Some(target),
        };
        eprintln!("  {name}: {:.0} {unit}, {:.2} x {against}", row.value, row.ratio.unwrap_or(f64::NAN));
        self.suites.entry(suite.into()).or_default().push(row);
    }

    /// Prints; with `keep`, writes the files (a partial or quick run does not replace a whole one).
    pub fn write(&self, keep: bool) -> Result<(), String> {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["suite", "name", "value", "unit", "ratio", "against (median)", "target", "runs", "spread"]);
        for (suite, rows) in &self.suites {
            for row in rows {
                table.add_row([
                    suite.clone(),
                    row.name.clone(),
                    format!("{:.0}", row.value),
                    row.unit.clone(),
                    row.ratio.map_or_else(String::new, |r| format!("{r:.2}")),
                    row.against.clone(),
                    row.target.map_or_else(String::new, |t| format!("≥ {t}")),
                    row.runs.to_string(),
                    format!("{:.0} – {:.0}", row.spread[0], row.spread[1]),
                ]);
            }
        }
        println!("{table}");
        if !keep {
            return Ok(());
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/benches");
        let json = serde_json::to_string_pretty(&self.suites).map_err(|e| e.to_string())?;
        let note = format!(
            "# Results of `make bench`\n\n{}\n\nMedians; a ratio is the median of the rounds' ratios, more is better.\n\n{table}\n",
            machine()
        );
        std::fs::write(format!("{folder}/results.json"), json + "\n").map_err(|e| e.to_string())?;
        std::fs::write(format!("{folder}/results.md"), note).map_err(|e| e.to_string())
    }
}

fn machine() -> String {
    let shell = |line: &str| {
        let out = Command::new("sh").args(["-c", line]).output();
        out.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
    };
    let cpu = shell("grep -m1 'model name' /proc/cpuinfo | cut -d: -f2");
    let cores = shell("nproc");
    let postgres = shell("(pg_config --version || postgres --version) 2>/dev/null | head -1");
    format!("{}, {cores} cores ({}), {postgres}.", shell("date -u +%F"), cpu.trim())
}
