//! Ingestion of the largest real document, against swagger-parser's `validate` on the same file.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::report::{Figure, Report};

pub fn run(report: &mut Report, quick: bool) -> Result<(), String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("APIQ_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let spec = shared.join("specs/github-api.json");
    if !spec.exists() {
        eprintln!("  ingest: skipped, {} is not there", spec.display());
        return Ok(());
    }
    let ours = build(&root)?;
    let peer = install(&root)?;
    let rounds = if quick { 1 } else { 5 };
    let (mut cpu, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let a = figures(Command::new(&ours).arg(&spec))?;
        if a.ops != 1223 {
            return Err(format!("{} operations instead of 1223", a.ops));
        }
        let b = figures(Command::new("node").current_dir(&peer).args(["-e", PEER]).arg(&spec))?;
        cpu.push((a.cpu_ms, b.cpu_ms));
        memory.push((a.rss_mb, b.rss_mb));
    }
    let against = "swagger-parser validate";
    let name = |name, unit, target| Figure {
        suite: "ingest",
        name,
        unit,
        against,
        less_is_better: true,
        target: Some(target),
    };
    report.paired(name("ingest_github_vs_swagger_parser_validate", "CPU ms", 8.0), &cpu);
    // The promise is 0.7 of the peer's memory: a ratio of 1.43.
    report.paired(name("ingest_peak_rss_github", "MB", 1.43), &memory);
    Ok(())
}

/// Its own process start is left out, as ours is.
const PEER: &str = r#"
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

struct Figures {
    ops: u64,
    cpu_ms: f64,
    rss_mb: f64,
}

fn figures(command: &mut Command) -> Result<Figures, String> {
    let out = command.output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&out.stdout);
    let line = text.lines().last().unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(line)
        .map_err(|_| format!("no figures: {text} {}", String::from_utf8_lossy(&out.stderr)))?;
    let number = |name: &str| value[name].as_f64().ok_or_else(|| format!("{name} is missing"));
    Ok(Figures { ops: number("ops")? as u64, cpu_ms: number("cpuMs")?, rss_mb: number("peakRssKb")? / 1024.0 })
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

fn install(root: &Path) -> Result<PathBuf, String> {
    let folder = root.join("target/bench-peers");
    if !folder.join("node_modules/@apidevtools/swagger-parser").exists() {
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let status = Command::new("npm")
            .current_dir(&folder)
            .args(["install", "--silent", "--no-fund", "--no-audit", "--prefix", ".", "@apidevtools/swagger-parser@10"])
            .status()
            .map_err(|e| format!("npm does not start: {e}"))?;
        if !status.success() {
            return Err("swagger-parser cannot be installed".into());
        }
    }
    Ok(folder)
}
