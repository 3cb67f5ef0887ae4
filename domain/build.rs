//! Fingerprints this crate's sources: a snapshot of a folded state is used only by a build that folds in the same way.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=build.rs");
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for file in &files {
        let content = fs::read(file)?;
        // Names and lengths too, so that moving text between files shows.
        hash.update(file.to_string_lossy().replace('\\', "/"));
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(&content);
    }
    let fingerprint = hex::encode(hash.finalize());
    println!("cargo:rustc-env=DOMAIN_FOLD_FINGERPRINT={}", &fingerprint[..16]);
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Tests fold nothing that is stored.
        if path.file_stem().is_some_and(|name| name == "tests" || name == "tutorial") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
