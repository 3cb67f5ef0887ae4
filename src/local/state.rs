//! What must be the same at the next start: ports (reused while free), passwords, and where Postgres keeps its data.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::files;

const NAME: &str = "engines.json";

/// Kept in the data folder, mode 0600.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// Folder that holds Postgres' data; elsewhere than the data folder when a service user cannot reach that.
    pub postgres_home: Option<PathBuf>,
    /// TCP port on loopback.
    pub postgres_port: Option<u16>,
    /// Of the database's owner.
    pub postgres_password: String,
    /// TCP port on loopback.
    pub nats_port: Option<u16>,
    /// Of the one NATS user.
    pub nats_password: String,
}

impl State {
    /// What an earlier start kept, or new passwords.
    pub fn load(data_dir: &Path) -> anyhow::Result<State> {
        let path = data_dir.join(NAME);
        match files::read_if_there(&path)? {
            Some(text) => serde_json::from_str(&text).with_context(|| {
                format!("{} is damaged: restore it, or remove the data folder and its data", path.display())
            }),
            None => {
                let state = State { postgres_password: password(), nats_password: password(), ..State::default() };
                state.save(data_dir)?;
                Ok(state)
            }
        }
    }

    /// Keep it for the next start.
    pub fn save(&self, data_dir: &Path) -> anyhow::Result<()> {
        files::write_private(&data_dir.join(NAME), &serde_json::to_string_pretty(self)?)
    }
}

/// 192 random bits in hex, so that it needs no escape in a URL or a configuration file.
fn password() -> String {
    hex::encode(rand::random::<[u8; 24]>())
}

/// The wished port when it is free on loopback, else any free one.
pub fn free_port(wished: Option<u16>) -> anyhow::Result<u16> {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
    let kept = wished.and_then(|port| free(port).ok());
    let address = match kept {
        Some(address) => address,
        None => free(0).context("no free port on 127.0.0.1")?,
    };
    Ok(address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_start_finds_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::load(folder.path()).unwrap();
        assert_eq!(state.postgres_password.len(), 48);
        assert_ne!(state.postgres_password, state.nats_password);
        state.postgres_port = Some(5);
        state.save(folder.path()).unwrap();
        assert_eq!(State::load(folder.path()).unwrap(), state);
    }

    #[test]
    fn a_damaged_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), "{").unwrap();
        assert!(State::load(folder.path()).unwrap_err().to_string().contains("damaged"));
        assert_eq!(std::fs::read_to_string(folder.path().join(NAME)).unwrap(), "{");
    }

    #[test]
    fn a_taken_port_is_replaced() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free_port(Some(port)).unwrap(), port);
        drop(taken);
        assert_eq!(free_port(Some(port)).unwrap(), port);
    }
}
