//! The log's suite. Two servers, one after the other: all roles beside the commands, then the log alone.

mod bulk;
mod commands;
mod cpu;
mod database;
mod growth;
mod latency;
mod levels;
mod memory;
mod pgbench;
mod read;
mod stock;
mod store;

use std::fmt::Display;

use levels::Setting;

use crate::{Plan, report::Report, server::Server};

/// The name in `results.json`.
const SUITE: &str = "log";

pub fn run(report: &mut Report, plan: &Plan) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(fault)?;
    runtime.block_on(async {
        with_all_roles(report, plan).await?;
        on_the_log_alone(report, plan).await
    })
}

async fn with_all_roles(report: &mut Report, plan: &Plan) -> Result<(), String> {
    let idle = plan.wants("memory_idle");
    let latency = plan.wants("commit_to_projection") || plan.wants("commit_to_nats");
    let setting = Setting { prefix: "commands", all_roles: true };
    if !idle && !latency && !setting.is_wanted(plan) {
        return Ok(());
    }
    let server = Server::with_all_roles()?;
    if idle {
        memory::idle(report, &server).await?;
    }
    if latency {
        latency::run(report, plan, &server).await?;
    }
    levels::run(report, plan, &server, &setting).await
}

async fn on_the_log_alone(report: &mut Report, plan: &Plan) -> Result<(), String> {
    let bulk = plan.wants("bulk_append_vs_copy");
    let read = plan.wants("replay_vs_select") || plan.wants("rebuild_all_events_per_s");
    // It takes minutes.
    let growth = plan.wants("growth_5m") && !plan.quick;
    let setting = Setting { prefix: "append_only", all_roles: false };
    if !bulk && !read && !growth && !setting.is_wanted(plan) {
        return Ok(());
    }
    let server = Server::log_alone()?;
    levels::run(report, plan, &server, &setting).await?;
    if bulk {
        bulk::run(report, plan, &server).await?;
    }
    if read {
        read::run(report, plan, &server).await?;
    }
    if growth {
        growth::run(report, &server).await?;
    }
    Ok(())
}

fn fault(error: impl Display) -> String {
    error.to_string()
}
