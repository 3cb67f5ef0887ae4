//! A whole server for a benchmark: `apiq dev` in a folder of its own, stopped at the end.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

pub struct Server {
    child: Child,
    _data_dir: tempfile::TempDir,
    pub database_url: String,
}

impl Server {
    /// Starts all roles and waits until they serve.
    pub fn start() -> Result<Self, String> {
        let data_dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        // The engines may run as another user, who must be able to pass.
        let _ = Command::new("chmod").arg("755").arg(data_dir.path()).status();
        let mut child = Command::new(env!("CARGO_BIN_EXE_apiq"))
            .args(["dev", "--port", "0", "--log", "warn", "--data-dir"])
            .arg(data_dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("apiq does not start: {e}"))?;
        let out = child.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(out).lines();
        let serving = lines.by_ref().map_while(Result::ok).any(|line| line.contains("Ctrl-C"));
        if !serving {
            return Err("apiq dev ended before it served".into());
        }
        let database_url = database_url(data_dir.path().into())?;
        Ok(Self { child, _data_dir: data_dir, database_url })
    }
}

/// The running server leaves it in the data folder.
fn database_url(data_dir: PathBuf) -> Result<String, String> {
    for entry in std::fs::read_dir(data_dir).map_err(|e| e.to_string())?.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text)
            && let Some(url) = value.get("databaseUrl").or(value.get("database_url")).and_then(|u| u.as_str())
        {
            return Ok(url.to_owned());
        }
    }
    Err("the data folder names no database".into())
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}
