//! Figures for operators, in Prometheus' text format, on a listener of their own (`APIQ_METRICS_LISTEN`).
//!
//! Any crate may count with the `metrics` macros; without the setting nothing is installed and they cost nothing. What
//! has to be asked for (lag, pools, memory) is sampled by `sample`, which runs in every node: it also warns when a
//! transaction is open for too long.

mod sample;

use std::net::SocketAddr;

use anyhow::Context as _;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use poem::{
    Endpoint, EndpointExt as _, Response, Route, Server, get, handler,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    listener::TcpAcceptor,
    web::Data,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use sample::{Pools, Sampler};

/// Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A bound listener with the recorder behind it; not served yet.
pub struct Exposition {
    listener: TcpListener,
    handle: PrometheusHandle,
}

impl Exposition {
    /// Listens on `address` and makes every counter from here on count. `None` does nothing.
    ///
    /// # Errors
    /// The address is taken or not one of this machine's.
    pub async fn start(address: Option<SocketAddr>) -> anyhow::Result<Option<Exposition>> {
        let Some(address) = address else { return Ok(None) };
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("cannot listen on {address}; change APIQ_METRICS_LISTEN"))?;
        let handle = PrometheusBuilder::new().install_recorder().context("the metrics cannot be recorded")?;
        tracing::info!(url = format!("http://{}/metrics", listener.local_addr()?), "metrics");
        Ok(Some(Exposition { listener, handle }))
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What keeps the recorder tidy: called by the sampler.
    pub fn handle(&self) -> PrometheusHandle {
        self.handle.clone()
    }

    /// Serves `GET /metrics` until `shutdown`. Readers' trouble is theirs: a node does not stop for want of metrics.
    pub async fn serve(self, shutdown: CancellationToken) {
        let served = match TcpAcceptor::from_tokio(self.listener) {
            Ok(acceptor) => {
                let asked = shutdown.clone();
                let server = Server::new_with_acceptor(acceptor);
                let app = app(self.handle);
                server.run_with_graceful_shutdown(app, async move { asked.cancelled().await }, None).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            tracing::error!(%error, "metrics are not served any more");
        }
        shutdown.cancelled().await;
    }
}

fn app(handle: PrometheusHandle) -> impl Endpoint {
    Route::new().at("/metrics", get(render)).data(handle)
}

#[handler]
fn render(handle: Data<&PrometheusHandle>) -> Response {
    Response::builder().header(CONTENT_TYPE, TEXT).header(CACHE_CONTROL, "no-store").body(handle.render())
}
