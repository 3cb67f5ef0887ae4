//! `apiq admin`: rebuilds the read models, and tells what they could not take.

use std::{
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use projections::{OnlineOptions, OnlineReport, QuarantineEntry, RebuildPhase, RebuildProgress, resource_id};
use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::{cli::Admin, local, master, rotate, settings::Settings, tools};

/// Quarantined events that are listed.
const LISTED: i64 = 1_000;
/// How often JSON tells of the progress.
const EVERY: Duration = Duration::from_secs(1);

pub async fn run(settings: Settings, admin: Admin, json: bool) -> anyhow::Result<ExitCode> {
    let (url, stack) = tools::database(&settings).await?;
    let done = match admin {
        Admin::Rebuild { batch } => rebuild(url.expose_secret(), batch, json).await,
        Admin::Quarantine => quarantine(url.expose_secret(), json).await,
        Admin::RotateMaster => rotate_master(&settings, url.expose_secret(), json).await,
    };
    if let Some(stack) = stack {
        stack.stop().await?;
    }
    done
}

/// The key is the settings' one, or the data folder's.
async fn rotate_master(settings: &Settings, url: &str, json: bool) -> anyhow::Result<ExitCode> {
    let current = match &settings.master_key {
        Some(key) => key.clone(),
        None => local::master_key(&settings.data_dir)?,
    };
    rotate::run(url, master::keys(&current, settings).await?, json).await
}

async fn rebuild(url: &str, batch: u32, json: bool) -> anyhow::Result<ExitCode> {
    let options = OnlineOptions { batch: usize::try_from(batch)? };
    let mut shown = Shown::new(json);
    let report = projections::rebuild_online(url, options, |progress| shown.tell(progress)).await;
    shown.bar.finish_and_clear();
    let report = report?;
    if json {
        println!("{}", document(&report));
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// Progress as a person or a program sees it.
struct Shown {
    json: bool,
    bar: ProgressBar,
    last: Option<(RebuildPhase, Instant)>,
}

impl Shown {
    fn new(json: bool) -> Self {
        let drawn = !json && std::io::stderr().is_terminal();
        let bar = if drawn { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style =
            ProgressStyle::with_template("{msg:10} [{bar:40}] {human_pos}/{human_len} events, {per_sec}, {eta} left");
        Self { json, bar: bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())), last: None }
    }

    fn tell(&mut self, progress: RebuildProgress) {
        self.bar.set_length(progress.total.max(progress.events));
        self.bar.set_position(progress.events);
        let changed = self.last.is_none_or(|(phase, _)| phase != progress.phase);
        if changed {
            self.bar.set_message(words(progress.phase));
        }
        if !changed && self.last.is_some_and(|(_, at)| at.elapsed() < EVERY) {
            return;
        }
        self.last = Some((progress.phase, Instant::now()));
        let rate = progress.events as f64 / progress.elapsed.as_secs_f64().max(1e-6);
        let left = progress.total.saturating_sub(progress.events);
        let eta = (rate > 0.0).then(|| (left as f64 / rate).ceil());
        if self.json {
            let line = json!({
                "phase": progress.phase,
                "events": progress.events,
                "total": progress.total,
                "seconds": progress.elapsed.as_secs_f64(),
                "eventsPerSecond": rate.round(),
                "etaSeconds": eta,
            });
            println!("{line}");
        } else if self.bar.is_hidden() && changed {
            eprintln!("  {}: {}/{} events", words(progress.phase), progress.events, progress.total);
        }
    }
}

fn words(phase: RebuildPhase) -> &'static str {
    match phase {
        RebuildPhase::Fold => "folding",
        RebuildPhase::Index => "indexing",
        RebuildPhase::CatchUp => "catching up",
        RebuildPhase::Swap => "swapping",
        RebuildPhase::CleanUp => "cleaning up",
    }
}

fn document(report: &OnlineReport) -> serde_json::Value {
    json!({
        "done": true,
        "events": report.events,
        "quarantined": report.quarantined.len(),
        "reached": report.at.to_string(),
        "seconds": report.elapsed.as_secs_f64(),
        "foldingSeconds": report.folding.as_secs_f64(),
        "swapMs": report.swap.as_secs_f64() * 1_000.0,
        "longestWriteMs": report.longest_write.as_secs_f64() * 1_000.0,
        "leftovers": report.leftovers,
    })
}

fn print(report: &OnlineReport) {
    let rate = report.events as f64 / report.folding.as_secs_f64().max(1e-6);
    println!(
        "The read models are rebuilt and live: {} events in {}, folded at {} a second; swapped in {:.0} ms.",
        HumanCount(report.events),
        HumanDuration(report.elapsed),
        HumanCount(rate as u64),
        report.swap.as_secs_f64() * 1_000.0,
    );
    if !report.quarantined.is_empty() {
        println!("{} could not be taken: see `apiq admin quarantine`.", report.quarantined.len());
    }
    if report.leftovers {
        println!("Somebody still reads the old tables; the next rebuild drops what is left of them.");
    }
}

async fn quarantine(url: &str, json: bool) -> anyhow::Result<ExitCode> {
    let mut db = PgConnection::connect(url).await?;
    let entries = projections::quarantine(&mut db, LISTED).await?;
    if json {
        let all: Vec<_> = entries.iter().map(entry).collect();
        println!("{:#}", serde_json::Value::from(all));
    } else if entries.is_empty() {
        println!("The read models have taken every event.");
    } else {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["position", "event", "of", "view", "reason", "readable"]);
        for e in &entries {
            let of = resource_id(&e.aggregate_type, e.aggregate_id);
            let readable = if e.readable { "yes" } else { "no" };
            table.add_row([&e.at.to_string(), &e.event_type, &of, &e.view, &e.reason, readable]);
        }
        println!("{table}");
        if entries.iter().any(|e| e.readable) {
            println!("This build can read some of them: `apiq admin rebuild` folds them in their order.");
        }
    }
    Ok(if entries.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn entry(e: &QuarantineEntry) -> serde_json::Value {
    json!({
        "position": e.at.to_string(),
        "eventId": domain::ids::EventId(e.event_id),
        "eventType": e.event_type,
        "resource": resource_id(&e.aggregate_type, e.aggregate_id),
        "view": e.view,
        "reason": e.reason,
        "readable": e.readable,
    })
}
