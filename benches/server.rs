//! A whole server for a benchmark: `apiq dev` in a folder of its own, stopped at the end.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde::Deserialize;

pub struct Server {
    child: Child,
    data_dir: tempfile::TempDir,
    pub database_url: String,
    pub nats_url: String,
}

/// What a running server leaves in its data folder.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    database_url: String,
    nats_url: String,
}

/// Also what the engines were told: where Postgres' data is, when it is elsewhere.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Engines {
    postgres_home: Option<PathBuf>,
}

impl Server {
    /// With all roles: what an installation does with an event is done beside the benchmark.
    pub fn with_all_roles() -> Result<Self, String> {
        Self::start(&[])
    }

    /// Nobody reads the log but the benchmark.
    pub fn log_alone() -> Result<Self, String> {
        Self::start(&["--roles", "api"])
    }

    /// Starts and waits until it serves.
    fn start(arguments: &[&str]) -> Result<Self, String> {
        let data_dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        // The engines may run as another user, who must be able to pass.
        let _ = Command::new("chmod").arg("755").arg(data_dir.path()).status();
        let mut command = Command::new(env!("CARGO_BIN_EXE_apiq"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("APIQ_") {
                command.env_remove(name);
            }
        }
        command.args(["dev", "--port", "0", "--log", "warn", "--data-dir"]).arg(data_dir.path()).args(arguments);
        let child = command.stdout(Stdio::piped()).spawn().map_err(|e| format!("apiq does not start: {e}"))?;
        let mut server = Self { child, data_dir, database_url: String::new(), nats_url: String::new() };
        let out = server.child.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(out).lines();
        if !lines.by_ref().map_while(Result::ok).any(|line| line.contains("Ctrl-C")) {
            return Err("apiq dev ended before it served".into());
        }
        let running: Running = read(&server.data_dir.path().join("run.json"))?;
        (server.database_url, server.nats_url) = (running.database_url, running.nats_url);
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn nats_pid(&self) -> Result<u32, String> {
        pid_in(&self.data_dir.path().join("nats/nats.pid"))
    }

    /// The postmaster: parent of all of Postgres' processes.
    pub fn postgres_pid(&self) -> Result<u32, String> {
        let engines: Engines = read(&self.data_dir.path().join("engines.json"))?;
        let home = engines.postgres_home.unwrap_or_else(|| self.data_dir.path().join("postgres"));
        pid_in(&home.join("data/postmaster.pid"))
    }

    /// A tool of the binary on the same data folder, not started yet.
    pub fn tool(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_apiq"));
        command.args(arguments).arg("--data-dir").arg(self.data_dir.path());
        command
    }
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))
}

/// The first line of a pid file.
fn pid_in(file: &Path) -> Result<u32, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    text.lines().next().and_then(|line| line.trim().parse().ok()).ok_or(format!("{} names no process", file.display()))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
        let engines: Option<Engines> = read(&self.data_dir.path().join("engines.json")).ok();
        // Elsewhere than in the temporary folder, so that nobody else removes it.
        if let Some(home) = engines.and_then(|engines| engines.postgres_home) {
            let _ = std::fs::remove_dir_all(home);
        }
    }
}
