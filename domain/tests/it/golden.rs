//! Golden histories: stored events of every type and version, and the state that each history folds to.
//!
//! `golden/<aggregate>/<history>.ndjson` holds a stream as the log keeps it, `<history>.state.json` what it means. A
//! history is never changed once it is in: its events may lie in somebody's log. `histories.sha256` says so.
//! With `APIQ_UPDATE_GOLDEN=1` states are written anew, and histories that the list does not know are added to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use domain::{aggregate::Decider, catalogue, event::EventSet, upcast::STEPS};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    version: &'a str,
    #[serde(borrow)]
    payload: &'a RawValue,
}

struct History {
    aggregate: String,
    path: PathBuf,
    text: String,
}

impl History {
    fn lines(&self) -> Vec<Line<'_>> {
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", self.path.display()));
        self.text.lines().map(parse).collect()
    }

    /// `connection/plain-http`.
    fn name(&self) -> String {
        format!("{}/{}", self.aggregate, self.path.file_stem().unwrap().to_string_lossy())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn is_updating() -> bool {
    std::env::var("APIQ_UPDATE_GOLDEN").is_ok_and(|v| v == "1")
}

fn histories() -> Vec<History> {
    let mut found = Vec::new();
    for aggregate in fs::read_dir(folder()).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        for file in fs::read_dir(aggregate.path()).unwrap().flatten() {
            let path = file.path();
            if path.extension().is_some_and(|e| e == "ndjson") {
                let aggregate = aggregate.file_name().to_string_lossy().into_owned();
                found.push(History { aggregate, text: fs::read_to_string(&path).unwrap(), path });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty());
    found
}

/// What is done with a history, for each aggregate.
macro_rules! by_aggregate {
    ($history:expr, $of:ident, { $($name:literal = $state:ty),* $(,)? }) => {
        match $history.aggregate.as_str() {
            $( $name => { assert_eq!(<$state as cqrs_es::Aggregate>::TYPE, $name); $of::<$state>($history) } )*
            other => panic!("{other} is no aggregate: add it here"),
        }
    };
}

fn check(history: &History) -> Vec<String> {
    by_aggregate!(history, check_as, {
        "organization" = domain::organization::Organization,
        "workspace" = domain::workspace::Workspace,
        "workspace_key" = domain::workspace_key::WorkspaceKey,
        "user" = domain::user::User,
        "session" = domain::session::Session,
        "api_key" = domain::api_key::ApiKey,
        "reservation" = domain::reservation::Reservation,
        "access" = domain::access::Access,
        "connection" = domain::connection::Connection,
        "connector" = domain::connector::Connector,
        "oauth" = domain::oauth::OauthFlow,
        "document_cache" = domain::document_cache::DocumentCacheLog,
        "credential" = domain::credential::Credential,
        "workflow" = domain::workflow::Workflow,
        "execution" = domain::execution::Execution,
        "plan" = domain::plan::Plan,
        "webhook" = domain::webhook::Webhook,
        "delivery" = domain::delivery::Delivery,
    })
}

fn check_as<A: Decider>(history: &History) -> Vec<String> {
    let (mut events, mut faults) = (Vec::new(), Vec::new());
    for line in history.lines() {
        match A::Event::decode(line.event_type, line.version, line.payload.get()) {
            Ok(event) => {
                faults.extend(written_otherwise(history, &line, &event));
                events.push(event);
            }
            Err(error) => faults.push(format!("{}: {error}", history.name())),
        }
    }
    if faults.is_empty() {
        let state = fold(A::default(), &events);
        faults.extend(compare(history, &serde_json::to_value(&state).unwrap()));
        faults.extend(snapshots(history, &events, &state));
    }
    faults
}

fn fold<A: Decider>(mut state: A, events: &[A::Event]) -> A {
    events.iter().for_each(|event| state.apply(event.clone()));
    state
}

/// A line of the present version is what this build writes, to the byte: a changed shape needs a new version.
fn written_otherwise<E: EventSet>(history: &History, line: &Line, event: &E) -> Option<String> {
    let written = event.encode().unwrap();
    let is_present = E::NAMES.contains(&(line.event_type, line.version));
    (is_present && written != line.payload.get()).then(|| {
        let (name, event_type) = (history.name(), line.event_type);
        format!("{name}: {event_type} is written in another shape under the same version:\n{}\n{written}", line.payload)
    })
}

fn compare(history: &History, state: &Value) -> Option<String> {
    let path = history.path.with_extension("state.json");
    if is_updating() {
        fs::write(&path, serde_json::to_string_pretty(state).unwrap() + "\n").unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    let expected: Value = serde_json::from_str(&stored).unwrap_or_default();
    (expected != *state).then(|| format!("{}: the state is {state:#}", history.name()))
}

/// Wherever a snapshot is taken, the state read back from it and folded on is the same.
fn snapshots<A: Decider>(history: &History, events: &[A::Event], whole: &A) -> Vec<String> {
    let whole = serde_json::to_value(whole).unwrap();
    let differs = |at: &usize| {
        let text = serde_json::to_string(&fold(A::default(), &events[..*at])).unwrap();
        let restored: A = serde_json::from_str(&text).unwrap();
        serde_json::to_value(fold(restored, &events[*at..])).unwrap() != whole
    };
    let faults = (0..=events.len()).filter(differs);
    faults.map(|at| format!("{}: a snapshot after event {at} gives another state", history.name())).collect()
}

#[test]
fn every_history_folds_to_its_state() {
    let faults: Vec<String> = histories().iter().flat_map(check).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_type_and_version_is_covered() {
    let histories = histories();
    let mut covered: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
    for history in &histories {
        covered.extend(history.lines().iter().map(|l| (history.aggregate.as_str(), l.event_type, l.version)));
    }
    let missing: Vec<_> = catalogue::all().into_iter().filter(|event| !covered.contains(event)).collect();
    assert!(missing.is_empty(), "no golden history holds {missing:?}");
    let lifted: BTreeSet<_> = covered.iter().map(|(_, event_type, version)| (*event_type, *version)).collect();
    let untold: Vec<_> = STEPS.iter().filter(|step| !lifted.contains(&(step.event_type, step.from))).collect();
    assert!(untold.is_empty(), "no golden history holds what these steps lift: {untold:?}");
}

#[test]
fn no_history_is_changed() {
    let list = folder().join("histories.sha256");
    let stored = fs::read_to_string(&list).unwrap_or_default();
    let mut known: BTreeMap<String, String> = stored
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(hash, name)| (name.into(), hash.into()))
        .collect();
    let found: BTreeMap<String, String> =
        histories().iter().map(|h| (h.name(), hex::encode(Sha256::digest(&h.text)))).collect();
    if is_updating() {
        for (name, hash) in &found {
            known.entry(name.clone()).or_insert_with(|| hash.clone());
        }
        let lines: String = known.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
        fs::write(&list, lines).unwrap();
    }
    for (name, hash) in &known {
        assert_eq!(found.get(name), Some(hash), "{name} was changed or taken away: such events may be in a log");
    }
    let new: Vec<_> = found.keys().filter(|name| !known.contains_key(*name)).collect();
    assert!(new.is_empty(), "APIQ_UPDATE_GOLDEN=1 adds these to the list: {new:?}");
}

#[test]
fn the_fingerprint_names_the_sources() {
    let fingerprint = domain::FOLD_FINGERPRINT;
    assert!(fingerprint.len() == 16 && fingerprint.chars().all(|c| c.is_ascii_hexdigit()), "{fingerprint}");
}
