//! The shared folder's real documents; without it, their tests are skipped.

use std::path::PathBuf;

pub struct Document {
    pub file: String,
    pub text: String,
    /// Operations that an independent program counted.
    pub operations: u64,
    pub webhooks: u64,
}

pub fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
    let shared = std::env::var_os("APIQ_SHARED").map(PathBuf::from).unwrap_or_else(|| PathBuf::from(beside));
    let specs = shared.join("specs");
    if specs.join("INDEX.tsv").exists() {
        return Some(specs);
    }
    eprintln!("skipped: there are no shared documents at {}", specs.display());
    None
}

/// Every document that is one file.
pub fn single_files() -> Option<Vec<Document>> {
    let folder = folder()?;
    let index = std::fs::read_to_string(folder.join("INDEX.tsv")).unwrap();
    let mut rows = index.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let column = |name: &str| header.iter().position(|known| *known == name).unwrap();
    let (file, operations, webhooks) = (column("file"), column("ops_python"), column("webhooks_ops"));
    let single = rows.filter(|row| !row[file].contains('/'));
    Some(
        single
            .map(|row| Document {
                file: row[file].to_owned(),
                text: std::fs::read_to_string(folder.join(row[file])).unwrap(),
                operations: row[operations].parse().unwrap(),
                webhooks: row[webhooks].parse().unwrap(),
            })
            .collect(),
    )
}
