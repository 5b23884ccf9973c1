//! `kthena-proxy`.

use anyhow::{Context, Result};
use clap::Parser;
use kthena_proxy::config::{self, Args, Cli, Command};
use kthena_proxy::server::{Config, Proxy};
use kthena_sdk::process::terminated;

mod quickstart;

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
    match &cli.command {
        Some(Command::Quickstart(flags)) => run(0, quickstart::run(flags, terminated())),
        None => {
            let args = cli.args.finish(config::environment)?;
            config::file::check(config::file::PATH.as_ref())?;
            run(args.workers, serve(&args))
        }
    }
}

/// Runs to the end, on this many workers; 0 for one a core.
fn run(workers: usize, main: impl Future<Output = Result<()>>) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all();
    if workers > 0 {
        runtime.worker_threads(workers);
    }
    let runtime = runtime.build().context("cannot start the runtime")?;
    runtime.block_on(main)?;
    // What is still running is what the drain timeout cut.
    runtime.shutdown_background();
    Ok(())
}

async fn serve(args: &Args) -> Result<()> {
    let proxy = Proxy::start(Config::from_args(args).await?).await?;
    tracing::info!(address = %proxy.address, metrics = %proxy.metrics_address, "listening");
    terminated().await.context("cannot handle signals")?;
    proxy.drain().await;
    Ok(())
}
