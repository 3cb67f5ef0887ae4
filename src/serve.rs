//! Wires one node: pools, log, vault, ports, executors, projector, API; runs it until it is asked to stop.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use commands::{App, ports::Ports};
use event_store::{CacheBounds, DatabaseRole, EventStore, Options, connect_pool};
use executors::{
    Liveness, Node, Roles,
    addresses::Addresses,
    certificates::Certificates,
    connectors::ConnectorPort,
    documents::DocumentOptions,
    oauth::{InstalledClient, Providers},
    planner::WorkspacePlanner,
    tester::Tester,
};
use integrations::{
    connectors::{Caps, Runner},
    egress::{Egress, EgressPolicy},
    openapi::Limits,
    planner::ModelConfig,
};
use poem::listener::TcpAcceptor;
use projections::{Projector, ReadModels, SystemReads};
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use vault::Vault;

use crate::{
    health,
    housekeeping::Housekeeper,
    local, master,
    metrics::{Exposition, Pools, Sampler},
    settings::{self, EgressRule, Profile, Role, Settings},
};

/// How long a stopping node waits for calls under way.
const DRAIN: Duration = Duration::from_secs(30);

/// So much longer it waits for renewals of access tokens.
const RENEWALS: Duration = Duration::from_secs(8);

/// What a node needs to run; the settings name it, or the private engines do.
pub struct Engines {
    pub database_url: SecretString,
    pub nats_url: SecretString,
    pub master_key: SecretString,
}

/// A wired node before it serves.
pub struct Wired {
    pub app: App,
    state: api::ApiState,
    node: Node,
    projector: Option<Projector>,
    sampler: Sampler,
    housekeeper: Housekeeper,
    metrics: Option<Exposition>,
    roles: Vec<Role>,
}

pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let missing = "checked with the settings";
    let engines = Engines {
        database_url: settings.database_url.clone().context(missing)?,
        nats_url: settings.nats_url.clone().context(missing)?,
        master_key: settings.master_key.clone().context(missing)?,
    };
    let listener = settings.bind().await?;
    let shutdown = CancellationToken::new();
    let wired = wire(&settings, &engines, &listener).await?;
    tracing::info!(url = format!("http://{}", listener.local_addr()?), "serving");
    let mut server = tokio::spawn(wired.serve(listener, shutdown.clone()));
    tokio::select! {
        served = &mut server => served.context("the server broke")??,
        asked = local::shutdown_requested() => {
            asked?;
            stop(&shutdown, server).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets the node end what it has begun; a second request to stop ends it at once.
pub async fn stop(shutdown: &CancellationToken, server: JoinHandle<anyhow::Result<()>>) {
    shutdown.cancel();
    if server.is_finished() {
        return;
    }
    tokio::select! {
        _ = tokio::time::timeout(DRAIN + Duration::from_secs(10), server) => {}
        _ = local::shutdown_requested() => {}
    }
}

pub async fn wire(settings: &Settings, engines: &Engines, listener: &TcpListener) -> anyhow::Result<Wired> {
    let url = engines.database_url.expose_secret();
    // First of all: what counts before a recorder is there counts for nothing.
    let metrics = Exposition::start(settings.metrics_listen).await?;
    let masters = master::keys(&engines.master_key, settings).await?;
    let writer = connect_pool(url, DatabaseRole::Writer, 12).await.context("the database cannot be reached")?;
    let projector_pool = connect_pool(url, DatabaseRole::Projector, 5).await?;
    let api_pool = connect_pool(url, DatabaseRole::Api, 12).await?;
    let store = EventStore::open(writer.clone(), Options::default()).await?;
    let vault = Vault::open(writer.clone(), masters).await?;
    let nats = settings::nats::connect(&engines.nats_url).await?;
    let mut own = vec![listener.local_addr()?];
    own.extend(metrics.as_ref().map(Exposition::address).transpose()?);
    let egress = Egress::new(policy(settings, engines, own)?)?;

    let runs = |role: Role| settings.roles.contains(&role);
    let projector =
        runs(Role::Projector).then(|| Projector::new(projector_pool.clone(), store.generation(), store.tail()));
    let progress = projector.as_ref().map(Projector::progress).unwrap_or_default();
    let pools = Pools { writer: writer.clone(), projector: projector_pool.clone(), api: api_pool.clone() };
    let reads = ReadModels::new(api_pool, progress);
    let system = SystemReads::new(projector_pool);
    let handle = metrics.as_ref().map(Exposition::handle);
    let sampler = Sampler { pools, store: store.clone(), reads: system.clone(), egress: egress.clone(), handle };
    let planner = Arc::new(WorkspacePlanner::new(system.clone(), model(settings)));
    let caps = Caps { attachment_bytes: settings.mail_attachments_max_bytes };
    let connectors = Runner::new(egress.clone(), caps);
    let ports = Ports {
        planner: planner.clone(),
        tester: Arc::new(Tester(egress.clone())),
        addresses: Arc::new(Addresses(egress.clone())),
        certificates: Arc::new(Certificates),
        oauth: Arc::new(Providers::new(egress.clone(), oauth_clients(settings))),
        connectors: Arc::new(ConnectorPort::new(connectors.clone())),
    };
    let limit = usize::try_from(settings.spec_max_bytes).unwrap_or(usize::MAX);
    let command_settings = commands::Settings {
        spec_max_bytes: limit,
        secret_retention: chrono::TimeDelta::days(i64::from(settings.secret_retention_days)),
        public_url: public_url(settings, listener)?,
        ..commands::Settings::default()
    };
    let app = App::new(store, vault, command_settings, ports);
    planner.join(app.clone());

    let name = format!("executor-{}", app.new_id::<uuid::Uuid>().simple());
    let liveness = Liveness::start(url, name, writer).await?;
    let limits = limits(settings, limit);
    let checks = health::checks(nats.clone(), settings.openai.is_some());
    let state = api::ApiState::new(app.clone(), reads, system.clone(), checks, api_config(settings.profile));
    let node = Node {
        app: app.clone(),
        egress,
        connectors,
        nats,
        liveness,
        reads: system,
        database_url: url.to_owned(),
        relay: Arc::default(),
        limits,
        documents: documents(settings),
    };
    let housekeeper = Housekeeper { app: app.clone(), planner };
    Ok(Wired { app, state, node, projector, sampler, housekeeper, metrics, roles: settings.roles.clone() })
}

impl Wired {
    /// Runs every role of this node until `shutdown`, or until one of them is lost for good.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
        let runs = |role: Role| self.roles.contains(&role);
        let roles =
            Roles { relay: runs(Role::Relay), executor: runs(Role::Executor), dispatcher: runs(Role::Dispatcher) };
        let app = self.app;
        let mut parts = executors::start(&self.node, roles, &shutdown);
        if let Some(projector) = self.projector {
            let stop = shutdown.clone();
            parts.spawn(projector.run(async move { stop.cancelled().await }));
        }
        parts.spawn(self.sampler.run(shutdown.clone()));
        parts.spawn(self.housekeeper.run(shutdown.clone()));
        if let Some(metrics) = self.metrics {
            parts.spawn(metrics.serve(shutdown.clone()));
        }
        let stop = shutdown.clone();
        let http = async {
            if !runs(Role::Api) {
                stop.cancelled().await;
                return Ok(());
            }
            let server = poem::Server::new_with_acceptor(TcpAcceptor::from_tokio(listener)?);
            let asked = stop.clone();
            let wait = Some(Duration::from_secs(5));
            server.run_with_graceful_shutdown(api::app(self.state), async move { asked.cancelled().await }, wait).await
        };
        let mut lost = None;
        tokio::pin!(http);
        loop {
            tokio::select! {
                ended = &mut http => {
                    ended?;
                    break;
                }
                Some(ended) = parts.join_next(), if lost.is_none() && !shutdown.is_cancelled() => {
                    // Parts end by the token only: whatever else ends one is a fault that must not go unnoticed.
                    if shutdown.is_cancelled() {
                        continue;
                    }
                    tracing::error!(?ended, "a part of this node is gone");
                    lost = Some(ended);
                    shutdown.cancel();
                }
            }
        }
        // Calls under way are awaited; what takes longer is dropped, and taken over from the log.
        let stopping = std::time::Instant::now();
        let drained = async { while parts.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("calls under way are left to the next start");
        }
        // Tokens that a provider has given are stored, whoever asked for them.
        if !commands::oauth::settle(&app, (DRAIN + RENEWALS).saturating_sub(stopping.elapsed())).await {
            tracing::warn!("renewals of access tokens under way are left to their leases");
        }
        anyhow::ensure!(lost.is_none(), "a part of this node ended unexpectedly");
        Ok(())
    }
}

/// The dev profile is at home where it listens.
fn public_url(settings: &Settings, listener: &TcpListener) -> anyhow::Result<Option<String>> {
    if settings.public_url.is_some() || settings.profile == Profile::Server {
        return Ok(settings.public_url.clone());
    }
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    Ok(Some(format!("http://{address}")))
}

fn oauth_clients(settings: &Settings) -> Vec<InstalledClient> {
    let of = |client: &settings::oauth::OauthSettings| InstalledClient {
        provider: client.provider.clone(),
        client_id: Some(client.client_id.clone()),
        client_secret: client.client_secret.clone(),
    };
    settings.oauth_providers.iter().map(of).collect()
}

fn documents(settings: &Settings) -> DocumentOptions {
    let spec = settings.spec;
    DocumentOptions {
        max_bytes: settings.spec_max_bytes,
        timeout: spec.timeout,
        time_to_live: spec.time_to_live,
        bounds: CacheBounds { entries: spec.cache_entries, bytes: spec.cache_bytes },
    }
}

/// The reader's caps: its own where the settings say nothing.
fn limits(settings: &Settings, max_bytes: usize) -> Limits {
    let (usual, given) = (Limits::default(), &settings.spec_limits);
    Limits {
        max_bytes,
        max_depth: given.depth.unwrap_or(usual.max_depth),
        max_nodes: given.nodes.unwrap_or(usual.max_nodes),
        max_refs: given.refs.unwrap_or(usual.max_refs),
        max_summary_bytes: given.expansion.unwrap_or(usual.max_summary_bytes),
        max_files: given.files.unwrap_or(usual.max_files),
        max_fetches: given.fetches.unwrap_or(usual.max_fetches),
        max_time: given.seconds.map_or(usual.max_time, |seconds| Duration::from_secs(seconds as u64)),
        ..usual
    }
}

fn model(settings: &Settings) -> Option<ModelConfig> {
    let openai = settings.openai.as_ref()?;
    let key = openai.api_key.clone().unwrap_or_else(|| String::new().into());
    Some(ModelConfig::new(openai.base_url.clone(), key, openai.model.clone()))
}

/// Private addresses by explicit setting only; our own engines never.
fn policy(settings: &Settings, engines: &Engines, own: Vec<SocketAddr>) -> anyhow::Result<EgressPolicy> {
    let mut policy = EgressPolicy {
        per_host: settings.egress_per_host,
        patience: Duration::from_secs(settings.egress_wait_seconds),
        breaker_failures: settings.egress_breaker_failures,
        ..EgressPolicy::default()
    };
    for rule in &settings.egress_allow {
        if *rule == EgressRule::Loopback {
            policy.allow_loopback = true;
            continue;
        }
        for cidr in rule.cidrs() {
            policy.allow_private.push(cidr.parse().with_context(|| format!("{cidr} is no address range"))?);
        }
    }
    policy.deny_addresses.extend(own);
    for (url, port) in [(&engines.database_url, 5432), (&engines.nats_url, 4222)] {
        if let Ok(parsed) = reqwest::Url::parse(url.expose_secret()) {
            let port = parsed.port().unwrap_or(port);
            if let Some(host) = parsed.host_str()
                && let Ok(addresses) = std::net::ToSocketAddrs::to_socket_addrs(&(host, port))
            {
                policy.deny_addresses.extend(addresses);
            }
        }
    }
    Ok(policy)
}

fn api_config(profile: Profile) -> api::Config {
    let mut config = api::Config::default();
    if profile == Profile::Dev {
        // A person who tries things, tests and benchmarks.
        config.rate =
            api::RateLimits { per_hour_default: 0, auth_per_15min: 200, chat_per_min: 1_000, secrets_per_min: 10_000 };
    }
    config
}
