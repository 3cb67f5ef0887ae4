//! `apiq admin rotate-master`: moves every workspace's key under the present master key while servers go on.

use std::{
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use commands::{App, Context, workspace_key};
use domain::ids::WorkspaceId;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use vault::{MasterKeys, MasterProgress};

use crate::offline;

/// How often the progress is told.
const EVERY: Duration = Duration::from_secs(1);
/// What one workspace's own rotation may take; executors carry it on.
const TURN: Duration = Duration::from_secs(10);
/// Workspaces settled at the end in one look.
const MOST: i64 = 100;

pub async fn run(url: &str, masters: MasterKeys, json: bool) -> anyhow::Result<ExitCode> {
    let app = offline::app(url, masters).await?;
    let Some(mut rotation) = app.vault().begin_master_rotation(url).await? else {
        let MasterProgress { done, total, .. } = workspace_key::master(&app, None).await?;
        anyhow::bail!("a rotation of the master key is under way: {done} of {total} keys are moved");
    };
    let mut shown = Shown::new(json);
    shown.tell(&workspace_key::master(&app, None).await?);
    while let Some(workspace) = rotation.step().await? {
        record(&app, workspace).await?;
        if shown.is_due() {
            shown.tell(&workspace_key::master(&app, None).await?);
        }
    }
    // What an earlier run moved and could not tell any more.
    for workspace in app.vault().unsettled_keys(MOST).await? {
        record(&app, workspace).await?;
    }
    let progress = workspace_key::master(&app, None).await?;
    shown.bar.finish_and_clear();
    let MasterProgress { key_id, done, total, .. } = &progress;
    if json {
        println!("{}", json!({ "finished": done == total, "keyId": key_id, "done": done, "total": total }));
    } else {
        println!("The master key {key_id} wraps {done} of {total} keys.");
    }
    Ok(if done == total { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Tells the workspace's log. What is no workspace's (hashes of addresses) has no log.
async fn record(app: &App, workspace: WorkspaceId) -> anyhow::Result<()> {
    if workspace.0.is_nil() {
        return Ok(());
    }
    let context = Context::system("apiq-admin", workspace, app.new_id());
    let carried = workspace_key::carry_on(app, &context, workspace, Instant::now() + TURN).await;
    carried.map(|_| ()).with_context(|| format!("the key of {workspace} is moved, but its log could not be told"))
}

/// Progress as a person or a program sees it.
struct Shown {
    json: bool,
    bar: ProgressBar,
    last: Instant,
}

impl Shown {
    fn new(json: bool) -> Self {
        let drawn = !json && std::io::stderr().is_terminal();
        let bar = if drawn { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("rewrapping [{bar:40}] {pos}/{len} keys, {per_sec}, {eta} left");
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { json, bar, last: Instant::now() }
    }

    fn is_due(&self) -> bool {
        self.last.elapsed() >= EVERY
    }

    fn tell(&mut self, progress: &MasterProgress) {
        self.last = Instant::now();
        self.bar.set_length(progress.total.unsigned_abs());
        self.bar.set_position(progress.done.unsigned_abs());
        if self.json {
            let MasterProgress { key_id, done, total, .. } = progress;
            println!("{}", json!({ "keyId": key_id, "done": done, "total": total }));
        }
    }
}
