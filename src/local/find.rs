//! Finding the engines on the machine, and saying how to install what is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// `xid8` and the snapshot functions that the log's order rests on came with 13, `idle_session_timeout` with 14.
const OLDEST_POSTGRES: u32 = 14;

/// A PostgreSQL installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresBin {
    /// Folder of `initdb` and `postgres`.
    pub folder: PathBuf,
    /// Major version.
    pub major: u32,
}

/// Find PostgreSQL: of the given major version when data of that version exists, else the first good one.
///
/// # Errors
/// None is there (says how to install it), or none of the wanted version.
pub fn postgres(wanted: Option<u32>) -> anyhow::Result<PostgresBin> {
    choose(&installed(&postgres_folders()), wanted)
}

fn choose(found: &[PostgresBin], wanted: Option<u32>) -> anyhow::Result<PostgresBin> {
    let fits = |bin: &&PostgresBin| wanted.map_or(bin.major >= OLDEST_POSTGRES, |wanted| bin.major == wanted);
    if let Some(bin) = found.iter().find(fits) {
        return Ok(bin.clone());
    }
    let majors: Vec<String> = found.iter().map(|bin| bin.major.to_string()).collect();
    match (wanted, majors.is_empty()) {
        (Some(wanted), false) => anyhow::bail!(
            "the data folder was made by PostgreSQL {wanted}, but only version {} is installed; {}",
            majors.join(", "),
            advice(&format!("postgresql-{wanted}"), &format!("postgresql@{wanted}"))
        ),
        (None, false) => anyhow::bail!(
            "PostgreSQL {OLDEST_POSTGRES} or newer is needed, but only version {} is installed",
            majors.join(", ")
        ),
        (_, true) => anyhow::bail!("PostgreSQL is not installed; {}", advice("postgresql", "postgresql@16")),
    }
}

/// Find `nats-server`.
///
/// # Errors
/// It is not there; says how to install it.
pub fn nats_server() -> anyhow::Result<PathBuf> {
    let mut folders = path_folders();
    folders.extend(["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"].map(PathBuf::from));
    let found = folders.into_iter().map(|folder| folder.join("nats-server")).find(|program| program.is_file());
    found.with_context(|| format!("nats-server is not installed; {}", advice("nats-server", "nats-server")))
}

/// The exact command where we know it.
fn advice(apt: &str, brew: &str) -> String {
    if cfg!(target_os = "macos") {
        format!("install it with: brew install {brew}")
    } else if Path::new("/usr/bin/apt-get").exists() {
        format!("install it with: sudo apt-get install -y {apt}")
    } else {
        format!("install {apt} with this system's package manager so that its programs are on the PATH")
    }
}

fn path_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// Where installations are: the PATH first, then the places of packagers, newest version first.
fn postgres_folders() -> Vec<PathBuf> {
    let mut folders = path_folders();
    for parent in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr"] {
        let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((version_in(&entry.file_name().to_string_lossy())?, entry.path().join("bin"))))
            .collect();
        versions.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
        folders.extend(versions.into_iter().map(|(_, folder)| folder));
    }
    folders
}

/// The version in a folder's name: `15`, `postgresql@16`, `pgsql-14`; an unversioned `postgresql` counts as oldest.
fn version_in(name: &str) -> Option<u32> {
    let digits = ["postgresql@", "pgsql-"].into_iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    if name == "postgresql" { Some(0) } else { digits.parse().ok() }
}

/// The folders that hold a whole installation, with its version as the program itself tells it.
fn installed(folders: &[PathBuf]) -> Vec<PostgresBin> {
    let mut found: Vec<PostgresBin> = Vec::new();
    for folder in folders {
        // A link in the PATH may stand for one program only; its siblings are where it points to.
        let Ok(program) = std::fs::canonicalize(folder.join("postgres")) else { continue };
        let Some(folder) = program.parent().map(Path::to_owned) else { continue };
        if !folder.join("initdb").is_file() || found.iter().any(|bin| bin.folder == folder) {
            continue;
        }
        if let Some(major) = major_of(&program) {
            found.push(PostgresBin { folder, major });
        }
    }
    found
}

/// `postgres (PostgreSQL) 15.18 (…)` → 15.
fn major_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

fn parse_major(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL) ")?.1;
    let digits = version.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bin(major: u32) -> PostgresBin {
        PostgresBin { folder: format!("/pg/{major}").into(), major }
    }

    #[test]
    fn existing_data_decides_the_version() {
        let found = [bin(17), bin(15), bin(12)];
        assert_eq!(choose(&found, None).unwrap().major, 17);
        assert_eq!(choose(&found, Some(15)).unwrap().major, 15);
        let refusal = choose(&found, Some(14)).unwrap_err().to_string();
        assert!(refusal.contains("made by PostgreSQL 14") && refusal.contains("17, 15, 12"), "{refusal}");
        assert!(choose(&[bin(12)], None).unwrap_err().to_string().contains("14 or newer"));
    }

    #[test]
    fn a_missing_program_comes_with_the_command_that_installs_it() {
        let refusal = choose(&[], None).unwrap_err().to_string();
        assert!(refusal.contains("not installed; install"), "{refusal}");
    }

    #[test]
    fn versions_are_read_from_what_programs_and_folders_say() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_major("something else"), None);
        assert_eq!(version_in("postgresql@16"), Some(16));
        assert_eq!(version_in("pgsql-14"), Some(14));
        assert_eq!(version_in("nginx"), None);
    }

    #[test]
    fn a_half_installation_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("postgres"), "").unwrap();
        assert_eq!(installed(&[folder.path().to_owned()]), []);
    }
}
