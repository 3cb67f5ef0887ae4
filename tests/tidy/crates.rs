//! The edges between our crates, and the outside crates that each floor must do without.

use std::process::Command;

use serde_json::{Value, json};

/// The arrows of ARCHITECTURE.md, and no others. The root package may use everything.
const EDGES: [(&str, &[&str]); 9] = [
    ("domain", &[]),
    ("event-store", &["domain"]),
    ("vault", &["domain"]),
    ("commands", &["domain", "event-store", "vault"]),
    ("projections", &["domain", "event-store"]),
    ("integrations", &["domain"]),
    ("executors", &["domain", "event-store", "vault", "commands", "projections", "integrations"]),
    ("api", &["domain", "commands", "projections"]),
    ("replay-tools", &["domain", "event-store", "projections"]),
];

const ROOT: &str = "apiq";

/// Outside crates that a floor's own code (tests aside) must not use, and why.
const FORBIDDEN: [(&str, &[&str], &str); 9] = [
    (
        "domain",
        &[
            "tokio",
            "sqlx",
            "reqwest",
            "poem",
            "poem-openapi",
            "async-nats",
            "rand",
            "aes-gcm",
            "futures",
            "async-trait",
        ],
        "the domain is pure: no I/O, no clock, no randomness",
    ),
    (
        "event-store",
        &["reqwest", "poem", "async-nats", "aes-gcm"],
        "the log holds ciphertext and speaks to Postgres only",
    ),
    ("vault", &["reqwest", "poem", "async-nats"], "secrets have no way out of the vault but its API"),
    ("commands", &["reqwest", "poem", "async-nats", "aes-gcm"], "use cases do no egress; ports do"),
    ("projections", &["reqwest", "poem", "async-nats", "aes-gcm"], "read models have no side effects and no keys"),
    ("integrations", &["sqlx", "async-nats", "poem", "aes-gcm"], "the outside knows no database"),
    ("executors", &["reqwest", "poem"], "egress goes through integrations"),
    ("api", &["reqwest", "sqlx", "async-nats", "aes-gcm"], "routes call use cases and queries only"),
    (
        "replay-tools",
        &["reqwest", "async-nats", "aes-gcm", "poem"],
        "auditors' tools only read: no vault, no egress, no NATS",
    ),
];

pub fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(crate::files::root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// What is wrong with a workspace.
pub fn complaints(metadata: &Value) -> Vec<String> {
    let packages: Vec<&Value> = metadata["packages"].as_array().into_iter().flatten().collect();
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut found = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            found.extend(judge(name, dependency, &names));
        }
    }
    for (name, _) in EDGES.iter().filter(|(name, _)| !names.contains(name)) {
        found.push(format!("the crate {name} is drawn but does not exist"));
    }
    found
}

fn judge(package: &str, dependency: &Value, ours: &[&str]) -> Option<String> {
    let to = dependency["name"].as_str().unwrap_or_default();
    if package == ROOT {
        return None;
    }
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package) else {
        return Some(format!("the crate {package} is not drawn in ARCHITECTURE.md (it depends on {to})"));
    };
    if ours.contains(&to) {
        // Test code counts too: it is the first step over the fence.
        return (!allowed.contains(&to)).then(|| format!("{package} -> {to} is not drawn in ARCHITECTURE.md"));
    }
    let for_tests = dependency["kind"] == "dev";
    let (_, _, why) = FORBIDDEN.iter().find(|(name, crates, _)| *name == package && crates.contains(&to))?;
    (!for_tests).then(|| format!("{package} must not depend on {to}: {why}"))
}

/// A made-up workspace with one fault of each kind.
pub fn self_check() {
    let package = |name: &str, dependencies: &[(&str, Option<&str>)]| {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
        json!({ "name": name, "dependencies": dependencies })
    };
    let mut packages: Vec<Value> =
        EDGES.iter().map(|(name, to)| package(name, &to.iter().map(|to| (*to, None)).collect::<Vec<_>>())).collect();
    packages.push(package(ROOT, &[("api", None), ("reqwest", None)]));
    assert_eq!(complaints(&json!({ "packages": packages })), [""; 0], "the drawing itself must pass");

    packages.retain(|package| !matches!(package["name"].as_str(), Some("domain" | "vault")));
    packages
        .push(package("domain", &[("vault", Some("dev")), ("tokio", None), ("tokio", Some("dev")), ("serde", None)]));
    packages.push(package("shared", &[("serde", None)]));
    let found = complaints(&json!({ "packages": packages }));
    let expected = ["domain must not depend on tokio", "shared is not drawn", "vault is drawn but does not exist"];
    assert!(expected.iter().all(|part| found.iter().any(|line| line.contains(part))), "{found:?}");
    packages.push(package("vault", &[]));
    let found = complaints(&json!({ "packages": packages }));
    assert!(found.iter().any(|line| line.contains("domain -> vault is not drawn")), "{found:?}");
    assert_eq!(found.len(), 3, "{found:?}");
}
