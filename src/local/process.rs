//! Processes of ours: those we started, and those an earlier, killed run of ours left behind.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// How often a stopping or starting process is looked at.
pub const POLL: Duration = Duration::from_millis(15);

/// Signals that are used here, by the names of `kill`.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    /// Ctrl-C; fast shutdown for Postgres, orderly stop for nats-server.
    Int,
    /// Immediate shutdown for Postgres (recovers at the next start).
    Quit,
    /// Last resort.
    Kill,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Int => "INT",
            Signal::Quit => "QUIT",
            Signal::Kill => "KILL",
        }
    }
}

/// A running engine.
#[derive(Debug)]
pub enum Engine {
    /// Started by this process.
    Child(Child),
    /// Left by an earlier run and found healthy.
    Adopted(u32),
}

impl Engine {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        match self {
            Engine::Child(child) => child.id(),
            Engine::Adopted(pid) => *pid,
        }
    }

    /// Whether it has ended. Asking also buries a dead child.
    pub fn has_ended(&mut self) -> bool {
        match self {
            Engine::Child(child) => !matches!(child.try_wait(), Ok(None)),
            Engine::Adopted(pid) => !is_alive(*pid),
        }
    }

    /// Stop it: each signal in turn, until it has ended or the signal's patience is over.
    ///
    /// # Errors
    /// It is still there after the last one.
    pub async fn stop(&mut self, steps: &[(Signal, Duration)]) -> anyhow::Result<()> {
        for (signal, patience) in steps {
            if self.has_ended() {
                return Ok(());
            }
            send(self.pid(), *signal);
            let asked = Instant::now();
            while !self.has_ended() && asked.elapsed() < *patience {
                tokio::time::sleep(POLL).await;
            }
        }
        anyhow::ensure!(self.has_ended(), "process {} does not end", self.pid());
        Ok(())
    }

    /// The same without a runtime, for `Drop`: blocks the thread.
    pub fn stop_blocking(&mut self, steps: &[(Signal, Duration)]) {
        for (signal, patience) in steps {
            if self.has_ended() {
                return;
            }
            send(self.pid(), *signal);
            let asked = Instant::now();
            while !self.has_ended() && asked.elapsed() < *patience {
                pause();
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "only `Drop` comes here, where nothing can be awaited")]
fn pause() {
    std::thread::sleep(POLL);
}

/// Send a signal. `kill` is a builtin of every shell, so nothing needs to be installed; a process that is gone is no
/// failure, its end is watched anyway.
pub fn send(pid: u32, signal: Signal) {
    let _ = kill(signal.name(), pid);
}

/// Whether a process runs (it may belong to someone else). A dead one that nobody has buried does not count: orphans
/// stay like that in containers whose first process is no init.
pub fn is_alive(pid: u32) -> bool {
    if !cfg!(target_os = "linux") {
        return kill("0", pid);
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // `pid (name) state …`; the name may hold anything, brackets included.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Whether an id is taken, be it by a dead process: that is how Postgres judges its own pid file.
pub fn is_taken(pid: u32) -> bool {
    if cfg!(target_os = "linux") { Path::new(&format!("/proc/{pid}")).exists() } else { kill("0", pid) }
}

fn kill(signal: &str, pid: u32) -> bool {
    Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "sh", signal, &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether `pid` is the program `name` that was started with `argument`: ids are reused, above all in containers, so
/// an id alone proves nothing.
pub fn is_ours(pid: u32, name: &str, argument: &Path) -> bool {
    let argument = argument.to_string_lossy();
    if cfg!(target_os = "linux") {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        return words.first().is_some_and(|program| program.ends_with(name)) && words.contains(&argument);
    }
    let listed = Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output();
    listed.is_ok_and(|output| {
        let line = String::from_utf8_lossy(&output.stdout);
        line.contains(name) && line.contains(argument.as_ref())
    })
}

/// Processes that work in `folder`, where the system can tell (Linux). Postgres' backends do.
pub fn working_in(folder: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder))
        .collect()
}

/// The process id in the first line of a pid file.
pub fn recorded_pid(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.lines().next()?.trim().parse().ok()
}

/// Run a short command to its end; its last words become the error.
pub async fn run(command: Command, what: &str) -> anyhow::Result<String> {
    let mut command = tokio::process::Command::from(command);
    let output =
        command.stdin(Stdio::null()).kill_on_drop(true).output().await.with_context(|| format!("cannot run {what}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::bail!("{what} failed: {}", if said.trim().is_empty() { text.trim() } else { said.trim() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Duration = Duration::from_secs(10);

    fn child(script: &str) -> Engine {
        Engine::Child(Command::new("sh").args(["-c", script]).spawn().unwrap())
    }

    #[tokio::test]
    async fn an_engine_that_ignores_a_signal_gets_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let mut engine = child(&format!("trap '' INT; : > '{}'; exec sleep 31", ready.display()));
        while !ready.exists() {
            tokio::time::sleep(POLL).await;
        }
        engine.stop(&[(Signal::Int, POLL), (Signal::Kill, PATIENT)]).await.unwrap();
        assert!(engine.has_ended());
        assert!(!is_alive(engine.pid()), "a dead child is buried");
    }

    #[tokio::test]
    async fn an_engine_that_has_ended_is_no_error() {
        let mut engine = child("exit 3");
        engine.stop(&[(Signal::Int, PATIENT)]).await.unwrap();
        engine.stop_blocking(&[(Signal::Kill, PATIENT)]);
    }

    #[test]
    fn a_process_is_recognised_by_name_and_argument() {
        let mut engine = Engine::Child(Command::new("sleep").arg("31.5").spawn().unwrap());
        let pid = engine.pid();
        // A process gets its arguments a moment after it gets its id.
        let began = Instant::now();
        while !is_ours(pid, "sleep", Path::new("31.5")) && began.elapsed() < PATIENT {
            std::thread::yield_now();
        }
        assert!(is_ours(pid, "sleep", Path::new("31.5")));
        assert!(!is_ours(pid, "sleep", Path::new("31")));
        assert!(!is_ours(pid, "postgres", Path::new("31.5")));
        engine.stop_blocking(&[(Signal::Kill, PATIENT)]);
        assert!(!is_ours(pid, "sleep", Path::new("31.5")));
    }

    #[tokio::test]
    async fn a_failing_command_says_why() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo nonsense >&2; exit 1"]);
        assert_eq!(run(command, "the test").await.unwrap_err().to_string(), "the test failed: nonsense");
    }
}
