//! A private nats-server with JetStream: loopback, a password, its store in the data folder. What it holds can be lost
//! without harm (the log in Postgres is the truth), so nothing here tries to save it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use secrecy::SecretString;

use super::process::{self, Engine, Signal};
use super::state::{State, free_port};
use super::{Progress, files, find};
use crate::settings;

const USER: &str = "apiq";
/// Reading a large store back takes a while.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// One attempt to connect while it starts.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Another program may take a port between our looking and the server's listening.
const PORT_ATTEMPTS: u32 = 3;
const STOP: [(Signal, Duration); 2] = [(Signal::Int, Duration::from_secs(10)), (Signal::Kill, Duration::from_secs(5))];

/// The server's configuration. The password is in this file and not in the arguments, which every user may read.
fn config(folder: &Path, port: u16, password: &str) -> String {
    let quote = |path: PathBuf| path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "# Written by apiq at every start; changes are lost.\n\
         listen: \"127.0.0.1:{port}\"\n\
         server_name: \"apiq-local\"\n\
         pid_file: \"{}\"\n\
         jetstream {{\n  store_dir: \"{}\"\n  max_memory_store: 256MB\n  max_file_store: 16GB\n}}\n\
         authorization {{\n  user: \"{USER}\"\n  password: \"{password}\"\n}}\n",
        quote(folder.join("nats.pid")),
        quote(folder.join("store")),
    )
}

/// A running private nats-server; stopped when dropped.
pub struct Nats {
    engine: Engine,
    port: u16,
    password: String,
}

impl Nats {
    /// Adopt a running server of this data folder or start one, and wait until JetStream answers.
    pub async fn start(data_dir: &Path, state: &mut State, progress: Progress<'_>) -> anyhow::Result<Nats> {
        let folder = data_dir.join("nats");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        if let Some(adopted) = adopt_or_clear(&folder, state, progress).await? {
            return Ok(adopted);
        }
        let program = find::nats_server()?;
        let mut attempt = 1;
        loop {
            match launch(data_dir, &folder, &program, state).await {
                Ok(nats) => {
                    progress(&format!("NATS answers on port {}", nats.port));
                    return Ok(nats);
                }
                Err(error) if attempt < PORT_ATTEMPTS && error.to_string().contains("address already in use") => {
                    state.nats_port = None;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Its URL with user and password.
    pub fn url(&self) -> SecretString {
        url(self.port, &self.password)
    }

    /// Its process, for tests.
    #[cfg(test)]
    pub fn pid(&self) -> u32 {
        self.engine.pid()
    }

    /// Orderly, by force only when that does not work.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.engine.stop(&STOP).await.context("nats-server could not be stopped")
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.engine.stop_blocking(&STOP);
    }
}

fn url(port: u16, password: &str) -> SecretString {
    SecretString::from(format!("nats://{USER}:{password}@127.0.0.1:{port}"))
}

fn config_file(folder: &Path) -> PathBuf {
    folder.join("server.conf")
}

/// Use the server of a killed run when it is healthy and configured as we would do it; else stop it.
async fn adopt_or_clear(folder: &Path, state: &State, progress: Progress<'_>) -> anyhow::Result<Option<Nats>> {
    let Some(pid) = process::recorded_pid(&folder.join("nats.pid")) else { return Ok(None) };
    if !process::is_alive(pid) || !process::is_ours(pid, "nats-server", &config_file(folder)) {
        return Ok(None);
    }
    let mut left = Engine::Adopted(pid);
    let password = state.nats_password.clone();
    let written = std::fs::read_to_string(config_file(folder)).unwrap_or_default();
    if let Some(port) = state.nats_port.filter(|port| written == config(folder, *port, &password))
        && wait_until_ready(&mut left, port, &password).await.is_ok()
    {
        progress(&format!("took over the NATS of a killed run, on port {port}"));
        return Ok(Some(Nats { engine: left, port, password }));
    }
    progress("stopping the NATS of a killed run");
    left.stop(&STOP).await.context("the nats-server of a killed run could not be stopped")?;
    Ok(None)
}

async fn launch(data_dir: &Path, folder: &Path, program: &Path, state: &mut State) -> anyhow::Result<Nats> {
    let port = free_port(state.nats_port)?;
    if state.nats_port != Some(port) {
        state.nats_port = Some(port);
        state.save(data_dir)?;
    }
    let password = state.nats_password.clone();
    files::write_private(&config_file(folder), &config(folder, port, &password))?;
    let (log_path, log) = files::open_log(data_dir, "nats")?;
    let log_start = log.metadata().map(|meta| meta.len()).unwrap_or(0);
    let mut command = Command::new(program);
    command.env_clear().current_dir(folder).arg("-c").arg(config_file(folder)).process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone().context("cannot share the log")?).stderr(log);
    let engine = Engine::Child(command.spawn().context("cannot start nats-server")?);
    let mut nats = Nats { engine, port, password };
    let ready = wait_until_ready(&mut nats.engine, port, &nats.password).await;
    ready.with_context(|| {
        let end = files::tail(&log_path, log_start);
        format!("nats-server does not start; the end of {}:\n  {end}", log_path.display())
    })?;
    Ok(nats)
}

/// Connect until it works and JetStream answers.
async fn wait_until_ready(engine: &mut Engine, port: u16, password: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let attempt = tokio::time::timeout(CONNECT_PATIENCE, probe(url(port, password))).await;
        let error = match attempt {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".into(),
        };
        anyhow::ensure!(!engine.has_ended(), "it ended");
        let refused = error.contains("authorization violation");
        anyhow::ensure!(!refused && began.elapsed() < START_PATIENCE, "it does not let us in: {error}");
        tokio::time::sleep(process::POLL).await;
    }
}

async fn probe(url: SecretString) -> anyhow::Result<()> {
    let client = settings::nats::connect(&url).await?;
    // Asked in plain: the client's type for this answer wants fields that nats-server 2.9 does not send.
    let answer = client.request("$JS.API.INFO", "".into()).await.context("JetStream does not answer")?;
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).context("JetStream's answer is no JSON")?;
    anyhow::ensure!(answer.get("error").is_none(), "JetStream is not ready: {answer}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_takes_any_folder_name() {
        let text = config(Path::new("/a \"b\"\\c"), 4333, "secret");
        assert!(text.contains(r#"store_dir: "/a \"b\"\\c/store""#), "{text}");
        assert!(text.contains("listen: \"127.0.0.1:4333\"") && text.contains("password: \"secret\""));
    }
}
