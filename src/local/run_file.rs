//! `run.json`: where the process that holds a data folder can be reached, for other commands on the same folder.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::files;
use super::lock::DataDirLock;

const NAME: &str = "run.json";

/// A process that uses a data folder at this moment.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Its process id.
    pub pid: u32,
    /// Base URL of its HTTP API; `None` while it starts, or when it serves none.
    pub server_url: Option<String>,
    /// Its private database.
    #[serde(serialize_with = "expose")]
    pub database_url: Option<SecretString>,
    /// Its private nats-server.
    #[serde(serialize_with = "expose")]
    pub nats_url: Option<SecretString>,
}

/// The file is private (mode 0600), so the secrets may be in it.
fn expose<S: serde::Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|secret| secret.expose_secret()).serialize(serializer)
}

/// The process that holds `data_dir`, if one does and has said where it is. A file left by a dead one is ignored.
pub fn find_running(data_dir: &Path) -> Option<Running> {
    if !DataDirLock::is_held(data_dir) {
        return None;
    }
    let text = files::read_if_there(&data_dir.join(NAME)).ok()??;
    serde_json::from_str(&text).ok()
}

/// The file of the lock's holder; goes when it goes.
#[derive(Debug)]
pub struct RunFile {
    path: PathBuf,
}

impl RunFile {
    /// For the holder of the lock only. Removes what a killed run left.
    pub fn fresh(data_dir: &Path) -> RunFile {
        let file = RunFile { path: data_dir.join(NAME) };
        file.remove();
        file
    }

    /// Replace the content.
    pub fn write(&self, running: &Running) -> anyhow::Result<()> {
        files::write_private(&self.path, &serde_json::to_string_pretty(running)?)
    }

    /// Readers check the lock first, so a file that cannot be removed misleads nobody.
    fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_living_holder_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let running = Running {
            pid: 7,
            server_url: Some("http://127.0.0.1:8080".into()),
            database_url: Some("postgres://u:p@h/d".to_owned().into()),
            nats_url: None,
        };
        let file = RunFile { path: folder.path().join(NAME) };
        file.write(&running).unwrap();
        assert!(find_running(folder.path()).is_none(), "nobody holds the lock");

        let lock = DataDirLock::take(folder.path()).unwrap();
        let found = find_running(folder.path()).unwrap();
        assert_eq!((found.pid, found.server_url), (7, running.server_url));
        assert_eq!(found.database_url.unwrap().expose_secret(), "postgres://u:p@h/d");
        drop(file);
        assert!(find_running(folder.path()).is_none(), "the file went");
        drop(lock);
    }
}
