//! A real authorization server: `oidc-provider`, installed once by npm.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::http;
use super::keeper::{Keeper, free_port};
use super::until;

const SCRIPT: &str = include_str!("../oidc-provider.mjs");

pub struct Oidc {
    _keeper: Keeper,
    _folder: tempfile::TempDir,
    pub url: String,
}

/// The folder with its modules; `None` (and said so) where npm does not work.
fn installed() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oidc-provider");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    if !folder.join("node_modules/oidc-provider/package.json").exists() {
        let arguments = ["install", "--no-audit", "--no-fund", "--no-save", "--prefix"];
        match Command::new("npm").args(arguments).arg(&folder).arg("oidc-provider@9").output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                eprintln!("skipped: npm installs no oidc-provider: {}", String::from_utf8_lossy(&output.stderr));
                return None;
            }
            Err(error) => {
                eprintln!("skipped: there is no npm: {error}");
                return None;
            }
        }
    }
    // Beside its modules, where node looks for them.
    fs::write(folder.join("provider.mjs"), SCRIPT).unwrap();
    Some(folder)
}

impl Oidc {
    /// With one client for these redirect URIs; access tokens live for `ttl` seconds. `at`: the port.
    pub async fn start(at: u16, redirect_uris: &[String], ttl: u64) -> Option<Oidc> {
        let folder = tokio::task::spawn_blocking(installed).await.unwrap()?;
        let clients = json!([{
            "client_id": "apiq", "client_secret": "canary-client-secret-1", "redirect_uris": redirect_uris,
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "scope": "openid offline_access read write",
        }]);
        let logs = tempfile::tempdir().unwrap();
        let mut command = Command::new("node");
        command.arg(folder.join("provider.mjs"));
        command.env("PORT", at.to_string()).env("CLIENTS", clients.to_string()).env("TTL", ttl.to_string());
        let keeper = Keeper::spawn(&command, &logs.path().join("log"));
        let oidc = Oidc { _keeper: keeper, _folder: logs, url: format!("http://127.0.0.1:{at}") };
        let probe = format!("{}/stats", oidc.url);
        let log = oidc._folder.path().join("log");
        until("oidc-provider answers", Duration::from_secs(60), async || {
            let answer = http().get(&probe).send().await.ok().map(drop);
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(!said.contains("Error"), "{said}");
            answer
        })
        .await;
        Some(oidc)
    }

    pub fn port() -> u16 {
        free_port()
    }

    /// What was asked of it so far.
    pub async fn stats(&self) -> Value {
        http().get(format!("{}/stats", self.url)).send().await.unwrap().json().await.unwrap()
    }

    /// The person takes everything back at the provider.
    pub async fn end_grants(&self) {
        http().get(format!("{}/end", self.url)).send().await.unwrap();
    }
}
