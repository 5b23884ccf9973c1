//! `kthena-proxy` as a process, run as a pod of its own would run: with the permissions of a service account.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use kthena_tests::{cluster::Cluster, proxy::Proxy};
//!
//! let cluster = Cluster::shared().await?;
//! let space = cluster.namespace("routing").await?;
//! let proxy = Proxy::on(cluster, &space).await?;
//! println!("{}/chat/completions answers", proxy.base());
//! # Ok(())
//! # }
//! ```
//!
//! A proxy watches all namespaces. Tests that share a cluster therefore give their routes different model names, for which
//! the name of the test's namespace is handy.

mod builder;
mod view;

use std::{process::ExitStatus, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

pub use self::builder::Builder;
use crate::{
    cluster::{Cluster, Identity, Namespace},
    http,
    process::Process,
    reserve::Port,
    wait,
};

/// The permissions that the proxy needs, as a ClusterRole called [`ROLE_NAME`].
pub const ROLE: &str = include_str!("proxy/role.yaml");
/// The name of [`ROLE`], and of the service accounts that [`Proxy::account`] makes.
pub const ROLE_NAME: &str = "kthena-proxy";

/// A running proxy. Dropping it kills it.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    /// Inference, metrics, debugging.
    ports: [Port; 3],
}

impl Proxy {
    /// A proxy that is ready, under an account of the namespace that may do what [`ROLE`] says.
    pub async fn on(cluster: &Cluster, space: &Namespace) -> Result<Self> {
        let mut proxy = Self::builder(&Self::account(cluster, space).await?)
            .start()
            .await?;
        proxy.until_ready().await?;
        Ok(proxy)
    }

    /// The choice of settings; the proxy finds its API server through the identity's kubeconfig.
    pub fn builder(identity: &Identity) -> Builder {
        Builder::new(identity.kubeconfig())
    }

    /// A service account of the namespace that may do what [`ROLE`] says.
    pub async fn account(cluster: &Cluster, space: &Namespace) -> Result<Identity> {
        cluster.apply(ROLE).await?;
        Self::bound(cluster, space, ROLE_NAME).await
    }

    /// A service account of the namespace that may do, in the whole cluster, what a ClusterRole says.
    pub async fn bound(cluster: &Cluster, space: &Namespace, role: &str) -> Result<Identity> {
        let account = cluster.service_account(space.name(), ROLE_NAME).await?;
        let namespace = space.name();
        let binding = format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {{name: {role}-{namespace}}},
              roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}},
              subjects: [{{kind: ServiceAccount, name: {ROLE_NAME}, namespace: {namespace}}}]}}"
        );
        cluster.apply(&binding).await?;
        Ok(account)
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        self.at(0)
    }

    /// What OpenAI clients call their base URL.
    pub fn base(&self) -> String {
        format!("{}/v1", self.url())
    }

    fn at(&self, port: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[port].number())
    }

    /// Status and body of `/readyz`; an error if nobody listens.
    pub async fn readiness(&self) -> Result<http::Answer> {
        http::get(&self.readiness_url()).await
    }

    fn readiness_url(&self) -> String {
        format!("{}/readyz", self.url())
    }

    /// Waits until it says that it is ready. Fails at once when it has ended.
    pub async fn until_ready(&mut self) -> Result<()> {
        let url = self.readiness_url();
        let is_ready = || async { Ok((http::get(&url).await?.status == 200).then_some(())) };
        self.process.until("the proxy to be ready", is_ready).await
    }

    /// The page of metrics.
    pub async fn metrics(&self) -> Result<String> {
        Ok(http::get(&format!("{}/metrics", self.at(1))).await?.text())
    }

    /// The sum of all series whose name and labels contain every one of the texts, once no request is in progress: a client may
    /// have the whole of its answer before the proxy counts the request.
    pub async fn settled_metric(&self, parts: &[&str]) -> Result<f64> {
        // The gauge for single models falls before the request is counted, this one afterwards.
        let active = || async {
            Ok(values(
                &self.metrics().await?,
                &["kthena_router_active_requests "],
            ))
        };
        let is_none = |active: &Vec<f64>| *active == [0.0];
        wait::until_value("the end of all requests", active, is_none).await?;
        // Of one page the gauge may be younger than the counters.
        Ok(values(&self.metrics().await?, parts).iter().sum())
    }

    /// What it has printed: the access log and the log of events.
    pub fn log(&self) -> Result<String> {
        let path = self.process.log();
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
    }

    /// The last lines of it, for errors.
    pub fn tail(&self) -> String {
        self.process.tail()
    }

    /// An error with the end of its log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// SIGTERM without waiting for the end.
    pub fn terminate(&mut self) {
        self.process.signal(Signal::SIGTERM);
    }

    /// SIGTERM, and its end, which must come by itself within `grace`.
    pub async fn stop(mut self, grace: Duration) -> ExitStatus {
        self.process.stop(grace).await
    }
}

/// The values of all series on a page of metrics whose name and labels contain every one of the texts.
fn values(page: &str, parts: &[&str]) -> Vec<f64> {
    let series = page
        .lines()
        .filter(|line| !line.starts_with('#') && parts.iter().all(|part| line.contains(part)));
    series
        .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
        .collect()
}
