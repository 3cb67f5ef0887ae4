//! The shared folder's real documents; without it, their tests are skipped.

use std::path::{Path, PathBuf};

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

/// A document of several files, each with its name relative to the document's folder.
pub struct Several {
    pub root: String,
    pub files: Vec<(String, Vec<u8>)>,
    pub operations: u64,
}

/// File, operations and webhooks of each row of the index.
fn rows(folder: &Path) -> Vec<(String, u64, u64)> {
    let index = std::fs::read_to_string(folder.join("INDEX.tsv")).unwrap();
    let mut rows = index.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let column = |name: &str| header.iter().position(|known| *known == name).unwrap();
    let (file, operations, webhooks) = (column("file"), column("ops_python"), column("webhooks_ops"));
    rows.map(|row| (row[file].to_owned(), row[operations].parse().unwrap(), row[webhooks].parse().unwrap())).collect()
}

/// Every document that is one file.
pub fn single_files() -> Option<Vec<Document>> {
    let folder = folder()?;
    let single = rows(&folder).into_iter().filter(|(file, ..)| !file.contains('/'));
    Some(
        single
            .map(|(file, operations, webhooks)| {
                let text = std::fs::read_to_string(folder.join(&file)).unwrap();
                Document { file, text, operations, webhooks }
            })
            .collect(),
    )
}

/// Every document of several files.
pub fn several_files() -> Option<Vec<Several>> {
    let folder = folder()?;
    let several = rows(&folder).into_iter().filter_map(|(file, operations, _)| {
        let (name, root) = file.split_once('/')?;
        let mut files = Vec::new();
        collect(&folder.join(name), "", &mut files);
        Some(Several { root: root.to_owned(), files, operations })
    });
    Some(several.collect())
}

fn collect(folder: &Path, prefix: &str, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{name}/"), into);
        } else {
            into.push((name, std::fs::read(entry.path()).unwrap()));
        }
    }
}
