//! How well retrieval finds the gold operations of the shared request sets (development halves).

use std::path::PathBuf;

use serde_json::Value;

use super::{fixtures::connection, offline::endpoints};
use crate::planner::{Catalog, PlanRequest, Ranked, plan_offline, retrieve::retrieve};

/// The folder that the request sets share with their documents; `None` (and a note) where it is absent.
fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("APIQ_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from);
    let folder = root.join("restbench");
    if !folder.is_dir() {
        println!("skipped: no request sets at {}", folder.display());
        return None;
    }
    Some(folder)
}

fn json(folder: &std::path::Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

/// `GET /movie/{}`: parameters' names don't matter.
fn shape_of(operation: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in operation.trim().chars() {
        match c {
            '{' => inside = true,
            '}' => {
                inside = false;
                out.push_str("{}");
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

struct Set {
    catalog: Catalog,
    requests: Vec<(String, Vec<String>)>,
}

fn set(name: &str) -> Option<Set> {
    let folder = shared()?;
    let catalog = Catalog::new(vec![connection("conn_x", name, &json(&folder, &format!("{name}_oas.json")))]);
    let requests = json(&folder, &format!("{name}.dev.json"));
    let request = |r: &Value| {
        let gold = r["solution"].as_array().unwrap().iter().map(|g| shape_of(g.as_str().unwrap())).collect();
        (r["query"].as_str().unwrap().to_owned(), gold)
    };
    Some(Set { catalog, requests: requests.as_array().unwrap().iter().map(request).collect() })
}

/// Share of all requests' gold operations among the first `k` found.
fn recall(set: &Set, ks: &[usize], find: &dyn Fn(&Catalog, &str) -> Vec<String>) -> Vec<f64> {
    let mut sums = vec![(0_usize, 0_usize); ks.len()];
    for (query, gold) in &set.requests {
        let found = find(&set.catalog, query);
        let mut gold = gold.clone();
        gold.sort();
        gold.dedup();
        for (sum, &k) in sums.iter_mut().zip(ks) {
            sum.0 += gold.iter().filter(|g| found.iter().take(k).any(|f| f == *g)).count();
            sum.1 += gold.len();
        }
    }
    sums.into_iter().map(|(hit, all)| hit as f64 / all as f64).collect()
}

fn searched(catalog: &Catalog, query: &str) -> Vec<String> {
    let name = |hit: &Ranked| {
        let operation = &catalog.connections()[0].spec.operations[hit.operation_index];
        shape_of(&format!("{} {}", operation.method, operation.path))
    };
    catalog.search(query, 20).iter().map(name).collect()
}

/// With the operations that produce ids, as a model is offered them.
fn retrieved(catalog: &Catalog, query: &str) -> Vec<String> {
    let name = |(doc, _): &(usize, f32)| {
        let operation = catalog.operation(*doc);
        shape_of(&format!("{} {}", operation.method, operation.path))
    };
    retrieve(catalog, query, 20).iter().map(name).collect()
}

/// The gold path is a subsequence of the planned one, which has at most two steps more.
fn is_correct(planned: &[String], gold: &[String]) -> bool {
    let mut rest = planned.iter();
    planned.len() <= gold.len() + 2 && gold.iter().all(|g| rest.any(|p| p == g))
}

fn planned(catalog: &Catalog, query: &str) -> Vec<String> {
    let request = PlanRequest { message: query.to_owned(), ..PlanRequest::default() };
    plan_offline(catalog, &request)
        .map(|d| endpoints(&d.steps).iter().map(|e| shape_of(e)).collect())
        .unwrap_or_default()
}

/// Floors stand a little under what was measured; they are there to catch a loss, not to be aimed at.
#[test]
fn gold_operations_are_found() {
    for (name, search_floor, retrieve_floor) in [("tmdb", 0.78, 0.92), ("spotify", 0.88, 0.88)] {
        let Some(set) = set(name) else { return };
        let search = recall(&set, &[5, 10, 20], &searched);
        let offered = recall(&set, &[5, 10, 20], &retrieved);
        println!("{name}: recall@5/@10/@20 search {search:.3?}, with producers {offered:.3?}");
        assert!(search[2] >= search_floor, "{name}: {search:?}");
        assert!(offered[2] >= retrieve_floor, "{name}: {offered:?}");
    }
}

#[test]
fn gold_paths_are_planned() {
    for (name, floor) in [("tmdb", 0.2), ("spotify", 0.22)] {
        let Some(set) = set(name) else { return };
        let mut correct = 0;
        for (query, gold) in &set.requests {
            let plan = planned(&set.catalog, query);
            let good = is_correct(&plan, gold);
            correct += usize::from(good);
            if std::env::var_os("SHOW").is_some() {
                println!("{} {query:?}\n    gold {gold:?}\n    plan {plan:?}", if good { "+" } else { "-" });
            }
        }
        let rate = f64::from(correct as u32) / set.requests.len() as f64;
        println!("{name}: correct path {rate:.3} of {}", set.requests.len());
        assert!(rate >= floor, "{name}: {rate}");
    }
}
