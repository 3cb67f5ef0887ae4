//! One node: which parts it runs, started together and stopped together.

use std::sync::Arc;

use commands::App;
use integrations::{connectors::Runner, egress::Egress, openapi::Limits};
use projections::SystemReads;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Liveness, RelayStats,
    dispatcher::Dispatcher,
    documents::{DocumentOptions, Documents},
    ingester::Ingester,
    keeper::Keeper,
    oauth::GrantKeeper,
    refresher::Refresher,
    relay,
    workflow::Executor,
};

/// Which parts a node runs. A large installation spreads them; `apiq dev` runs all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    pub relay: bool,
    /// Workflows and ingestion.
    pub executor: bool,
    pub dispatcher: bool,
}

impl Roles {
    pub const ALL: Roles = Roles { relay: true, executor: true, dispatcher: true };
}

/// What the parts share.
#[derive(Clone)]
pub struct Node {
    pub app: App,
    pub egress: Egress,
    pub connectors: Runner,
    pub nats: async_nats::Client,
    pub liveness: Liveness,
    pub reads: SystemReads,
    pub database_url: String,
    pub relay: Arc<RelayStats>,
    pub limits: Limits,
    pub documents: DocumentOptions,
}

/// Starts the parts; they run until `shutdown`.
pub fn start(node: &Node, roles: Roles, shutdown: &CancellationToken) -> JoinSet<()> {
    let mut parts = JoinSet::new();
    let Node { app, egress, connectors, nats, liveness, reads, database_url, relay: stats, limits, documents } =
        node.clone();
    if roles.relay {
        parts.spawn(relay::run(app.store().clone(), nats.clone(), database_url.clone(), stats, shutdown.clone()));
        parts.spawn(sweep(app.clone(), shutdown.clone()));
    }
    if roles.executor {
        let executor = Executor::new(app.clone(), (egress.clone(), connectors), liveness.clone(), shutdown.clone());
        parts.spawn(executor.run(nats.clone(), reads.clone()));
        let documents = Documents::new(egress.clone(), app.store().documents(), documents);
        let ingester = Ingester::new(app.clone(), documents, liveness.clone(), reads.clone(), limits);
        parts.spawn(ingester.run(nats.clone(), shutdown.clone()));
        let refresher = Refresher { app: app.clone(), liveness: liveness.clone(), reads: reads.clone() };
        parts.spawn(refresher.run(shutdown.clone()));
        let keeper = Keeper { app: app.clone(), liveness: liveness.clone(), reads: reads.clone() };
        parts.spawn(keeper.run(shutdown.clone()));
        let grants = GrantKeeper { app: app.clone(), liveness: liveness.clone(), reads: reads.clone() };
        parts.spawn(grants.run(shutdown.clone()));
    }
    if roles.dispatcher {
        let dispatcher = Dispatcher::new(app, egress, liveness, reads, database_url, shutdown.clone());
        parts.spawn(dispatcher.run(nats));
    }
    parts
}

/// Clients' idempotency keys are forgotten after a day, other builds' snapshots after a week.
async fn sweep(app: App, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(std::time::Duration::from_secs(600)) => {}
        }
        if let Err(error) = app.store().sweep_idempotency_keys().await {
            tracing::warn!(%error, "idempotency keys could not be swept");
        }
        if let Err(error) = app.store().sweep_snapshots().await {
            tracing::warn!(%error, "snapshots of other builds could not be swept");
        }
    }
}
