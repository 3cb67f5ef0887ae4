//! The guides do what they say: every command of their `console` blocks runs, in order, against a real server.
//!
//! In a block, `$ ` begins a command, `> ` continues it, and everything else is output. Commands must succeed; that the
//! shown output is real is the writer's matter, because times and ids in it change.

use std::{path::Path, process::Command};

use crate::support::Server;

const GUIDES: [&str; 10] = [
    "README.md",
    "docs/getting-started.md",
    "docs/connections.md",
    "docs/oauth.md",
    "docs/connectors.md",
    "docs/workflows.md",
    "docs/webhooks.md",
    "docs/audit.md",
    "docs/operations.md",
    "docs/event-log.md",
];

/// The commands of a guide as one script that stops at the first that fails and says which.
fn script(text: &str) -> String {
    let mut script = String::from("set -eo pipefail\n");
    let mut inside = false;
    let mut continues = false;
    for line in text.lines() {
        match line.trim() {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match (line.strip_prefix("$ "), line.strip_prefix("> ")) {
                (Some(command), _) => {
                    script.push_str(&format!("LAST={}\n{command}\n", quoted(command)));
                    continues = true;
                }
                (None, Some(more)) if continues => script.push_str(&format!("{more}\n")),
                _ => continues = false,
            },
        }
    }
    script
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn have(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

#[test]
fn commands_are_told_from_output() {
    let text = "```console\n$ A=$(echo 1 |\n>   cat)\n1\n$ echo 'x'\n```\n```sh\nnot run\n```\n";
    let script = script(text);
    assert!(script.contains("A=$(echo 1 |\n  cat)\n") && script.contains("\necho 'x'\n"));
    assert!(!script.contains("not run") && !script.contains("\n1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_guides_works() {
    if let Some(missing) = ["bash", "curl", "jq"].into_iter().find(|p| !have(p)) {
        println!("skipped: {missing} is not on this machine");
        return;
    }
    let server = Server::start().await;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = Path::new(env!("CARGO_BIN_EXE_apiq"));
    let sandbox = std::fs::read_to_string(server.data().join("sandbox-url")).unwrap();
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    for guide in GUIDES {
        // A workspace of its own: guides connect APIs of the same names.
        let account = server.account(guide.trim_end_matches(".md").rsplit('/').next().unwrap()).await;
        let key = account.key("owner").await;
        let text = std::fs::read_to_string(root.join(guide)).unwrap_or_else(|e| panic!("{guide}: {e}"));
        let script = format!("trap 'echo \"failed: $LAST\"' ERR\n{}", script(&text));
        let mut bash = Command::new("timeout");
        bash.args(["120", "bash", "-E", "-c", &script])
            .current_dir(root)
            .env("APIQ", format!("{}/api/v1", server.url()))
            .env("KEY", key)
            .env("SANDBOX", sandbox.trim())
            .env("APIQ_DATA_DIR", server.data())
            .env("PATH", &path);
        let ran = tokio::task::spawn_blocking(move || bash.output()).await.unwrap().unwrap();
        let out = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{guide}:\n{out}");
    }
    server.finish().await;
}
