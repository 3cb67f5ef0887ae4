//! The one binary: reads the configuration, wires the crates together, runs a command.

mod admin;
mod cli;
mod demo;
mod demo_account;
mod dev;
mod health;
mod housekeeping;
mod local;
mod logging;
mod master;
mod memory;
mod metrics;
mod offline;
mod rotate;
mod sandbox;
mod serve;
mod settings;
mod tools;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let settings = match cli.settings() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    memory::be_frugal();
    // The first of these in the process counts; a second would be a wiring fault without harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    logging::start(&settings);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the runtime cannot start: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(run(cli, settings)) {
        Ok(code) => code,
        Err(error) => {
            // One sentence with its causes; a backtrace would bury it.
            eprintln!("apiq: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(cli: Cli, settings: settings::Settings) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve => serve::run(settings).await,
        Command::Dev => dev::run(settings).await,
        Command::Migrate { adopt } => tools::migrate(settings, adopt).await,
        Command::Demo => dev::demo(settings).await,
        Command::Replay(replay) => tools::replay(settings, replay, cli.flags.json).await,
        Command::Admin(admin) => admin::run(settings, admin, cli.flags.json).await,
        Command::Health => health::ask(settings).await,
    }
}
