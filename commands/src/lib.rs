//! Use cases: load, decide, append. One use case a file; no egress.
//!
//! What must ask the outside while a client waits (a test call, a plan) is a port here, implemented in `executors`.

pub mod api_key;
pub mod auth;
pub mod chat;
mod clock;
pub mod connection;
pub mod connector;
mod context;
pub mod credential;
mod credential_value;
pub mod document_cache;
pub mod execution;
mod failure;
pub mod idempotency;
pub mod oauth;
pub mod open;
pub mod operation;
pub mod organization;
pub mod ports;
pub mod secret;
mod specs;
mod store_value;
mod stored_credential;
pub mod unit;
mod waiters;
pub mod webhook;
pub mod workflow;
pub mod workspace_key;

use std::sync::Arc;

use chrono::TimeDelta;
pub use context::{Context, RequestInfo};
pub use event_store::Claim;
use event_store::EventStore;
pub use failure::{Done, Failure, Outcome};
pub use store_value::store_value;
pub use stored_credential::sweep;
use vault::Vault;

use crate::{connection::Gates, ports::Ports, specs::Specs, waiters::Waiters};

/// What an operator can set of the use cases.
#[derive(Debug, Clone)]
pub struct Settings {
    pub access_token_life: TimeDelta,
    pub refresh_token_life: TimeDelta,
    /// Bytes an uploaded document may have.
    pub spec_max_bytes: usize,
    /// For how long a deleted secret can be restored.
    pub secret_retention: TimeDelta,
    /// Where browsers find this service, without a slash at the end: OAuth providers send people back there.
    pub public_url: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            access_token_life: TimeDelta::minutes(15),
            refresh_token_life: TimeDelta::days(30),
            spec_max_bytes: 32 * 1024 * 1024,
            secret_retention: TimeDelta::days(7),
            public_url: None,
        }
    }
}

/// Everything a use case needs. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    store: EventStore,
    vault: Vault,
    settings: Settings,
    ports: Ports,
    specs: Specs,
    waiters: Waiters,
    gates: Gates,
    renewals: oauth::Renewals,
}

impl App {
    pub fn new(store: EventStore, vault: Vault, settings: Settings, ports: Ports) -> Self {
        let (specs, waiters, gates, renewals) = Default::default();
        Self(Arc::new(Inner { store, vault, settings, ports, specs, waiters, gates, renewals }))
    }

    pub fn store(&self) -> &EventStore {
        &self.0.store
    }

    pub fn vault(&self) -> &Vault {
        &self.0.vault
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.0.ports
    }

    pub(crate) fn gates(&self) -> &Gates {
        &self.0.gates
    }

    pub(crate) fn specs(&self) -> &Specs {
        &self.0.specs
    }

    pub(crate) fn renewals(&self) -> &oauth::Renewals {
        &self.0.renewals
    }

    /// Who waits for the end of an execution; executors of this node report here.
    pub fn waiters(&self) -> &Waiters {
        &self.0.waiters
    }
}
