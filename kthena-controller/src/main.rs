//! The Kthena controller manager: what it decides is in `kthena-sdk`, and this puts it together.
//!
//! It runs the controller of ModelServings and serves the admission webhooks for workloads. Further controllers follow.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{ArgAction, Parser};
use futures::FutureExt;
use kthena_sdk::kube::config::{KubeConfigOptions, Kubeconfig};
use kthena_sdk::kube::{self, Client};
use kthena_sdk::model_serving;
use kthena_sdk::process::{Certificate, all_interfaces, terminated};
use kthena_sdk::webhook::{self, Config};
use tokio::sync::watch;
use tokio::task::JoinSet;

mod selection;

use selection::Controller;

/// Watches and requests allocate and free much.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long the API server may be silent: a watch ends by itself after 290 s.
const API_READ_TIMEOUT: Duration = Duration::from_secs(300);

/// How long reviews in progress may take once the process is to end.
const GRACE: Duration = Duration::from_secs(5);

/// The Kthena controller manager.
#[derive(Debug, Parser)]
#[command(name = "kthena-controller", version)]
struct Args {
    /// Where the API server is and who we are: a kubeconfig file. Without it: the pod's own account, `KUBECONFIG`, or `~/.kube/config`.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// URL of the API server, in place of the one found otherwise.
    #[arg(long, value_name = "URL")]
    master: Option<http::Uri>,
    /// ModelServings that are worked on at a time.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
    /// Controllers to run: names, or `*` for all, `-name` for all but one.
    #[arg(long, default_value = "*", allow_hyphen_values = true)]
    controllers: String,
    /// Serve the admission webhooks for workloads, once their certificate files exist.
    #[arg(long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", overrides_with = "enable_webhook")]
    enable_webhook: bool,
    /// Port of the webhooks.
    #[arg(long, default_value_t = 8443, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Certificate chain (PEM) of the webhooks. It is read again when it changes.
    #[arg(long, default_value = "/etc/tls/tls.crt")]
    tls_cert_file: PathBuf,
    /// Private key (PEM) of the webhooks.
    #[arg(long, default_value = "/etc/tls/tls.key")]
    tls_private_key_file: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    // Two TLS providers are compiled in, so rustls cannot choose one.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("a TLS provider is installed already");
    }
    let args = Args::parse();
    let client = client(&args).await?;
    let (stop, mut stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for controller in selection::enabled(&args.controllers) {
        match controller {
            Controller::ModelServing => {
                tasks.spawn(model_serving::controller::run(client.clone(), args.workers).map(Ok));
            }
            // They are not part of this version.
            Controller::ModelBooster | Controller::Autoscaler => {}
        }
    }
    if args.enable_webhook {
        // An error says that the sender is gone, which ends the webhooks as well.
        let end = async move { while !*stopped.borrow() && stopped.changed().await.is_ok() {} };
        tasks.spawn(serve_webhooks(args, end));
    }
    tokio::select! {
        ended = terminated() => ended.context("cannot handle signals")?,
        // The process cannot do its work without any of them.
        Some(ended) = tasks.join_next() => ended.context("a task broke")??,
    }
    // Nobody to tell is as good.
    let _told = stop.send(true);
    // The webhooks finish what they have begun; controllers may stop anywhere.
    tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} })
        .await
        .ok();
    Ok(())
}

/// A client of the API server.
async fn client(args: &Args) -> Result<Client> {
    let mut config = match (&args.kubeconfig, &args.master) {
        (Some(file), _) => {
            let kubeconfig = Kubeconfig::read_from(file).context("cannot read --kubeconfig")?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
        }
        (None, Some(master)) => kube::Config::new(master.clone()),
        (None, None) => kube::Config::infer()
            .await
            .context("no access to an API server")?,
    };
    if let Some(master) = &args.master {
        config.cluster_url = master.clone();
    }
    // Longer than a watch goes on by itself; without it a connection that died silently is noticed only by TCP.
    config.read_timeout = Some(API_READ_TIMEOUT);
    Ok(Client::try_from(config)?)
}

async fn serve_webhooks(args: Args, end: impl Future<Output = ()>) -> Result<()> {
    let config = Config {
        listen: all_interfaces(args.port).to_vec(),
        certificate: Certificate {
            chain: args.tls_cert_file,
            key: args.tls_private_key_file,
        },
        grace: GRACE,
    };
    Ok(webhook::serve(config, webhook::workload(), end).await?)
}
