//! Whole Postgres clusters for tests of operations: restart, kill, dump, restore, standby, promotion, `pg_upgrade`.
//!
//! Each cluster is private, beside the one that the other tests share (`postgres.rs`).

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};

use super::postgres::{binaries, command, unprivileged};

const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    /// Holds the data and the socket.
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Cluster {
    /// A new, running cluster.
    pub async fn start() -> Cluster {
        let mut cluster = Cluster::empty();
        cluster.initialize().await;
        cluster.run().await;
        cluster
    }

    fn empty() -> Cluster {
        let dir = private_dir();
        Cluster { dir, child: None }
    }

    async fn initialize(&self) {
        let mut initdb = self.program("initdb");
        initdb.arg("-D").arg(self.data()).args(["-U", "postgres", "--auth=trust", "--no-sync"]);
        done(initdb.args(["-E", "UTF8", "--locale=C"])).await;
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The folder of its socket.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn url(&self, database: &str) -> String {
        url_at(self.dir(), database)
    }

    /// Starts the server, again or for the first time, and waits until it answers.
    pub async fn run(&mut self) {
        let begun = Instant::now();
        loop {
            // What a killed server left may still be in use by its last processes: then the next try starts.
            if self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                self.child = Some(self.launch());
            }
            match PgConnection::connect(&self.url("postgres")).await {
                Ok(_) => return,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "no Postgres: {error}\n{}", self.log()),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn launch(&self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.dir().join("log")).unwrap();
        let mut postgres = self.program("postgres");
        postgres.arg("-D").arg(self.data()).arg("-k").arg(self.dir());
        for setting in ["listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=100"] {
            postgres.arg("-c").arg(setting);
        }
        postgres.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// As a power cut would: `kill -9` of the server; its other processes end when they notice.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// An orderly stop that waits for nobody.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let mut stop = self.program("pg_ctl");
        done(stop.arg("-D").arg(self.data()).args(["-m", "fast", "-w", "stop"])).await;
        child.wait().unwrap();
    }

    /// A running streaming standby of this cluster.
    pub async fn standby(&self) -> Cluster {
        let mut standby = Cluster::empty();
        let mut copy = self.program("pg_basebackup");
        copy.arg("-h").arg(self.dir()).args(["-U", "postgres", "-R", "-X", "stream", "--checkpoint=fast", "--no-sync"]);
        done(copy.arg("-D").arg(standby.data())).await;
        standby.run().await;
        standby
    }

    /// Makes a standby the primary; waits until it takes writes.
    pub async fn promote(&self) {
        let mut promote = self.program("pg_ctl");
        done(promote.arg("-D").arg(self.data()).args(["-w", "promote"])).await;
    }

    /// What `pg_dump` writes of a database, as a file of SQL.
    pub async fn dump(&self, database: &str) -> PathBuf {
        let file = self.dir().join("dump.sql");
        let mut dump = self.program("pg_dump");
        done(dump.arg("-h").arg(self.dir()).args(["-U", "postgres", "-d", database, "-f"]).arg(&file)).await;
        file
    }

    /// Runs a file of SQL, up to the first error.
    pub async fn restore(&self, database: &str, file: &Path) {
        let mut psql = self.program("psql");
        psql.arg("-h").arg(self.dir()).args(["-U", "postgres", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f"]);
        done(psql.arg(file)).await;
    }

    /// A new cluster that `pg_upgrade` has moved this one's data to; it runs. The reason, if `pg_upgrade` cannot.
    pub async fn upgraded(mut self) -> Result<Cluster, String> {
        self.stop().await;
        let mut new = Cluster::empty();
        new.initialize().await;
        let mut upgrade = new.program("pg_upgrade");
        let bin = binaries();
        upgrade.current_dir(new.dir()).args(["-U", "postgres"]).arg("-b").arg(&bin).arg("-B").arg(&bin);
        upgrade.arg("-d").arg(self.data()).arg("-D").arg(new.data()).arg("-s").arg(new.dir());
        output(&mut upgrade).await?;
        new.run().await;
        Ok(new)
    }

    fn program(&self, name: &str) -> Command {
        command(&binaries().join(name), unprivileged())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // A client that is just connecting keeps the server for a minute, and waits for this thread: then it is killed.
        let mut stop = command(&binaries().join("pg_ctl"), unprivileged());
        stop.arg("-D").arg(self.dir.path().join("data")).args(["-m", "immediate", "-w", "-t", "3", "stop"]);
        let asked = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !asked.is_ok_and(|s| s.success()) {
            child.kill().ok();
        }
        child.wait().ok();
    }
}

/// An address that can be moved from one cluster to another, as a fail-over does.
pub struct Address {
    dir: tempfile::TempDir,
}

impl Address {
    pub fn of(cluster: &Cluster) -> Address {
        let address = Address { dir: private_dir() };
        address.point_to(cluster);
        address
    }

    pub fn point_to(&self, cluster: &Cluster) {
        let link = self.dir.path().join(".s.PGSQL.5432");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(cluster.dir().join(".s.PGSQL.5432"), link).unwrap();
    }

    pub fn url(&self, database: &str) -> String {
        url_at(self.dir.path(), database)
    }
}

fn url_at(dir: &Path, database: &str) -> String {
    format!("postgres://postgres@localhost/{database}?host={}", dir.display())
}

fn private_dir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("apiq-pg").tempdir().unwrap();
    if let Some((uid, gid)) = unprivileged() {
        std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).unwrap();
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

async fn done(command: &mut Command) {
    if let Err(why) = output(command).await {
        panic!("{why}");
    }
}

/// Runs a program on a thread of its own; what it said, if it failed.
async fn output(command: &mut Command) -> Result<(), String> {
    let mut taken = std::mem::replace(command, Command::new("true"));
    // `pg_ctl` leaves its pipes to what it starts: only files end with it.
    let said = tempfile::tempfile().unwrap();
    taken.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said.try_clone().unwrap());
    let status = tokio::task::spawn_blocking(move || taken.status().map(|status| (status, taken))).await.unwrap();
    let (status, ran) = status.map_err(|e| e.to_string())?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let mut said = said;
    std::io::Seek::rewind(&mut said).unwrap();
    std::io::Read::read_to_string(&mut said, &mut text).unwrap();
    Err(format!("{}: {status}: {text}", ran.get_program().to_string_lossy()))
}
