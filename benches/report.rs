//! The table, and the files it is kept in.

use std::{collections::BTreeMap, process::Command};

use comfy_table::Table;
use serde::{Deserialize, Serialize};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches");

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub name: String,
    /// Our median.
    pub value: f64,
    pub unit: String,
    /// Ours to theirs, or theirs to ours where less is better: more is better always. Median of the rounds' ratios.
    /// Absent where there is nothing to compare with.
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
    pub target: Option<f64>,
}

#[derive(Default)]
pub struct Report {
    suites: BTreeMap<String, Vec<Row>>,
    /// Tables that are no figures: printed and kept with their suite.
    notes: BTreeMap<String, Vec<String>>,
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// `q` of 0.5 is the median; between two values it is interpolated. NaN of nothing.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = q * sorted.len().saturating_sub(1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(a), Some(b)) => a + (b - a) * place.fract(),
        _ => f64::NAN,
    }
}

fn spread(values: &[f64]) -> [f64; 2] {
    [values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(f64::NEG_INFINITY, f64::max)]
}

/// As many digits as are worth reading.
fn digits(value: f64) -> String {
    match value.abs() {
        x if x >= 100.0 => format!("{value:.0}"),
        x if x >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Report {
    /// `rounds` are pairs of ours and theirs.
    pub fn paired(&mut self, figure: Figure<'_>, rounds: &[(f64, f64)]) {
        let Figure { suite, name, unit, against, less_is_better, target } = figure;
        let ours: Vec<f64> = rounds.iter().map(|r| r.0).collect();
        let theirs: Vec<f64> = rounds.iter().map(|r| r.1).collect();
        let ratios: Vec<f64> = rounds.iter().map(|(a, b)| if less_is_better { b / a } else { a / b }).collect();
        self.add(
            suite,
            Row {
                name: name.into(),
                value: median(&ours),
                unit: unit.into(),
                ratio: Some(median(&ratios)),
                against: format!("{against} ({})", digits(median(&theirs))),
                runs: rounds.len(),
                spread: spread(&ours),
                target,
            },
        );
    }

    /// Values to hold below a promised one: the ratio is promise to value, and 1 is promised.
    pub fn promised(&mut self, suite: &str, name: &str, unit: &str, promise: f64, values: &[f64]) {
        let against = format!("the promise, {promise} {unit}");
        self.add(
            suite,
            Row {
                name: name.into(),
                value: median(values),
                unit: unit.into(),
                ratio: Some(promise / median(values)),
                against,
                runs: values.len(),
                spread: spread(values),
                target: Some(1.0),
            },
        );
    }

    /// Values that stand for themselves.
    pub fn plain(&mut self, suite: &str, name: &str, unit: &str, values: &[f64]) {
        self.add(
            suite,
            Row {
                name: name.into(),
                value: median(values),
                unit: unit.into(),
                ratio: None,
                against: String::new(),
                runs: values.len(),
                spread: spread(values),
                target: None,
            },
        );
    }

    /// A table that is no figure.
    pub fn note(&mut self, suite: &str, text: String) {
        println!("\n{text}\n");
        self.notes.entry(suite.into()).or_default().push(text);
    }

    fn add(&mut self, suite: &str, row: Row) {
        let ratio = row.ratio.map_or_else(String::new, |r| format!(", {r:.2} x {}", row.against));
        eprintln!("  {}: {} {}{ratio}", row.name, digits(row.value), row.unit);
        self.suites.entry(suite.into()).or_default().push(row);
    }

    /// Prints; with `keep`, writes the files. Suites that did not run keep what an earlier run left there.
    pub fn write(&self, keep: bool) -> Result<(), String> {
        for rows in self.suites.values() {
            println!("{}", table(rows));
        }
        if !keep {
            return Ok(());
        }
        let fault = |e: &dyn std::fmt::Display| e.to_string();
        let (json, page) = (format!("{FOLDER}/results.json"), format!("{FOLDER}/results.md"));
        let kept = std::fs::read_to_string(&json).unwrap_or_default();
        let mut suites: BTreeMap<String, Vec<Row>> = serde_json::from_str(&kept).unwrap_or_default();
        let mut sections = sections(&std::fs::read_to_string(&page).unwrap_or_default());
        for (suite, rows) in &self.suites {
            let notes = self.notes.get(suite).map(|notes| notes.join("\n\n")).unwrap_or_default();
            let section = format!("{}\n\n{}\n\n{notes}", machine(), table(rows));
            sections.insert(suite.clone(), section.trim().to_owned());
            suites.insert(suite.clone(), rows.clone());
        }
        // Written by an older version, or by hand: the rows are what counts.
        for (suite, rows) in &suites {
            sections.entry(suite.clone()).or_insert_with(|| table(rows).to_string());
        }
        let body: String = sections.iter().map(|(suite, text)| format!("\n## {suite}\n\n{text}\n")).collect();
        let text = format!("{HEAD}{body}");
        std::fs::write(json, serde_json::to_string_pretty(&suites).map_err(|e| fault(&e))? + "\n")
            .map_err(|e| fault(&e))?;
        std::fs::write(page, text).map_err(|e| fault(&e))
    }
}

const HEAD: &str = "# Results of `make bench`\n\nMedians; a ratio is the median of the rounds' ratios, more is better. \
                    What each row means is in `benches/README.md`.\n";

/// The page's parts by suite, as the last run of each left them.
fn sections(page: &str) -> BTreeMap<String, String> {
    let parts = page.split("\n## ").skip(1);
    parts.filter_map(|part| part.split_once('\n')).map(|(suite, text)| (suite.to_owned(), text.trim().into())).collect()
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["name", "value", "unit", "ratio", "against (median)", "target", "runs", "spread"]);
    for row in rows {
        table.add_row([
            row.name.clone(),
            digits(row.value),
            row.unit.clone(),
            row.ratio.map_or_else(String::new, |r| format!("{r:.2}")),
            row.against.clone(),
            row.target.map_or_else(String::new, |t| format!("≥ {t}")),
            row.runs.to_string(),
            format!("{} – {}", digits(row.spread[0]), digits(row.spread[1])),
        ]);
    }
    table
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
