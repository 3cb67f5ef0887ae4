//! One process per data folder. The lock belongs to an open file, so the system frees it when its holder dies; the
//! file that stays behind, with a dead process's id in it, means nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

const NAME: &str = "lock";

/// Held as long as it lives.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Take the lock of a data folder.
    ///
    /// # Errors
    /// Another process holds it (names it), or the file cannot be opened.
    pub fn take(data_dir: &Path) -> anyhow::Result<DataDirLock> {
        let path = data_dir.join(NAME);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.with_context(|| format!("cannot open the lock {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file).map(|pid| format!(" (process {pid})")).unwrap_or_default();
                anyhow::bail!(
                    "another apiq{holder} uses the data folder {}; stop it first, or set APIQ_DATA_DIR to another folder",
                    data_dir.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        let mut note = || -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        note().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(DataDirLock { _file: file })
    }

    /// Whether some process holds the lock of a data folder.
    pub fn is_held(data_dir: &Path) -> bool {
        let Ok(file) = File::open(data_dir.join(NAME)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

/// The process id that the holder wrote into the file.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!DataDirLock::is_held(folder.path()));
        let first = DataDirLock::take(folder.path()).unwrap();
        assert!(DataDirLock::is_held(folder.path()));
        let refusal = DataDirLock::take(folder.path()).unwrap_err().to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(first);
        assert!(!DataDirLock::is_held(folder.path()));
        DataDirLock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_dead_holders_file_means_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), "1").unwrap();
        DataDirLock::take(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join(NAME)).unwrap(), std::process::id().to_string());
    }
}
