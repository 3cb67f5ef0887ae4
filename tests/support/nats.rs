//! A private nats-server for tests: JetStream in a temporary directory, which can be stopped, wiped, copied and put back.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

pub struct Nats {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Nats {
    pub async fn start() -> Nats {
        let dir = tempfile::Builder::new().prefix("apiq-nats").tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut nats = Nats { dir, port, child: None };
        nats.launch().await;
        nats
    }

    /// Again, on the same port and the same store.
    pub async fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let mut command = Command::new(program());
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"]).arg(self.store());
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let begun = Instant::now();
        loop {
            if let Ok(client) = async_nats::connect(self.url()).await
                && client.request("$JS.API.INFO", "".into()).await.is_ok()
            {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "nats-server does not start");
            tokio::time::sleep(POLL).await;
        }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// A client that keeps trying, as the service's does.
    pub async fn client(&self) -> async_nats::Client {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        options.connect(self.url()).await.unwrap()
    }

    /// An orderly stop.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "nats-server does not stop");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Everything it kept is gone. Only while it is stopped.
    pub fn wipe(&self) {
        assert!(self.child.is_none());
        std::fs::remove_dir_all(self.store()).unwrap();
    }

    /// A copy of what it keeps. Only while it is stopped.
    pub fn copy(&self) {
        assert!(self.child.is_none());
        copy(&self.store(), &self.dir.path().join("copy"));
    }

    /// The copy takes the place of what it keeps. Only while it is stopped.
    pub fn put_back(&self) {
        self.wipe();
        copy(&self.dir.path().join("copy"), &self.store());
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

fn program() -> &'static str {
    let known = ["/usr/sbin/nats-server", "/opt/homebrew/bin/nats-server", "/usr/local/bin/nats-server"];
    known.into_iter().find(|path| std::fs::exists(path).unwrap_or(false)).unwrap_or("nats-server")
}
