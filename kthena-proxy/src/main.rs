//! `kthena-proxy`.

use anyhow::{Context, Result};
use clap::Parser;
use kthena_proxy::config::Cli;
use kthena_proxy::server::{Config, Proxy};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<()> {
    // Two TLS providers are compiled in, so rustls cannot choose one.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("a TLS provider is installed already");
    }
    let cli = Cli::parse();
    kthena_proxy::telemetry::log::init(cli.args.verbosity);
    let args = cli.args.finish(kthena_proxy::config::environment)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all();
    if args.workers > 0 {
        runtime.worker_threads(args.workers);
    }
    let runtime = runtime.build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let config = Config::from_args(&args).await?;
        let proxy = Proxy::start(config).await?;
        tracing::info!(address = %proxy.address, metrics = %proxy.metrics_address, "listening");
        terminated().await?;
        proxy.drain().await;
        anyhow::Ok(())
    })?;
    // What is still running is what the drain timeout cut.
    runtime.shutdown_background();
    Ok(())
}

/// Resolves on SIGTERM or Ctrl-C.
async fn terminated() -> Result<()> {
    let mut term = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
