//! Clients of the API server.

use std::time::Duration;

use anyhow::{Context, Result};
use kthena_sdk::kube::client::ClientBuilder;
use kthena_sdk::kube::config::{KubeConfigOptions, Kubeconfig};
use kthena_sdk::kube::{self, Client};
use tower::util::option_layer;

use crate::args::Args;
use crate::telemetry::Metrics;

mod throttle;

use throttle::Throttle;

/// How long the API server may be silent: a watch ends by itself after 290 s.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// Where a pod finds its namespace.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Clients of the API server.
pub(crate) struct Clients {
    /// For all work; slowed down as told.
    pub(crate) work: Client,
    /// For the Lease, which must not wait behind the rest.
    pub(crate) lease: Client,
    /// The namespace of this process's own objects.
    pub(crate) namespace: String,
}

impl Clients {
    pub(crate) async fn connect(args: &Args, metrics: &Metrics) -> Result<Self> {
        let config = config(args).await?;
        let namespace = match args.pod_namespace() {
            Some(namespace) => namespace.to_owned(),
            None => match tokio::fs::read_to_string(NAMESPACE).await {
                Ok(namespace) => namespace.trim().to_owned(),
                Err(_not_in_a_pod) => config.default_namespace.clone(),
            },
        };
        let throttle = option_layer(args.kube_api_pace().map(Throttle::new));
        let work = ClientBuilder::try_from(config.clone())?.with_layer(&throttle);
        Ok(Self {
            work: work.with_layer(&metrics.requests()).build(),
            lease: ClientBuilder::try_from(config)?
                .with_layer(&metrics.requests())
                .build(),
            namespace,
        })
    }
}

async fn config(args: &Args) -> Result<kube::Config> {
    let master = args
        .master()
        .map(|url| url.parse::<http::Uri>().context("--master is no URL"));
    let master = master.transpose()?;
    let mut config = match (args.kubeconfig(), &master) {
        (Some(file), _) => {
            let kubeconfig = Kubeconfig::read_from(file).context("cannot read --kubeconfig")?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        (None, Some(master)) => kube::Config::new(master.clone()),
        (None, None) => kube::Config::infer()
            .await
            .context("no access to an API server")?,
    };
    if let Some(master) = master {
        config.cluster_url = master;
    }
    // Longer than a watch goes on by itself; without it a connection that died silently is noticed only by TCP.
    config.read_timeout = Some(READ_TIMEOUT);
    Ok(config)
}
