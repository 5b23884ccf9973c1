//! A control plane for manual use: `cargo xtask cluster up`.

use anyhow::{Context, Result, bail};
use kthena_tests::{
    cluster::{Builder, Cluster},
    stopwatch::Stopwatch,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut parts = Cluster::builder();
    for argument in std::env::args().skip(1) {
        parts = add(parts, &argument)?;
    }
    let clock = Stopwatch::start();
    let cluster = parts.start().await?;
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    eprintln!(
        "{} is ready after {:.1?}; Ctrl-C stops it",
        cluster.url(),
        clock.elapsed()
    );
    tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")?;
    Ok(())
}

fn add(parts: Builder, part: &str) -> Result<Builder> {
    Ok(match part {
        "controller-manager" => parts.controller_manager(),
        "scheduler" => parts.scheduler(),
        "kwok" => parts.kwok(),
        "volcano" => parts.volcano(),
        _ => bail!("there is no part called {part}"),
    })
}
