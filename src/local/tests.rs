//! The private engines for real: made, found again, taken over from a killed run, and stopped.

use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};

use super::*;
use crate::settings;

struct Folder {
    folder: tempfile::TempDir,
    said: Mutex<Vec<String>>,
}

impl Folder {
    /// Open to a service user, as a checkout in a home folder usually is.
    fn open() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Folder { folder, said: Mutex::default() }
    }

    fn options(&self) -> Options {
        Options { data_dir: self.folder.path().join("data folder"), postgres: true, nats: true }
    }

    async fn start(&self) -> anyhow::Result<LocalStack> {
        start(&self.options(), &|line| self.said.lock().unwrap().push(line.to_owned())).await
    }

    fn said(&self) -> String {
        std::mem::take(&mut *self.said.lock().unwrap()).join("\n")
    }
}

async fn sql(stack: &LocalStack, statement: &'static str) {
    let url = stack.database_url().unwrap();
    let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
}

fn pids(stack: &LocalStack) -> [u32; 2] {
    [stack.postgres.as_ref().unwrap().pid(), stack.nats.as_ref().unwrap().pid()]
}

/// What `kill -9` of this process does to a stack: the lock is freed, the engines stay, nothing is tidied up.
fn lose(stack: LocalStack) {
    let LocalStack { run_file, nats, postgres, _lock: lock, .. } = stack;
    std::mem::forget((run_file, nats, postgres));
    drop(lock);
}

#[tokio::test]
async fn a_stack_is_found_again_taken_over_and_stopped() {
    let folder = Folder::open();
    let first = folder.start().await.unwrap();
    assert!(folder.said().contains("making a private Postgres"));
    sql(&first, "CREATE TABLE kept (n int)").await;
    let key = first.master_key().expose_secret().to_owned();

    // A second process is refused, and other commands find the first.
    let refusal = folder.start().await.err().unwrap().to_string();
    assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
    first.announce(Some("http://127.0.0.1:8080")).unwrap();
    let found = find_running(first.data_dir()).unwrap();
    assert_eq!(found.server_url.as_deref(), Some("http://127.0.0.1:8080"));
    assert_eq!(found.database_url.unwrap().expose_secret(), first.database_url().unwrap().expose_secret());

    // Killed: the next start takes the engines over as they are.
    let before = pids(&first);
    let data_dir = first.data_dir().to_owned();
    lose(first);
    assert!(find_running(&data_dir).is_none());
    let second = folder.start().await.unwrap();
    assert_eq!(pids(&second), before, "{}", folder.said());
    sql(&second, "INSERT INTO kept VALUES (1)").await;
    let url = second.database_url().unwrap().expose_secret().to_owned();
    second.stop().await.unwrap();
    assert!(before.iter().all(|pid| !process::is_alive(*pid)));
    assert!(!data_dir.join("run.json").exists());

    // Stopped: started anew, on the same ports, with the same data and key.
    let third = folder.start().await.unwrap();
    assert_eq!(third.database_url().unwrap().expose_secret(), url);
    assert_eq!(third.master_key().expose_secret(), key);
    sql(&third, "SELECT n FROM kept").await;

    // Killed, and the configuration has changed since: the old servers are stopped and new ones started.
    let old = pids(&third);
    lose(third);
    for file in ["postgres/data/apiq.conf", "nats/server.conf"] {
        std::fs::write(data_dir.join(file), "# of an older version\n").unwrap();
    }
    let fourth = folder.start().await.unwrap();
    assert!(old.iter().all(|pid| !process::is_alive(*pid)), "{}", folder.said());
    let last = pids(&fourth);
    drop(fourth);
    assert!(last.iter().all(|pid| !process::is_alive(*pid)), "dropping stops everything too");
}

#[tokio::test]
async fn what_a_crashed_postgres_leaves_does_not_block() {
    let folder = Folder::open();
    let options = Options { nats: false, ..folder.options() };
    let stack = start(&options, &|_| {}).await.unwrap();
    assert!(stack.nats_url().is_none());
    let pid_file = stack.data_dir().join("postgres/data/postmaster.pid");
    let left = std::fs::read_to_string(&pid_file).unwrap();
    stack.stop().await.unwrap();
    let (_, rest) = left.split_once('\n').unwrap();
    // This test's own process stands for the unrelated program.
    std::fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).unwrap();
    let stack = start(&options, &|_| {}).await.unwrap();
    sql(&stack, "SELECT 1").await;

    // Killed with its server, whose body nobody buries: this process is its parent and has forgotten it.
    let pid = stack.postgres.as_ref().unwrap().pid();
    lose(stack);
    process::send(pid, process::Signal::Kill);
    let stack = start(&options, &|_| {}).await.unwrap();
    assert!(process::is_taken(pid) && !process::is_alive(pid));
    sql(&stack, "SELECT 1").await;
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn out_of_a_service_users_reach_postgres_moves() {
    let folder = Folder::open();
    let is_root = user::RunAs::detect().unwrap() != user::RunAs::Myself;
    std::fs::set_permissions(folder.folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let options = Options { nats: false, ..folder.options() };
    for _ in 0..2 {
        let stack = start(&options, &|_| {}).await.unwrap();
        sql(&stack, "CREATE TABLE IF NOT EXISTS kept (n int)").await;
        stack.stop().await.unwrap();
    }
    let state = State::load(&options.data_dir).unwrap();
    assert_eq!(state.postgres_home.is_some(), is_root);
    let Some(home) = state.postgres_home else { return };
    assert!(!options.data_dir.join("postgres").exists());
    std::fs::remove_dir_all(&home).unwrap();
    let lost = start(&options, &|_| {}).await.err().unwrap().to_string();
    assert!(lost.contains("is gone"), "{lost}");
}

#[tokio::test]
async fn a_wrong_password_in_the_url_is_refused_without_showing_it() {
    let folder = Folder::open();
    let stack = start(&Options { postgres: false, ..folder.options() }, &|_| {}).await.unwrap();
    let url = stack.nats_url().unwrap().expose_secret().to_owned();
    settings::nats::connect(&url.clone().into()).await.unwrap();
    let state = State::load(stack.data_dir()).unwrap();
    let wrong = url.replace(&state.nats_password, "hunter2");
    let error = format!("{:#}", settings::nats::connect(&wrong.into()).await.unwrap_err());
    assert!(!error.contains("hunter2") && error.contains("127.0.0.1"), "{error}");
    stack.stop().await.unwrap();
}

#[test]
fn a_damaged_master_key_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let made = master_key(folder.path()).unwrap();
    assert_eq!(master_key(folder.path()).unwrap().expose_secret(), made.expose_secret());
    let path = folder.path().join("master.key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, "c2hvcnQ=").unwrap();
    assert!(master_key(folder.path()).unwrap_err().to_string().contains("damaged"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "c2hvcnQ=");
}
