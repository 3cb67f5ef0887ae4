//! A private, migrated Postgres for a test of a member crate. Uses the machine's own programs; stopped with the test.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};

use sqlx::{Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};

struct Server {
    _folder: tempfile::TempDir,
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGINT is Postgres' fast shutdown.
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// A fresh, migrated database; dropped with its server.
pub struct Database {
    pub url: String,
    _server: Server,
}

impl Database {
    pub async fn start() -> Database {
        let server = start();
        let mut owner = PgConnection::connect(&server.url).await.expect("a connection");
        sqlx::migrate!("../migrations").run(&mut owner).await.expect("migrations run");
        Database { url: server.url.clone(), _server: server }
    }

    /// A pool whose connections have taken a role of the service (`apiq_writer`).
    pub async fn pool(&self, role: &'static str) -> PgPool {
        PgPoolOptions::new()
            .max_connections(10)
            .after_connect(move |connection, _| {
                Box::pin(async move { connection.execute(&*format!("set role {role}")).await.map(|_| ()) })
            })
            .connect(&self.url)
            .await
            .expect("a pool")
    }

    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("a connection")
    }
}

fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|v| v.path().join("bin").join(name)).find(|p| p.exists()).unwrap_or_else(|| name.into())
}

/// As root, Postgres wants another user.
fn command(name: &str) -> Command {
    static ROOT: OnceLock<bool> = OnceLock::new();
    let root = *ROOT.get_or_init(|| {
        Command::new("id").arg("-u").output().is_ok_and(|o| String::from_utf8_lossy(&o.stdout).trim() == "0")
    });
    if !root {
        return Command::new(program(name));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program(name));
    command
}

fn start() -> Server {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let _ = Command::new("chown").args(["postgres", &folder.path().display().to_string()]).status();
    let made = command("initdb")
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"])
        .arg(&data)
        .stdout(Stdio::null())
        .status()
        .expect("initdb starts");
    assert!(made.success(), "initdb failed");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let child = run(&data, port);
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    wait(port);
    Server { _folder: folder, child, url }
}

fn run(data: &Path, port: u16) -> Child {
    command("postgres")
        .arg("-D")
        .arg(data)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""])
        .args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=60"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("postgres starts")
}

fn wait(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let ready = Command::new(program("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
            .status()
            .is_ok_and(|s| s.success());
        if ready {
            return;
        }
        assert!(Instant::now() < deadline, "postgres does not become ready");
        std::hint::spin_loop();
    }
}
