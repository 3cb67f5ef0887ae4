//! A running server with a private Postgres and a private NATS, which can be killed and started again.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection, PgConnection};

use super::engines::{self, Folder, announced, is_alive, signal};
use super::poll::{until, until_blocking};
use super::{Account, Client};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(40);
/// After a test's last write everything must be shown within this time.
const QUIET: Duration = Duration::from_secs(30);

/// Ends everything when the test's process is gone: its end of the pipe closes then. `$1` names the file with the
/// server's process id, the others name files of its engines.
const GUARDIAN: &str = r#"
read -r _
pid=$(cat "$1" 2>/dev/null); shift
[ -n "$pid" ] && kill -INT "$pid" 2>/dev/null
n=0; while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && [ $n -lt 150 ]; do sleep 0.1; n=$((n+1)); done
[ -n "$pid" ] && kill -KILL "$pid" 2>/dev/null
for file in "$@"; do kill -INT "$(head -n 1 "$file" 2>/dev/null)" 2>/dev/null; done
"#;

pub struct Server {
    child: Option<Child>,
    guardian: Child,
    settings: Vec<(String, String)>,
    running: Value,
    finished: bool,
    /// nats-server was started again by a test: nobody else stops it.
    own_nats: bool,
    folder: Folder,
}

impl Server {
    pub async fn start() -> Server {
        Server::start_with(&[]).await
    }

    /// With settings, as in the environment.
    pub async fn start_with(settings: &[(&str, &str)]) -> Server {
        let folder = tokio::task::spawn_blocking(Folder::new).await.unwrap();
        let guardian = guard(&folder);
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut server =
            Server { child: None, guardian, settings, running: Value::Null, finished: false, own_nats: false, folder };
        server.launch().await;
        server
    }

    /// Settings of the next launch, in place of those of the last.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        self.settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    }

    /// Start the binary on the folder and wait until it is ready.
    pub async fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let _ = fs::remove_file(self.data().join("run.json"));
        let open = |name: &str| {
            let path = self.folder.root.join(name);
            OpenOptions::new().append(true).create(true).open(path).unwrap()
        };
        let mut command = engines::command(&self.data());
        command.env("RUST_BACKTRACE", "1").envs(self.settings.iter().cloned());
        let child = command.stdout(open("stdout.log")).stderr(open("stderr.log")).spawn().unwrap();
        fs::write(self.folder.root.join("server.pid"), child.id().to_string()).unwrap();
        self.child = Some(child);
        let what = "the server starts";
        self.running = until(what, START, async || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server ended ({ended:?}):\n{}", self.output());
            announced(&self.data())
        })
        .await;
        let client = self.anonymous();
        until("the server is ready", START, async || {
            let answer = client.try_get("/health/ready").await?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// `http://127.0.0.1:port`, no slash at the end.
    pub fn url(&self) -> &str {
        self.running["serverUrl"].as_str().unwrap().trim_end_matches('/')
    }

    pub fn data(&self) -> PathBuf {
        self.folder.data()
    }

    pub fn postgres_home(&self) -> PathBuf {
        self.folder.postgres()
    }

    pub fn database_url(&self) -> &str {
        self.running["databaseUrl"].as_str().unwrap()
    }

    pub fn nats_url(&self) -> &str {
        self.running["natsUrl"].as_str().unwrap()
    }

    /// What the server printed, both streams.
    pub fn output(&self) -> String {
        let read = |name: &str| fs::read(self.folder.root.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[read("stdout.log"), read("stderr.log")].concat()).into_owned()
    }

    pub fn anonymous(&self) -> Client {
        Client::new(self.url())
    }

    /// A new account with an organization and a workspace of its own.
    pub async fn account(&self, name: &str) -> Account {
        Account::register(self.anonymous(), name).await
    }

    /// As the owner of the database, who sees everything.
    pub async fn database(&self) -> PgConnection {
        PgConnection::connect(self.database_url()).await.unwrap()
    }

    /// A tool of the binary on the same data folder.
    pub async fn tool(&self, arguments: &[&str]) -> (i32, String) {
        self.tool_with(&[], arguments).await
    }

    /// The same with settings of its own.
    pub async fn tool_with(&self, settings: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(engines::BINARY);
        engines::clean(&mut command);
        command.envs(settings.iter().copied());
        command.args(arguments).arg("--data-dir").arg(self.data()).stdin(Stdio::null());
        let output = tokio::process::Command::from(command).kill_on_drop(true).output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }

    /// `kill -9` of the server; its engines stay.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    }

    /// `kill -9` of nats-server. With `wipe`, what it kept is gone as well.
    pub async fn kill_nats(&self, wipe: bool) {
        let pid = pid_in(&self.data().join("nats/nats.pid")).expect("a nats-server");
        signal("KILL", pid);
        until("nats-server is dead", STOP, async || (!is_alive(pid)).then_some(())).await;
        if wipe {
            fs::remove_dir_all(self.data().join("nats/store")).unwrap();
        }
    }

    /// Start nats-server again, as its supervisor would, with the configuration that the binary wrote.
    pub fn start_nats(&mut self) {
        self.own_nats = true;
        use std::os::unix::process::CommandExt;
        let folder = self.data().join("nats");
        let program = ["/usr/sbin/nats-server", "/opt/homebrew/bin/nats-server", "/usr/local/bin/nats-server"];
        let program = program.into_iter().find(|path| fs::exists(path).unwrap_or(false)).unwrap_or("nats-server");
        let mut command = Command::new(program);
        command.arg("-c").arg(folder.join("server.conf")).current_dir(&folder).process_group(0);
        // Its parent is a shell that ends at once: nobody here has to bury it.
        let mut shell = Command::new("sh");
        shell.args(["-c", "\"$@\" >/dev/null 2>&1 &", "sh"]).arg(command.get_program()).args(command.get_args());
        assert!(shell.current_dir(&folder).process_group(0).status().unwrap().success());
    }

    /// An orderly stop; gives how it ended, `None` when it had to be killed.
    pub async fn stop(&mut self) -> Option<ExitStatus> {
        signal("INT", self.child.as_ref().expect("it runs").id());
        let mut child = self.child.take().unwrap();
        let mut status = None;
        tokio::task::spawn_blocking(move || {
            let stopped = until_blocking(STOP, || {
                status = child.try_wait().unwrap();
                status.is_some()
            });
            if !stopped {
                let _ = child.kill();
                let _ = child.wait();
            }
            status
        })
        .await
        .unwrap()
    }

    /// Everything shown, nothing set aside, no panic in the output; then an orderly stop.
    pub async fn finish(mut self) {
        self.assert_settled().await;
        let stopped = self.stop().await;
        self.finished = true;
        if let Some(pid) = pid_in(&self.pid_files()[1]).filter(|_| self.own_nats) {
            signal("INT", pid);
            until("nats-server ends", STOP, async || (!is_alive(pid)).then_some(())).await;
        }
        assert!(stopped.is_some_and(|status| status.success()), "it stops in order: {stopped:?}\n{}", self.output());
        for file in self.pid_files() {
            let left = pid_in(&file).filter(|pid| is_alive(*pid));
            assert_eq!(left, None, "an engine was left behind: {}", file.display());
        }
    }

    /// The read models have caught up, and no event was quarantined.
    pub async fn assert_settled(&self) {
        let client = self.anonymous();
        let health = until("the read models catch up", QUIET, async || {
            let answer = client.try_get("/health").await?;
            let lag = answer.body.pointer("/data/checks/projections/details/lagEvents").and_then(Value::as_i64);
            (answer.status == 200 && lag == Some(0)).then_some(answer.body)
        })
        .await;
        assert_eq!(health["data"]["status"], "healthy", "{health}");
        let mut database = self.database().await;
        let quarantined: Vec<(String, String)> =
            sqlx::query_as("select projection, reason from log.quarantine").fetch_all(&mut database).await.unwrap();
        assert_eq!(quarantined, [], "events were set aside");
        let output = self.output();
        let panic = output.lines().find(|line| line.contains("panicked at"));
        assert_eq!(panic, None, "the server panicked");
    }

    fn pid_files(&self) -> [PathBuf; 2] {
        pid_files(&self.folder)
    }
}

fn pid_files(folder: &Folder) -> [PathBuf; 2] {
    [folder.postgres().join("data/postmaster.pid"), folder.data().join("nats/nats.pid")]
}

fn pid_in(file: &std::path::Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()
}

fn guard(folder: &Folder) -> Child {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("sh");
    command.args(["-c", GUARDIAN, "sh"]).arg(folder.root.join("server.pid")).args(pid_files(folder));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal("INT", child.id());
            if !until_blocking(STOP, || !matches!(child.try_wait(), Ok(None))) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        let left: Vec<u32> = self.pid_files().iter().filter_map(|f| pid_in(f)).filter(|pid| is_alive(*pid)).collect();
        left.iter().for_each(|pid| signal("INT", *pid));
        until_blocking(STOP, || !left.iter().any(|pid| is_alive(*pid)));
        let _ = self.guardian.kill();
        let _ = self.guardian.wait();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            eprintln!("--- the server's last lines ---\n{}", lines[lines.len().saturating_sub(80)..].join("\n"));
        } else {
            assert!(self.finished, "a test ends with `finish`, which looks for quarantined events and lag");
        }
    }
}
