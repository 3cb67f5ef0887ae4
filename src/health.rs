//! Health: the parts that `GET health` asks about, and `apiq health` that asks a server.

use std::{process::ExitCode, sync::Arc, time::Duration};

use api::{Health, HealthCheck};
use async_trait::async_trait;
use serde_json::json;

use crate::settings::{DEFAULT_PORT, Settings};

struct Nats(async_nats::Client);

#[async_trait]
impl HealthCheck for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    /// Postgres is the truth: without NATS everything is slower, and finishes.
    fn required(&self) -> bool {
        false
    }

    async fn check(&self) -> Health {
        let connected = self.0.connection_state() == async_nats::connection::State::Connected;
        Health { healthy: connected, details: json!({ "connected": connected }) }
    }
}

struct Planner {
    model: bool,
}

#[async_trait]
impl HealthCheck for Planner {
    fn name(&self) -> &'static str {
        "planner"
    }

    fn required(&self) -> bool {
        false
    }

    async fn check(&self) -> Health {
        let speaks = if self.model { "llm" } else { "offline" };
        Health { healthy: true, details: json!({ "planner": speaks }) }
    }
}

pub fn checks(nats: async_nats::Client, model: bool) -> Vec<Arc<dyn HealthCheck>> {
    vec![Arc::new(Nats(nats)), Arc::new(Planner { model })]
}

/// Asks the server at host and port; exit code 1 when it is not ready.
pub async fn ask(settings: Settings) -> anyhow::Result<ExitCode> {
    let running = crate::local::find_running(&settings.data_dir).and_then(|r| r.server_url);
    let url = running.unwrap_or_else(|| format!("http://{}:{}", settings.host, settings.port.unwrap_or(DEFAULT_PORT)));
    let client = crate::demo::http_client(Duration::from_secs(5))?;
    match client.get(format!("{url}/api/v1/health")).send().await {
        Ok(answer) => {
            let ready = answer.status().is_success();
            println!("{}", answer.text().await?);
            Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
        Err(error) => {
            eprintln!("no server answers at {url}: {}", error.without_url());
            Ok(ExitCode::from(1))
        }
    }
}
