//! The dev profile: private engines, migration, a demo account, the sandbox APIs, and the server; and `apiq demo`.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    demo,
    demo_account::{self, DemoAccount},
    local::{self, LocalStack},
    sandbox,
    serve::{self, Engines},
    settings::Settings,
};

/// A running dev server.
struct Dev {
    stack: LocalStack,
    url: String,
    sandbox_url: String,
    database_url: SecretString,
    account: DemoAccount,
    shutdown: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
}

/// Where the sandbox APIs listen: kept, so that connections to them outlive a restart.
const SANDBOX_FILE: &str = "sandbox-url";

/// The port of the last run while it is free, else any.
async fn sandbox_listener(data_dir: &Path) -> anyhow::Result<TcpListener> {
    let last = local::files::read_if_there(&data_dir.join(SANDBOX_FILE))?;
    let port = last.and_then(|url| url.trim().rsplit(':').next()?.parse::<u16>().ok());
    if let Some(port) = port
        && let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await
    {
        return Ok(listener);
    }
    TcpListener::bind(("127.0.0.1", 0)).await.context("no port for the sandbox APIs")
}

fn say(line: &str) {
    eprintln!("  {line}");
}

pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let mut dev = tokio::select! {
        started = start(&settings) => started?,
        asked = local::shutdown_requested() => {
            asked?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    dev.banner();
    let ended = tokio::select! {
        asked = local::shutdown_requested() => asked,
        ended = &mut dev.server => ended.context("the server broke")?,
    };
    eprintln!("stopping …");
    dev.stop().await?;
    ended.map(|()| ExitCode::SUCCESS)
}

async fn start(settings: &Settings) -> anyhow::Result<Dev> {
    let options = local::Options {
        data_dir: settings.data_dir.clone(),
        postgres: settings.database_url.is_none(),
        nats: settings.nats_url.is_none(),
    };
    let stack = local::start(&options, &say).await?;
    let pick = |given: &Option<SecretString>, private: Option<SecretString>, what: &str| {
        given.clone().or(private).with_context(|| format!("there is no {what}"))
    };
    let engines = Engines {
        database_url: pick(&settings.database_url, stack.database_url(), "database")?,
        nats_url: pick(&settings.nats_url, stack.nats_url(), "NATS server")?,
        master_key: settings.master_key.clone().unwrap_or_else(|| stack.master_key().clone()),
    };
    event_store::migrate(engines.database_url.expose_secret(), false).await?;
    let shutdown = CancellationToken::new();
    let listener = settings.bind().await?;
    let url = format!("http://{}", listener.local_addr()?);
    let wired = serve::wire(settings, &engines, &listener).await?;
    let account = demo_account::ensure(&wired.app, stack.data_dir()).await?;

    let sandbox_listener = sandbox_listener(stack.data_dir()).await?;
    let sandbox_url = format!("http://{}", sandbox_listener.local_addr()?);
    tokio::spawn(sandbox::serve(sandbox_listener, shutdown.clone()));
    local::files::write_private(&stack.data_dir().join(SANDBOX_FILE), &sandbox_url)?;
    let server = tokio::spawn(wired.serve(listener, shutdown.clone()));
    stack.announce(Some(&url))?;
    Ok(Dev { stack, url, sandbox_url, database_url: engines.database_url, account, shutdown, server })
}

impl Dev {
    fn banner(&self) {
        let Dev { url, sandbox_url, account, .. } = self;
        println!("APIQ is running.\n");
        println!("  API          {url}/api/v1");
        println!("  Swagger UI   {url}/docs");
        println!("  Login        {}  {}", account.email, account.password);
        println!("  API key      {}", account.api_key);
        println!("  Sandbox APIs {sandbox_url}/crm/openapi.json");
        println!("               {sandbox_url}/mailer/openapi.json");
        println!("\nCtrl-C stops everything; the data stays in {}.", self.stack.data_dir().display());
    }

    async fn stop(self) -> anyhow::Result<()> {
        serve::stop(&self.shutdown, self.server).await;
        self.stack.stop().await
    }
}

/// The whole story, against the server of the data folder or one started for it.
pub async fn demo(settings: Settings) -> anyhow::Result<ExitCode> {
    let running = local::find_running(&settings.data_dir);
    if let Some((running, url)) = running.and_then(|r| r.server_url.clone().map(|url| (r, url))) {
        let account = demo_account::read(&settings.data_dir)?.context("the running server has no demo account")?;
        let sandbox = local::files::read_if_there(&settings.data_dir.join(SANDBOX_FILE))?;
        let sandbox = sandbox.context("the running server has no sandbox")?;
        let database = settings.database_url.clone().or(running.database_url);
        let database = database.context("the running server's database is not known")?;
        return tell(&url, &account, sandbox.trim(), &database).await;
    }
    let dev = tokio::select! {
        started = start(&settings) => started?,
        asked = local::shutdown_requested() => {
            asked?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let told = tokio::select! {
        told = tell(&dev.url, &dev.account, &dev.sandbox_url, &dev.database_url) => told,
        asked = local::shutdown_requested() => asked.map(|()| ExitCode::from(1)),
    };
    dev.stop().await?;
    told
}

async fn tell(url: &str, account: &DemoAccount, sandbox: &str, database: &SecretString) -> anyhow::Result<ExitCode> {
    let key: SecretString = account.api_key.clone().into();
    match demo::run(url, &key, sandbox, database).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("the demo did not go as expected: {error:#}");
            Ok(ExitCode::from(1))
        }
    }
}
