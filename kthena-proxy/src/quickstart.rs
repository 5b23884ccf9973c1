//! `kthena-proxy quickstart`: the main job on one machine, with nothing but this program.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use kthena_proxy::config::Quickstart;
use kthena_proxy::server::{Config, Proxy, SourceConfig};
use kthena_proxy::telemetry::access_log::{Format, Sink};
use kthena_sim::{Config as Engine, Connector, Handle, Kind, Role, StartError};

/// The objects, as they stand in the repository.
const MANIFEST: &str = include_str!("../../examples/quickstart/model.yaml");
/// The ports that they name, and whose they are.
const ENGINES: [(Role, u16); 2] = [(Role::Prefill, 18001), (Role::Decode, 18002)];
/// The model as clients know it.
const MODEL: &str = "my-model";
/// How long engines may take to end once the proxy has drained.
const GRACE: Duration = Duration::from_secs(1);

/// Serves the example until `end` resolves, then drains.
pub(crate) async fn run(flags: &Quickstart, end: impl Future<Output = std::io::Result<()>>) -> Result<()> {
    let mut manifest = MANIFEST.to_owned();
    let mut engines = Vec::new();
    for (role, port) in ENGINES {
        let engine = start(role, port).await?;
        let (from, to) = (
            format!("port: {port}\n"),
            format!("port: {}\n", engine.addr().port()),
        );
        manifest = manifest.replace(&from, &to);
        engines.push((role, engine));
    }
    let folder = tempfile::Builder::new()
        .prefix("kthena-quickstart-")
        .tempdir()
        .context("cannot make a folder for the objects")?;
    let file = folder.path().join("model.yaml");
    std::fs::write(&file, manifest).with_context(|| format!("cannot write {}", file.display()))?;

    let proxy = Proxy::start(config(flags, folder.path())?).await?;
    proxy.readiness.synced().await;
    greet(&proxy, &engines, &file);
    end.await?;
    proxy.drain().await;
    for (_, engine) in &engines {
        engine.terminate(GRACE).await;
    }
    Ok(())
}

/// An engine at the port that the objects name, or at a free one where that is taken.
async fn start(role: Role, port: u16) -> Result<Handle> {
    let config = |port| {
        let mut config = Engine {
            listen: loopback(port),
            // A word at a time, at a pace that can be watched.
            decode_tokens_per_second: 50.0,
            ..Engine::default()
        };
        config.kind = Kind::Vllm;
        config.role = role;
        config.connector = Connector::Nixl;
        config
    };
    match kthena_sim::Engine::start(config(port)).await {
        Err(StartError::Bind { .. }) => kthena_sim::Engine::start(config(0)).await,
        started => started,
    }
    .with_context(|| format!("cannot start the {role:?} engine"))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn config(flags: &Quickstart, folder: &Path) -> Result<Config> {
    let access_log =
        Sink::start(Box::new(std::io::stderr()), Format::Text).context("cannot start the access log")?;
    Ok(Config {
        listen: vec![loopback(flags.port)],
        metrics: vec![loopback(flags.metrics_port)],
        debug: loopback(flags.debug_port),
        tls: None,
        source: SourceConfig::Files {
            folder: folder.to_owned(),
            period: Duration::from_secs(1),
        },
        access_log: Some(access_log),
        expose_metrics: false,
        body_limit: 64 << 20,
        drain_timeout: Duration::from_secs(30),
        webhook: None,
    })
}

fn greet(proxy: &Proxy, engines: &[(Role, Handle)], file: &Path) {
    let url = format!("http://{}", proxy.address);
    println!("The model {MODEL:?} is served at {url}/v1 by a prefill and a decode engine. Ask it:\n");
    println!(
        "curl -N {url}/v1/chat/completions -H 'content-type: application/json' -d '{{\"model\": \"{MODEL}\", \"stream\": true, \
         \"messages\": [{{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}}]}}'\n"
    );
    println!("What each engine did:\n");
    for (role, engine) in engines {
        println!("curl {}/sim/stats  # {role:?}", engine.url());
    }
    println!("\nMetrics: http://{}/metrics", proxy.metrics_address);
    println!("Objects, read again when they change: {}", file.display());
    println!("Ctrl-C ends it once the requests in progress are answered.\n");
}
