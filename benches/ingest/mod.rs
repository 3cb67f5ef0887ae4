//! Ingestion of large real documents against what others do with the same files, and of documents made to hurt.

mod bombs;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::report::{Figure, Report};

/// A bomb ends within this many milliseconds, and within this much memory.
const BOMB_MS: f64 = 1_000.0;
const BOMB_MB: f64 = 320.0;

pub fn run(report: &mut Report, quick: bool) -> Result<(), String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("APIQ_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let ours = build(&root)?;
    let rounds = if quick { 1 } else { 5 };
    worst(report, &ours, rounds)?;
    let (github, stripe) = (shared.join("specs/github-api.json"), shared.join("specs/stripe-spec3.yaml"));
    if let Some(missing) = [&github, &stripe].into_iter().find(|file| !file.exists()) {
        eprintln!("  ingest: the rest is skipped, {} is not there", missing.display());
        return Ok(());
    }
    let peer = install(&root)?;
    let validate = "swagger-parser validate";
    let (cpu, memory) = against(&ours, &peer, SWAGGER_PARSER, &github, 1_223, rounds)?;
    report.paired(figure("ingest_github_vs_swagger_parser_validate", "CPU ms", validate, 8.0), &cpu);
    // The promise is 0.7 of the peer's memory: a ratio of 1.43.
    report.paired(figure("ingest_peak_rss_github", "MB", validate, 1.43), &memory);
    let (cpu, _) = against(&ours, &peer, REDOCLY, &stripe, 468, rounds)?;
    report.paired(figure("ingest_stripe_yaml_vs_redocly_bundle", "CPU ms", "redocly bundle", 4.0), &cpu);
    Ok(())
}

fn figure<'a>(name: &'a str, unit: &'a str, against: &'a str, target: f64) -> Figure<'a> {
    Figure { suite: "ingest", name, unit, against, less_is_better: true, target: Some(target) }
}

/// Ours and theirs, round by round.
type Pairs = Vec<(f64, f64)>;

/// CPU and peak memory of both on the same file; both must find its operations.
fn against(
    ours: &Path,
    peer: &Path,
    script: &str,
    file: &Path,
    operations: u64,
    rounds: usize,
) -> Result<(Pairs, Pairs), String> {
    let (mut cpu, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let a = figures(Command::new(ours).arg(file))?;
        let b = figures(Command::new("node").current_dir(peer).args(["-e", script]).arg(file))?;
        for (who, found) in [("we", &a), ("they", &b)] {
            if found.ops != operations {
                return Err(format!("{}: {who} find {} operations instead of {operations}", file.display(), found.ops));
            }
        }
        cpu.push((a.cpu_ms, b.cpu_ms));
        memory.push((a.rss_mb, b.rss_mb));
    }
    Ok((cpu, memory))
}

/// The slowest and the largest of the bombs, round by round.
fn worst(report: &mut Report, ours: &Path, rounds: usize) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("apiq-bombs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let (mut slowest, mut largest) = (vec![0.0_f64; rounds], vec![0.0_f64; rounds]);
    let mut set_off = |name: &str, bytes: Vec<u8>| -> Result<(), String> {
        let file = folder.join(name);
        std::fs::write(&file, bytes).map_err(|e| e.to_string())?;
        for round in 0..rounds {
            let found = figures(Command::new(ours).arg(&file))?;
            eprintln!("    {name}: {:.0} ms, {:.0} MB: {}", found.wall_ms, found.rss_mb, found.refused);
            slowest[round] = slowest[round].max(found.wall_ms);
            largest[round] = largest[round].max(found.rss_mb);
        }
        Ok(())
    };
    let measured = bombs::all().into_iter().try_for_each(|(name, bytes)| set_off(name, bytes));
    std::fs::remove_dir_all(&folder).map_err(|e| e.to_string())?;
    measured?;
    report.promised("ingest", "ingest_slowest_bomb", "ms", BOMB_MS, &slowest);
    report.promised("ingest", "ingest_largest_bomb_rss", "MB", BOMB_MB, &largest);
    Ok(())
}

/// The peers' own process start is left out, as ours is.
const SWAGGER_PARSER: &str = r#"
const parser = require('@apidevtools/swagger-parser');
const before = process.cpuUsage();
const began = performance.now();
parser.validate(process.argv[1]).then(api => {
  const cpu = process.cpuUsage(before);
  const verbs = ['get', 'put', 'post', 'delete', 'patch', 'head', 'options', 'trace'];
  const ops = Object.values(api.paths).flatMap(p => Object.keys(p)).filter(k => verbs.includes(k)).length;
  console.log(JSON.stringify({ ops, cpuMs: (cpu.user + cpu.system) / 1000, wallMs: performance.now() - began,
    peakRssKb: process.resourceUsage().maxRSS }));
});
"#;

const REDOCLY: &str = r#"
const { bundle, createConfig } = require('@redocly/openapi-core');
const before = process.cpuUsage();
const began = performance.now();
createConfig({}).then(config => bundle({ ref: process.argv[1], config })).then(done => {
  const cpu = process.cpuUsage(before);
  const verbs = ['get', 'put', 'post', 'delete', 'patch', 'head', 'options', 'trace'];
  const paths = Object.values(done.bundle.parsed.paths);
  const ops = paths.flatMap(p => Object.keys(p)).filter(k => verbs.includes(k)).length;
  console.log(JSON.stringify({ ops, cpuMs: (cpu.user + cpu.system) / 1000, wallMs: performance.now() - began,
    peakRssKb: process.resourceUsage().maxRSS }));
});
"#;

struct Figures {
    ops: u64,
    cpu_ms: f64,
    wall_ms: f64,
    rss_mb: f64,
    /// Why the document was not taken; `taken` where it was.
    refused: String,
}

fn figures(command: &mut Command) -> Result<Figures, String> {
    let out = command.output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&out.stdout);
    let line = text.lines().last().unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(line)
        .map_err(|_| format!("no figures: {text} {}", String::from_utf8_lossy(&out.stderr)))?;
    let number = |name: &str| value[name].as_f64().ok_or_else(|| format!("{name} is missing"));
    Ok(Figures {
        ops: number("ops")? as u64,
        cpu_ms: number("cpuMs")?,
        wall_ms: number("wallMs")?,
        rss_mb: number("peakRssKb")? / 1024.0,
        refused: value["refused"].as_str().unwrap_or("taken").chars().take(100).collect(),
    })
}

fn build(root: &Path) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--release", "--locked", "-p", "integrations", "--example", "ingest_bench"])
        .status()
        .map_err(|e| e.to_string())?;
    if status.success() {
        Ok(root.join("target/release/examples/ingest_bench"))
    } else {
        Err("the example does not build".into())
    }
}

/// The peers, as they are published.
fn install(root: &Path) -> Result<PathBuf, String> {
    const PEERS: [&str; 2] = ["@apidevtools/swagger-parser", "@redocly/openapi-core"];
    let folder = root.join("target/bench-peers");
    if PEERS.iter().all(|peer| folder.join("node_modules").join(peer).exists()) {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let status = Command::new("npm")
        .current_dir(&folder)
        .args(["install", "--silent", "--no-fund", "--no-audit", "--prefix", "."])
        .args([format!("{}@10", PEERS[0]), format!("{}@1", PEERS[1])])
        .status()
        .map_err(|e| format!("npm does not start: {e}"))?;
    if status.success() { Ok(folder) } else { Err("swagger-parser and redocly cannot be installed".into()) }
}
