//! Private engines of the dev profile: a Postgres and a nats-server of our own under the data folder.
//!
//! What holds here:
//! - One process per data folder: an advisory lock that the system frees when its holder dies, however it dies.
//! - Children get a process group of their own, so a terminal's Ctrl-C reaches only us and we stop them in order.
//! - Children outlive a `kill -9` of ours. The next start adopts them when they are healthy and configured as it would
//!   configure them itself, and stops them otherwise; it never signals a process that it cannot recognise.
//! - Everything listens on loopback with a random password that is kept in the data folder, mode 0600.
//! - Postgres refuses to run as root, so as root it runs as a service user, and its data moves to where that user can
//!   reach it when the data folder is out of its reach.

pub mod files;
mod find;
mod lock;
mod nats;
mod postgres;
mod process;
mod run_file;
mod state;
#[cfg(test)]
mod tests;
mod user;

use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

pub use run_file::{Running, find_running};

use lock::DataDirLock;
use nats::Nats;
use postgres::Postgres;
use run_file::RunFile;
use state::State;

/// Told what is going on, one short sentence at a time.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Made when it is missing.
    pub data_dir: PathBuf,
    /// `false` when a database is given by `APIQ_DATABASE_URL`.
    pub postgres: bool,
    /// `false` when a server is given by `APIQ_NATS_URL`, or the command needs none.
    pub nats: bool,
}

/// Running private engines. Dropping it stops them too, but blocks while it does: call [`LocalStack::stop`].
///
/// Fields are dropped in this order: the lock goes last, when nothing of ours runs any more.
pub struct LocalStack {
    run_file: RunFile,
    nats: Option<Nats>,
    postgres: Option<Postgres>,
    master_key: SecretString,
    data_dir: PathBuf,
    _lock: DataDirLock,
}

/// Start what `options` asks for and wait until it answers.
///
/// # Errors
/// The data folder is in use (says by which process), a program is missing (says how to install it), or an engine
/// does not start (says why, with the last lines of its log). What was started by then is stopped again.
pub async fn start(options: &Options, progress: Progress<'_>) -> anyhow::Result<LocalStack> {
    let data_dir = files::make_data_dir(&options.data_dir)?;
    let lock = DataDirLock::take(&data_dir)?;
    let run_file = RunFile::fresh(&data_dir);
    let mut state = State::load(&data_dir)?;
    let master_key = master_key(&data_dir)?;
    let postgres = match options.postgres {
        true => Some(Postgres::start(&data_dir, &mut state, progress).await?),
        false => None,
    };
    let nats = match options.nats {
        true => Some(Nats::start(&data_dir, &mut state, progress).await?),
        false => None,
    };
    let stack = LocalStack { run_file, nats, postgres, master_key, data_dir, _lock: lock };
    stack.announce(None)?;
    Ok(stack)
}

impl LocalStack {
    /// URL of the private database, as its owner; `None` when it was not asked for.
    pub fn database_url(&self) -> Option<SecretString> {
        self.postgres.as_ref().map(Postgres::url)
    }

    /// URL of the private nats-server; connect with `settings::nats::connect`. `None` when it was not asked for.
    pub fn nats_url(&self) -> Option<SecretString> {
        self.nats.as_ref().map(Nats::url)
    }

    /// The data folder's master key, base64 of 32 bytes; made at the first start.
    pub fn master_key(&self) -> &SecretString {
        &self.master_key
    }

    /// Absolute path of the data folder.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Tell other commands on the same data folder (see [`find_running`]) where the server listens.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn announce(&self, server_url: Option<&str>) -> anyhow::Result<()> {
        self.run_file.write(&Running {
            pid: std::process::id(),
            server_url: server_url.map(str::to_owned),
            database_url: self.database_url(),
            nats_url: self.nats_url(),
        })
    }

    /// Stop both engines in order, NATS first, and free the data folder.
    ///
    /// # Errors
    /// An engine could not be stopped even by force; names its process.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let nats = match self.nats.take() {
            Some(nats) => nats.stop().await,
            None => Ok(()),
        };
        // Postgres is stopped even when NATS could not be.
        let postgres = match self.postgres.take() {
            Some(postgres) => postgres.stop().await,
            None => Ok(()),
        };
        nats.and(postgres)
    }
}

/// Wait until someone wants this process to end: Ctrl-C, `kill`, or the terminal closes.
///
/// # Errors
/// The handlers cannot be installed.
pub async fn shutdown_requested() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

/// Read the data folder's master key, or make it once.
pub fn master_key(data_dir: &Path) -> anyhow::Result<SecretString> {
    let path = data_dir.join("master.key");
    if let Some(text) = files::read_if_there(&path)? {
        let key = text.trim();
        let sound = STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 32);
        anyhow::ensure!(
            sound,
            "{} is damaged: it must hold base64 of 32 bytes; restore it, or remove the data folder and its data",
            path.display()
        );
        return Ok(SecretString::from(key));
    }
    let key = STANDARD.encode(rand::random::<[u8; 32]>());
    files::write_private(&path, &key)?;
    Ok(SecretString::from(key))
}
