//! A private Postgres for tests: a server in a temporary directory, reached by its Unix socket, one database a test.
//!
//! `APIQ_TEST_DATABASE_URL` names a server to use instead (a login that may create databases and roles). The server
//! starts with the first test of a process and stops with its last one.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::sync::Mutex;

static SERVER: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Server {
    /// `None`: somebody else's server.
    child: Option<Child>,
    bin: PathBuf,
    dir: tempfile::TempDir,
    template: String,
}

/// A database of its own, migrated, empty.
pub struct Database {
    pub url: String,
    server: Arc<Server>,
}

impl Database {
    pub async fn fresh() -> Database {
        let server = Server::shared().await;
        let name = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
        admin.execute(format!("create database {name} template {}", server.template).as_str()).await.unwrap();
        Database { url: server.url(&name), server }
    }

    /// A pool whose connections have taken a role of the service (`apiq_writer`).
    pub async fn pool(&self, role: &'static str) -> PgPool {
        let take = PgPoolOptions::new().max_connections(10).after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(format!("set role {role}").as_str()).await.map(|_| ()) })
        });
        take.connect(&self.url).await.unwrap()
    }

    /// Another database of the same server.
    pub fn elsewhere(&self) -> String {
        self.server.url("postgres")
    }

    pub async fn connect(&self) -> PgConnection {
        assert!(!self.server.template.is_empty());
        PgConnection::connect(&self.url).await.unwrap()
    }
}

impl Server {
    async fn shared() -> Arc<Server> {
        let mut known = SERVER.lock().await;
        if let Some(server) = known.upgrade() {
            return server;
        }
        let server = Arc::new(Server::start().await);
        *known = Arc::downgrade(&server);
        server
    }

    async fn start() -> Server {
        let dir = tempfile::Builder::new().prefix("apiq-pg").tempdir().unwrap();
        let template = format!("template_{}", std::process::id());
        let mut server = Server { child: None, bin: PathBuf::new(), dir, template };
        if std::env::var("APIQ_TEST_DATABASE_URL").is_err() {
            server.bin = binaries();
            server.launch();
        }
        let mut admin = server.first_connection().await;
        admin.execute(format!("create database {}", server.template).as_str()).await.unwrap();
        let mut owner = PgConnection::connect(&server.url(&server.template)).await.unwrap();
        sqlx::migrate!("../migrations").run(&mut owner).await.unwrap();
        owner.close().await.unwrap();
        server
    }

    fn launch(&mut self) {
        let dir = self.dir.path();
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(dir, Some(uid), Some(gid)).unwrap();
        }
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        let data = dir.join("data");
        let mut initdb = command(&self.bin.join("initdb"), user);
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]);
        let made = initdb.stdout(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut postgres = command(&self.bin.join("postgres"), user);
        postgres.arg("-D").arg(&data).arg("-k").arg(dir);
        for setting in ["listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=100"] {
            postgres.arg("-c").arg(setting);
        }
        let child = postgres.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
    }

    fn url(&self, database: &str) -> String {
        match std::env::var("APIQ_TEST_DATABASE_URL") {
            Ok(url) => {
                let (server, parameters) = url.split_once('?').map_or((url.as_str(), None), |(u, p)| (u, Some(p)));
                let end = server.rfind('/').filter(|i| *i > "postgresql://".len()).unwrap_or(server.len());
                let parameters = parameters.map(|p| format!("?{p}")).unwrap_or_default();
                format!("{}/{database}{parameters}", &server[..end])
            }
            Err(_) => format!("postgres://postgres@localhost/{database}?host={}", self.dir.path().display()),
        }
    }

    /// The server answers some tenths of a second after it was started.
    async fn first_connection(&self) -> PgConnection {
        let begun = Instant::now();
        loop {
            match PgConnection::connect(&self.url("postgres")).await {
                Ok(connection) => return connection,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "no Postgres: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // A client that is just connecting keeps the server for a minute, and waits for this thread: then it is killed.
        let mut stop = command(&self.bin.join("pg_ctl"), unprivileged());
        stop.arg("-D").arg(self.dir.path().join("data")).args(["-m", "immediate", "-w", "-t", "3", "stop"]);
        let asked = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !asked.is_ok_and(|s| s.success()) {
            child.kill().ok();
        }
        child.wait().ok();
    }
}

pub(crate) fn command(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// Postgres refuses to run as root: then it runs as the user that its package made.
pub(crate) fn unprivileged() -> Option<(u32, u32)> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let fields: Vec<&str> = users.lines().find(|l| l.starts_with("postgres:")).unwrap().split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

/// Where `initdb` is: beside `pg_config`, or where Debian keeps it; the newest there.
pub(crate) fn binaries() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|v| v.path().join("bin")).collect())
        .unwrap_or_default();
    found.retain(|bin| bin.join("initdb").exists());
    found.sort_by_key(|bin| {
        bin.to_string_lossy().chars().filter(char::is_ascii_digit).collect::<String>().parse::<u32>().ok()
    });
    if let Some(newest) = found.pop() {
        return newest;
    }
    let asked = Command::new("pg_config").arg("--bindir").output().expect("Postgres is not installed");
    PathBuf::from(String::from_utf8(asked.stdout).unwrap().trim())
}
