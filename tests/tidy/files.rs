//! The tracked files of the project (and the new ones that git does not ignore).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Paths relative to the root, with `/`, and their text; `None` for what is no UTF-8.
pub struct Tree {
    files: BTreeMap<String, Option<String>>,
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

impl Tree {
    /// As it is on disk.
    pub fn read() -> Tree {
        let paths = by_git().unwrap_or_else(by_walking);
        assert!(paths.iter().any(|path| path == "Cargo.toml"), "the tree was not found");
        let files = paths.into_iter().filter_map(|path| {
            let bytes = std::fs::read(root().join(&path)).ok()?;
            Some((path, String::from_utf8(bytes).ok()))
        });
        Tree { files: files.collect() }
    }

    /// Made up, for self-checks.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        Tree { files: files.iter().map(|(path, text)| ((*path).into(), Some((*text).into()))).collect() }
    }

    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    pub fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// A file or a folder with files in it.
    pub fn exists(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }

    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    pub fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| path.ends_with(".rs"))
    }

    /// The documents that describe the tree as it is (a changelog may name what is gone).
    pub fn documents(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| {
            let top = matches!(*path, "README.md" | "ARCHITECTURE.md" | "CONTRIBUTING.md");
            top || (path.starts_with("docs/") && path.ends_with(".md"))
        })
    }
}

fn by_git() -> Option<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .ok()?;
    let text = String::from_utf8(listed.stdout).ok()?;
    let paths: Vec<String> = text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (listed.status.success() && !paths.is_empty()).then_some(paths)
}

/// Without git (an unpacked archive): everything but what builds and runs leave.
fn by_walking() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let skipped = matches!(name.as_str(), "target" | ".git" | ".apiq" | ".env" | "node_modules");
            match entry.file_type() {
                _ if skipped => {}
                Ok(kind) if kind.is_dir() => walk(&entry.path(), found),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.iter().filter_map(|path| Some(path.strip_prefix(root()).ok()?.to_string_lossy().replace('\\', "/"))).collect()
}
