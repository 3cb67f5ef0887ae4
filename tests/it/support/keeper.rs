//! A helper process that never outlives the test, however the test ends: it lives as long as our end of a pipe.

use std::path::Path;
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = r#"
log=$1; shift
"$@" >>"$log" 2>&1 </dev/null & pid=$!
read -r _
kill -INT "$pid" 2>/dev/null
n=0; while kill -0 "$pid" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
kill -KILL "$pid" 2>/dev/null
wait "$pid"
"#;

/// Ends its process when dropped.
pub struct Keeper {
    shell: Child,
}

impl Keeper {
    /// With the command's program, arguments and environment; what it says goes to `log`.
    pub fn spawn(command: &Command, log: &Path) -> Keeper {
        use std::os::unix::process::CommandExt;
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "sh"]).arg(log).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        Keeper { shell: shell.stdin(Stdio::piped()).process_group(0).spawn().unwrap() }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
