//! Data folders for servers: one is made by the binary itself, stopped, and copied for every test, because making a
//! Postgres cluster takes longer than copying one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::poll::until_blocking;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_apiq");
/// A first start makes a cluster, migrates, and hashes a password.
const FIRST_START: Duration = Duration::from_secs(120);

/// One test's folder: `data` (the binary's), captured output, and a Postgres home outside of it where root needs one.
pub struct Folder {
    pub root: PathBuf,
    outside: Option<PathBuf>,
}

impl Folder {
    /// A copy of the template, with engines that will choose ports of their own.
    pub fn new() -> Folder {
        let home = home();
        let _lock = lock(&home);
        tidy_up(&home, is_orphaned);
        let template = template(&home);
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = home.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        make(&root);
        let mut folder = Folder { root, outside: None };
        copy(&template.join("data"), &folder.data());
        folder.detach();
        folder
    }

    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where Postgres keeps its files.
    pub fn postgres(&self) -> PathBuf {
        self.outside.clone().unwrap_or_else(|| self.data().join("postgres"))
    }

    /// Give the copy ports and a Postgres home that are not the template's.
    fn detach(&mut self) {
        // The sandbox keeps its port as well.
        let _ = fs::remove_file(self.data().join("sandbox-url"));
        let path = self.data().join("engines.json");
        let mut state = read_json(&path);
        state["postgresPort"] = Value::Null;
        state["natsPort"] = Value::Null;
        if let Some(home) = state["postgresHome"].as_str().map(PathBuf::from) {
            let name = self.root.file_name().unwrap().to_string_lossy().into_owned();
            let copied = home.with_file_name(format!("apiq-it-{name}"));
            remove(&copied);
            copy(&home, &copied);
            state["postgresHome"] = json!(copied);
            self.outside = Some(copied);
        }
        fs::write(&path, state.to_string()).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.root);
        if let Some(outside) = &self.outside {
            remove(outside);
        }
    }
}

fn home() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("it");
    make(&home);
    home
}

/// A service user that runs Postgres must be able to pass.
fn make(folder: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).unwrap();
}

/// Test processes run side by side; the template is made once.
fn lock(home: &Path) -> File {
    let file = File::create(home.join("lock")).unwrap();
    file.lock().unwrap();
    file
}

/// Remove folders, with their Postgres homes.
fn tidy_up(home: &Path, is_old: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(home).unwrap().flatten() {
        if is_old(&entry.file_name().to_string_lossy()) {
            drop(of_path(entry.path()));
        }
    }
}

/// Folders are named by the process that made them; a killed one cannot remove its own.
fn is_orphaned(name: &str) -> bool {
    let owner = name.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
    owner.is_some_and(|pid| !is_alive(pid))
}

/// Made anew when the binary is another one.
fn template(home: &Path) -> PathBuf {
    let built = fs::metadata(BINARY).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
    let name = format!("template-{}", built.as_nanos());
    let folder = home.join(&name);
    if folder.join("done").exists() {
        return folder;
    }
    tidy_up(home, |other| other.starts_with("template-"));
    make(&folder);
    first_run(&folder);
    let postgres = of_path_keep(&folder).join("data");
    // A crash of the machine is not what is tested here; a crash of the process loses nothing without it.
    let settings = postgres.join("postgresql.auto.conf");
    let text = fs::read_to_string(&settings).unwrap_or_default();
    fs::write(&settings, format!("{text}\nfsync = off\nfull_page_writes = off\n")).unwrap();
    fs::write(folder.join("done"), "").unwrap();
    folder
}

/// A folder of an earlier run, to be dropped (and so removed) with its Postgres home.
fn of_path(root: PathBuf) -> Folder {
    let outside = outside_home(&root);
    Folder { root, outside }
}

fn of_path_keep(root: &Path) -> PathBuf {
    outside_home(root).unwrap_or_else(|| root.join("data/postgres"))
}

fn outside_home(root: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(root.join("data/engines.json")).ok()?;
    let state: Value = serde_json::from_str(&text).ok()?;
    state["postgresHome"].as_str().map(PathBuf::from)
}

/// Let the binary make everything, and stop it as Ctrl-C would.
fn first_run(folder: &Path) {
    let data = folder.join("data");
    let output = File::create(folder.join("first.log")).unwrap();
    let mut child = command(&data).stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
    let mut ended = false;
    let started = until_blocking(FIRST_START, || {
        ended = child.try_wait().unwrap().is_some();
        ended || announced(&data).is_some()
    });
    signal("INT", child.id());
    let stopped = until_blocking(Duration::from_secs(60), || child.try_wait().unwrap().is_some());
    if !stopped {
        let _ = child.kill();
        let _ = child.wait();
    }
    let log = fs::read_to_string(folder.join("first.log")).unwrap_or_default();
    assert!(started && !ended && stopped, "the first start of {BINARY} failed:\n{log}");
}

/// The server on a data folder, with nothing of this process's settings but the search path.
pub fn command(data: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(BINARY);
    command.args(["dev", "--port", "0", "--data-dir"]).arg(data);
    clean(&mut command);
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// Settings of the caller's shell must not reach the binary.
pub fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("APIQ_") || name.starts_with("OPENAI_") || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
}

/// What `run.json` says once the server listens.
pub fn announced(data: &Path) -> Option<Value> {
    let text = fs::read_to_string(data.join("run.json")).ok()?;
    let running: Value = serde_json::from_str(&text).ok()?;
    running["serverUrl"].is_string().then_some(running)
}

pub fn signal(name: &str, pid: u32) {
    let script = "kill -s \"$1\" \"$2\" 2>/dev/null";
    let _ = Command::new("sh").args(["-c", script, "sh", name, &pid.to_string()]).status();
}

pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    match cfg!(target_os = "linux") {
        true => state.is_some_and(|state| !matches!(state, 'Z' | 'X')),
        false => Command::new("kill").args(["-0", &pid.to_string()]).status().is_ok_and(|status| status.success()),
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// With owners and modes: Postgres looks at both.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cannot copy {} to {}", from.display(), to.display());
}

fn remove(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}
