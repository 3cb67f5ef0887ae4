//! What every request needs: use cases, read models, health checks, settings.

use std::sync::Arc;

use async_trait::async_trait;
use commands::App;
use poem::Request;
use projections::{ReadModels, SystemReads};
use serde_json::Value;

use crate::{
    freshness::LastWrites,
    limits::{Limiter, RateLimits},
    problem::Problem,
};

/// Bytes a body may have.
#[derive(Debug, Clone)]
pub struct BodyLimits {
    /// Routes that take a `spec`: JSON text of a 32 MiB document needs room for its escapes.
    pub spec: usize,
    pub other: usize,
}

/// What an operator can set of the HTTP surface.
#[derive(Debug, Clone)]
pub struct Config {
    pub body: BodyLimits,
    pub rate: RateLimits,
    /// Origins that browsers may call from; empty: none.
    pub cors_origins: Vec<String>,
    /// `Strict-Transport-Security` with this many seconds; `None` leaves it out (plain HTTP, or the proxy's matter).
    pub hsts_seconds: Option<u64>,
    /// How long a read waits for the read model to reach the position it must show.
    pub freshness_wait: std::time::Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body: BodyLimits { spec: 40 * 1024 * 1024, other: 2 * 1024 * 1024 },
            rate: RateLimits::default(),
            cors_origins: Vec::new(),
            hsts_seconds: None,
            freshness_wait: std::time::Duration::from_secs(2),
        }
    }
}

/// A part's answer to "are you well?".
#[derive(Debug, Clone)]
pub struct Health {
    pub healthy: bool,
    /// Public: no addresses, no secrets.
    pub details: Value,
}

/// A part of the service that `GET health` asks (NATS, relay, planner).
#[async_trait]
pub trait HealthCheck: Send + Sync {
    /// The key under `checks`.
    fn name(&self) -> &'static str;
    /// When it is down, is the service down?
    fn required(&self) -> bool;
    async fn check(&self) -> Health;
}

/// Cheap to clone.
#[derive(Clone)]
pub struct ApiState(Arc<Inner>);

struct Inner {
    app: App,
    reads: ReadModels,
    system: SystemReads,
    checks: Vec<Arc<dyn HealthCheck>>,
    config: Config,
    limiter: Limiter,
    last_writes: LastWrites,
}

impl ApiState {
    pub fn new(
        app: App,
        reads: ReadModels,
        system: SystemReads,
        checks: Vec<Arc<dyn HealthCheck>>,
        config: Config,
    ) -> Self {
        let limiter = Limiter::new(config.rate.clone());
        Self(Arc::new(Inner { app, reads, system, checks, config, limiter, last_writes: LastWrites::default() }))
    }

    /// The state that `app` put beside every request.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        request.data::<ApiState>().cloned().ok_or_else(|| Problem::internal("a route outside of the application"))
    }

    pub fn app(&self) -> &App {
        &self.0.app
    }

    pub fn reads(&self) -> &ReadModels {
        &self.0.reads
    }

    /// Over all tenants: for health and operators only.
    pub fn system(&self) -> &SystemReads {
        &self.0.system
    }

    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn checks(&self) -> &[Arc<dyn HealthCheck>] {
        &self.0.checks
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    pub(crate) fn last_writes(&self) -> &LastWrites {
        &self.0.last_writes
    }
}
