//! The simulator as a program: flags in, one JSON line with its addresses out, SIGTERM ends it.

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use kthena_sim::{Config, Engine};
use serde_json::json;
use tracing_subscriber::EnvFilter;

/// Simulates one vLLM or SGLang engine.
#[derive(Debug, Parser)]
#[command(name = "kthena-sim", version)]
struct Args {
    #[command(flatten)]
    engine: Config,
    /// How long requests in flight may take after SIGTERM, in seconds.
    #[arg(long, default_value_t = 30)]
    grace_seconds: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .init();
    let args = Args::parse();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("SIGTERM cannot be caught")?;
    let engine = Engine::start(args.engine).await?;
    let ready = json!({
        "listen": engine.addr(),
        "admin": engine.admin_addr(),
        "side_channel": engine.side_channel_addr(),
        "store": engine.store_addr(),
        "engine_id": engine.engine_id(),
    });
    println!("{ready}");
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("SIGINT cannot be caught")?,
        () = engine.ended() => anyhow::bail!("the engine has died"),
    }
    engine.terminate(Duration::from_secs(args.grace_seconds)).await;
    Ok(())
}
