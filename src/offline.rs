//! The use cases without a server: for commands that append to the log themselves.

use std::sync::Arc;

use commands::{App, ports::Ports};
use event_store::{DatabaseRole, EventStore, Options, connect_pool};
use executors::{
    addresses::Addresses, certificates::Certificates, connectors::ConnectorPort, oauth::Providers,
    planner::WorkspacePlanner, tester::Tester,
};
use integrations::{
    connectors::{Caps, Runner},
    egress::{Egress, EgressPolicy},
};
use projections::SystemReads;
use vault::{MasterKeys, Vault};

pub async fn app(url: &str, masters: MasterKeys) -> anyhow::Result<App> {
    let writer = connect_pool(url, DatabaseRole::Writer, 4).await?;
    let reads = SystemReads::new(connect_pool(url, DatabaseRole::Projector, 1).await?);
    let store = EventStore::open(writer.clone(), Options::default()).await?;
    let vault = Vault::open(writer, masters).await?;
    let egress = Egress::new(EgressPolicy::default())?;
    let planner = Arc::new(WorkspacePlanner::new(reads, None));
    let ports = Ports {
        planner: planner.clone(),
        tester: Arc::new(Tester(egress.clone())),
        addresses: Arc::new(Addresses(egress.clone())),
        certificates: Arc::new(Certificates),
        oauth: Arc::new(Providers::new(egress.clone(), Vec::new())),
        connectors: Arc::new(ConnectorPort::new(Runner::new(egress, Caps::default()))),
    };
    let app = App::new(store, vault, commands::Settings::default(), ports);
    planner.join(app.clone());
    Ok(app)
}
