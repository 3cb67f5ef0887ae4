//! Files of the data folder: secrets with mode 0600, written as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A log is set aside once it has this many bytes; one older log is kept.
const LOG_LIMIT: u64 = 10 * 1024 * 1024;

/// Make the data folder if need be and return its absolute path. Others may pass through (a service user must reach
/// its part below) but not list it.
pub fn make_data_dir(path: &Path) -> anyhow::Result<PathBuf> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(path);
    made.with_context(|| format!("cannot make the data folder {}; set APIQ_DATA_DIR to another", path.display()))?;
    fs::canonicalize(path).with_context(|| format!("cannot use the data folder {}", path.display()))
}

/// The content of a text file, `None` when there is no such file.
pub fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Write a file that only its owner may read. A crash leaves the old content or the new, never a mixture.
pub fn write_private(path: &Path, content: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let draft = path.with_extension("draft");
        // A draft left by a crash may have another owner or mode: never write into it.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Open `logs/<name>.log` for appending, setting a long one aside first.
pub fn open_log(data_dir: &Path, name: &str) -> anyhow::Result<(PathBuf, File)> {
    let folder = data_dir.join("logs");
    let path = folder.join(format!("{name}.log"));
    let open = || -> std::io::Result<File> {
        fs::create_dir_all(&folder)?;
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
            fs::rename(&path, folder.join(format!("{name}.old.log")))?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(&path)
    };
    let file = open().with_context(|| format!("cannot open the log {}", path.display()))?;
    Ok((path, file))
}

/// The last lines of a log from byte `start` on (what one start wrote), for an error message.
pub fn tail(path: &Path, start: u64) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[start..]);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(6)..].join("\n  ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn private_files_are_replaced_and_stay_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(path.with_extension("draft"), "half of an earlier one").unwrap();
        for content in ["one", "two"] {
            write_private(&path, content).unwrap();
            assert_eq!(read_if_there(&path).unwrap().as_deref(), Some(content));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(read_if_there(&folder.path().join("none")).unwrap(), None);
    }

    #[test]
    fn a_long_log_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (path, file) = open_log(folder.path(), "x").unwrap();
        file.set_len(LOG_LIMIT + 1).unwrap();
        let (_, file) = open_log(folder.path(), "x").unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert!(path.with_extension("old.log").exists());
    }

    #[test]
    fn tail_keeps_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, (0..20).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
        let end = tail(&path, 0);
        assert!(end.starts_with("line 14\n") && end.ends_with("line 19"), "{end}");
        assert_eq!(tail(&path, fs::metadata(&path).unwrap().len() - 8), "line 19");
        assert_eq!(tail(&folder.path().join("none"), 5), "");
    }
}
