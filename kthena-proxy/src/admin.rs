//! Health, readiness, metrics and dumps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::header;
use axum::routing::get;
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::cluster::index::View;
use crate::server;

mod dump;

/// Renders `/metrics`.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Media type of the Prometheus text that [`Render`] makes.
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the proxy is ready for traffic, and what keeps it from being so.
#[derive(Debug, Default)]
pub struct Readiness {
    synced: watch::Sender<bool>,
    draining: AtomicBool,
    /// What is wrong with the configuration although the proxy serves: the last good state goes on.
    detail: RwLock<Vec<String>>,
}

impl Readiness {
    /// Everything was seen once.
    pub fn set_synced(&self) {
        self.synced.send_replace(true);
    }

    /// The proxy is about to end.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Says what is wrong with the configuration; nothing if the list is empty.
    pub fn set_detail(&self, detail: Vec<String>) {
        *self.detail.write() = detail;
    }

    /// Whether traffic should come.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_synced() && !self.draining.load(Ordering::Acquire)
    }

    fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until everything was seen once.
    pub async fn synced(&self) {
        // The sender lives as long as `self`, so that there is an answer.
        let mut synced = self.synced.subscribe();
        let _seen = synced.wait_for(|synced| *synced).await;
    }

    /// Status and body of `/readyz`.
    #[must_use]
    pub fn answer(&self) -> (u16, Bytes) {
        let message = if self.draining.load(Ordering::Acquire) {
            "router is shutting down"
        } else if self.is_synced() {
            "router is ready"
        } else {
            "router is not ready"
        };
        let status = if self.is_ready() { 200 } else { 503 };
        let detail = self.detail.read();
        let body = if detail.is_empty() {
            serde_json::json!({ "message": message })
        } else {
            serde_json::json!({ "message": message, "detail": *detail })
        };
        (status, body.to_string().into())
    }
}

/// Serves `/metrics` and the debug dumps on a thread of their own, so that they answer however busy the workers are. Returns
/// their addresses.
pub fn serve(
    metrics: &[SocketAddr],
    debug: SocketAddr,
    render: Render,
    view: View,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let metrics = server::bind(metrics)?;
    let debug = server::bind(&[debug])?;
    let addresses = (metrics.local_addr()?, debug.local_addr()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async move {
            let page = move || std::future::ready(([(header::CONTENT_TYPE, METRICS_TYPE)], render()));
            let metrics = run(metrics, Router::new().route("/metrics", get(page)));
            let debug = run(debug, dump::router(view));
            tokio::select! {
                ended = metrics => tracing::error!(?ended, "the metrics server ended"),
                ended = debug => tracing::error!(?ended, "the debug server ended"),
                // Metrics stay readable while requests are drained: this thread ends with the process.
                () = async { while stopped.changed().await.is_ok() {} } => {}
            }
        });
    })?;
    Ok(addresses)
}

async fn run(listener: std::net::TcpListener, router: Router) -> std::io::Result<()> {
    axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await
}
