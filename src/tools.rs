//! Commands that are no server: migrate and replay.

use std::process::ExitCode;

use anyhow::Context as _;
use replay_tools::Options;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    cli::Replay,
    local::{self, LocalStack},
    settings::Settings,
};

/// The database to work on: the given one, the running dev server's, or a private one started for this.
pub async fn database(settings: &Settings) -> anyhow::Result<(SecretString, Option<LocalStack>)> {
    if let Some(url) = &settings.database_url {
        return Ok((url.clone(), None));
    }
    if let Some(url) = local::find_running(&settings.data_dir).and_then(|r| r.database_url) {
        return Ok((url, None));
    }
    let options = local::Options { data_dir: settings.data_dir.clone(), postgres: true, nats: false };
    let stack = local::start(&options, &|line| eprintln!("  {line}")).await?;
    let url = stack.database_url().context("the private database has no URL")?;
    Ok((url, Some(stack)))
}

pub async fn migrate(settings: Settings, adopt: bool) -> anyhow::Result<ExitCode> {
    let (url, stack) = database(&settings).await?;
    let done = event_store::migrate(url.expose_secret(), adopt).await;
    if let Some(stack) = stack {
        stack.stop().await?;
    }
    done?;
    println!("The schema is up to date.");
    Ok(ExitCode::SUCCESS)
}

/// Exit codes: 0 all is as it should be, 1 a difference, 2 it could not run.
pub async fn replay(settings: Settings, replay: Replay, json: bool) -> anyhow::Result<ExitCode> {
    let (url, stack) = database(&settings).await?;
    let url = url.expose_secret();
    let options = Options { json, ..Options::default() };
    let out = &mut std::io::stdout();
    let outcome = match replay {
        Replay::Verify => replay_tools::verify(url, &options, out).await.map(|o| o.exit_code()),
        Replay::Rebuild => replay_tools::rebuild(url, &options, out).await.map(|()| 0),
        Replay::Timeline { id } => replay_tools::timeline(url, &id, json, out).await.map(|()| 0),
    };
    if let Some(stack) = stack {
        stack.stop().await?;
    }
    Ok(ExitCode::from(outcome?))
}
