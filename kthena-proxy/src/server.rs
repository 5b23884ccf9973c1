//! The process: listeners, sources, and an end that waits for requests in progress.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::IntoRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kthena_sdk::process::{Certificate, all_interfaces};
use kthena_sdk::webhook;
use parking_lot::Mutex;
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::server::Fds;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use prometheus_client::registry::Registry;
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::admin::{self, Readiness, Render};
use crate::cluster::index::{Index, View};
use crate::cluster::objects::Update;
use crate::cluster::source::{files::Files, kubernetes};
use crate::cluster::status;
use crate::config::{Args, Source};
use crate::connection::Connections;
use crate::exchange::Exchange;
use crate::service::{InFlight, Service, Shared};
use crate::telemetry::access_log::Sink;
use crate::telemetry::metrics::Metrics;
use crate::tls::ReloadingCertificate;

/// Changes that may wait for the index.
const UPDATES: usize = 4096;
/// After SIGTERM connections are still accepted for this long: what sends them learns of the end a little later.
const LAME_DUCK: Duration = Duration::from_millis(500);
/// How long the API server may be silent: a watch ends by itself after 290 s.
const API_READ_TIMEOUT: Duration = Duration::from_secs(300);
/// How long reviews in progress may take to finish.
const WEBHOOK_GRACE: Duration = Duration::from_secs(30);

/// How to serve, independent of where the settings come from.
pub struct Config {
    /// Address of the inference listener; port 0 takes any.
    pub listen: Vec<SocketAddr>,
    /// Address of `/metrics`.
    pub metrics: Vec<SocketAddr>,
    /// Address of the debug server.
    pub debug: SocketAddr,
    /// Certificate and key of the inference listener.
    pub tls: Option<Certificate>,
    /// Where objects come from.
    pub source: SourceConfig,
    /// The access log.
    pub access_log: Option<Sink>,
    /// Whether the inference listener answers `/metrics`.
    pub expose_metrics: bool,
    /// Largest request body in bytes.
    pub body_limit: usize,
    /// How long requests in progress may take to finish.
    pub drain_timeout: Duration,
    /// The admission webhooks, unless they are off.
    pub webhook: Option<webhook::Config>,
}

/// Where objects come from.
pub enum SourceConfig {
    /// The API server.
    Kubernetes(Box<kube::Client>),
    /// A folder.
    Files {
        /// The folder.
        folder: PathBuf,
        /// How often it is read again.
        period: Duration,
    },
    /// Whoever holds the sender.
    Channel(mpsc::Receiver<Update>),
}

impl Config {
    /// The configuration that flags and environment ask for.
    pub async fn from_args(args: &Args) -> Result<Self> {
        let source = match (args.resource_source, &args.resource_dir) {
            (Source::Kubernetes, _) => {
                let client = api_client(args).await.context("no access to an API server")?;
                SourceConfig::Kubernetes(Box::new(client))
            }
            (Source::File, Some(folder)) => SourceConfig::Files {
                folder: folder.clone(),
                period: args.resource_sync_period,
            },
            (Source::File, None) => bail!("--resource-source=file needs --resource-dir"),
        };
        Ok(Self {
            listen: all_interfaces(args.listen_port()?).to_vec(),
            metrics: all_interfaces(args.metrics_port).to_vec(),
            debug: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.debug_port),
            tls: (args.tls_cert.clone().zip(args.tls_key.clone()))
                .map(|(chain, key)| Certificate { chain, key }),
            source,
            access_log: args.access_log_enabled.then(|| access_log(args)).transpose()?,
            expose_metrics: args.expose_metrics_on_router_port,
            body_limit: args.max_request_body_bytes as usize,
            drain_timeout: args.drain_timeout,
            // Without an API server nobody asks.
            webhook: (args.enable_webhook && args.resource_source == Source::Kubernetes)
                .then(|| webhook_config(args)),
        })
    }
}

/// A client of the API server, no faster than the flags allow.
async fn api_client(args: &Args) -> Result<kube::Client> {
    let mut config = kube::Config::infer().await?;
    // Longer than a watch goes on by itself; without it a connection that died silently is noticed only by TCP.
    config.read_timeout = Some(API_READ_TIMEOUT);
    let builder = kube::client::ClientBuilder::try_from(config)?;
    Ok(match args.kube_api_pace() {
        None => builder.build(),
        Some((requests, period)) => builder
            .with_layer(&tower::limit::RateLimitLayer::new(requests, period))
            .build(),
    })
}

fn webhook_config(args: &Args) -> webhook::Config {
    webhook::Config {
        listen: all_interfaces(args.webhook_port).to_vec(),
        certificate: Certificate {
            chain: args.webhook_tls_cert_file.clone(),
            key: args.webhook_tls_private_key_file.clone(),
        },
        grace: WEBHOOK_GRACE,
        timeout: None,
    }
}

fn access_log(args: &Args) -> Result<Sink> {
    let out: Box<dyn std::io::Write + Send> = match args.access_log_output.as_str() {
        "stdout" => Box::new(std::io::stdout()),
        "stderr" => Box::new(std::io::stderr()),
        path => Box::new(
            std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .with_context(|| format!("cannot open the access log {path}"))?,
        ),
    };
    Sink::start(out, args.access_log_format).context("cannot start the access log")
}

/// A running proxy.
pub struct Proxy {
    /// Where the inference listener is.
    pub address: SocketAddr,
    /// Where `/metrics` is.
    pub metrics_address: SocketAddr,
    /// Where the debug server is.
    pub debug_address: SocketAddr,
    /// What the proxy knows.
    pub view: View,
    /// Whether it is ready.
    pub readiness: Arc<Readiness>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    service: JoinHandle<()>,
    background: Vec<JoinHandle<()>>,
    drain_timeout: Duration,
}

impl Proxy {
    /// Binds the listeners and begins to serve on this runtime.
    pub async fn start(config: Config) -> Result<Self> {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let registry = Arc::new(registry);
        let render: Render = Arc::new(move || {
            let mut text = String::new();
            if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
                tracing::warn!(%error, "metrics cannot be encoded");
            }
            text
        });
        let readiness = Arc::new(Readiness::default());
        let (index, view) = Index::new(metrics.clone(), readiness.clone());
        let shared = Arc::new(Shared {
            snapshot: view.snapshot.clone(),
            exchange: Exchange::default(),
            metrics: metrics.clone(),
            access_log: config.access_log,
            readiness: readiness.clone(),
            in_flight: Arc::new(InFlight::default()),
            body_limit: config.body_limit,
            expose_metrics: config.expose_metrics.then(|| render.clone()),
            none: "none".into(),
            unknown: "unknown".into(),
        });
        let (stop, stopped) = watch::channel(false);
        let mut background = Vec::new();

        let (address, service) = listen(
            &config.listen,
            config.tls,
            shared.clone(),
            stopped.clone(),
            &mut background,
        )
        .await?;
        let (metrics_address, debug_address) = admin::serve(
            &config.metrics,
            config.debug,
            render,
            view.clone(),
            stopped.clone(),
        )?;
        if let Some(config) = config.webhook {
            background.push(tokio::spawn(serve_webhooks(config, stopped)));
        }
        let updates = match config.source {
            SourceConfig::Channel(updates) => updates,
            SourceConfig::Kubernetes(client) => {
                let (sender, updates) = mpsc::channel(UPDATES);
                background.push(tokio::spawn(kubernetes::run(
                    (*client).clone(),
                    metrics.clone(),
                    sender,
                )));
                background.push(tokio::spawn(status::writer::run(*client, view.clone(), metrics)));
                updates
            }
            SourceConfig::Files { folder, period } => {
                let (sender, updates) = mpsc::channel(UPDATES);
                background.push(tokio::spawn(
                    Files::new(folder, period, metrics, readiness.clone()).run(sender),
                ));
                updates
            }
        };
        background.push(tokio::spawn(index.run(updates)));
        Ok(Self {
            address,
            metrics_address,
            debug_address,
            view,
            readiness,
            shared,
            stop,
            service,
            background,
            drain_timeout: config.drain_timeout,
        })
    }

    /// Requests in progress.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.count()
    }

    /// Ends: no longer ready, then no new connections, then it waits for the requests in progress, for as long as the drain
    /// timeout allows. Returns how many were cut.
    pub async fn drain(self) -> usize {
        self.readiness.set_draining();
        let in_flight = self.shared.in_flight.clone();
        tracing::info!(in_flight = in_flight.count(), timeout = ?self.drain_timeout, "draining");
        tokio::time::sleep(LAME_DUCK).await;
        // Nobody to tell is as good.
        let _told = self.stop.send(true);
        let wait = async {
            // The service ends when it has stopped accepting.
            let _ended = self.service.await;
            in_flight.none().await;
        };
        let left = match tokio::time::timeout(self.drain_timeout, wait).await {
            Ok(()) => 0,
            Err(_elapsed) => in_flight.count(),
        };
        self.background.iter().for_each(JoinHandle::abort);
        if left > 0 {
            tracing::warn!(requests = left, "the drain timeout is over; requests are cut");
        }
        left
    }
}

/// Binds the inference listener and runs Pingora's HTTP service on it.
async fn listen(
    addresses: &[SocketAddr],
    tls: Option<Certificate>,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    background: &mut Vec<JoinHandle<()>>,
) -> Result<(SocketAddr, JoinHandle<()>)> {
    let listener = bind(addresses)?;
    let address = listener.local_addr()?;
    // Reads are parsed where they arrive, so a buffer of Pingora's own would only cost memory; a small write buffer joins an
    // answer's head and short body into one packet.
    let mut endpoint = ListenerConfig::tcp(address.to_string()).l4_buffer(L4BufferSettings::new(0, 1460));
    if let Some(files) = tls {
        let certificate = ReloadingCertificate::load(files).await?;
        let mut settings = TlsSettings::intermediate("", "").map_err(|error| anyhow::anyhow!("{error}"))?;
        settings.set_cert_resolver(certificate.clone());
        settings.enable_h2();
        endpoint = endpoint.tls(settings);
        background.push(tokio::spawn(certificate.follow()));
    }
    let mut proxy = HttpProxy::new(Service(shared), Arc::new(ServerConf::default()));
    proxy.handle_init_modules();
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(Duration::from_secs(120));
    proxy.server_options = Some(options);
    let connections = Connections(Arc::new(proxy));
    let mut service = pingora_core::services::listening::Service::new("inference".to_owned(), connections);
    service.add_listener(endpoint);
    let mut fds = Fds::new();
    fds.add(address.to_string(), listener.into_raw_fd());
    let fds = Arc::new(Mutex::new(fds));
    let run = tokio::spawn(async move {
        use pingora_core::services::Service as _;
        service.start_service(Some(fds), stopped, 1).await;
    });
    Ok((address, run))
}

/// Validates what users write, for the API server.
async fn serve_webhooks(config: webhook::Config, mut stopped: watch::Receiver<bool>) {
    tracing::info!(certificate = %config.certificate.chain.display(), "webhooks are served once their certificate is there");
    // An error says that the sender is gone, which ends the webhooks as well.
    let end = async { while !*stopped.borrow() && stopped.changed().await.is_ok() {} };
    if let Err(error) = webhook::serve(config, webhook::networking(), end).await {
        tracing::error!("{:#}", anyhow::Error::new(error));
    }
}

/// Binds the first of the addresses that this machine has.
pub fn bind(addresses: &[SocketAddr]) -> Result<std::net::TcpListener> {
    let mut failed = anyhow::anyhow!("no address to listen on");
    for address in addresses {
        let attempt = || -> std::io::Result<std::net::TcpListener> {
            let socket = if address.is_ipv6() {
                TcpSocket::new_v6()?
            } else {
                TcpSocket::new_v4()?
            };
            socket.set_reuseaddr(true)?;
            socket.bind(*address)?;
            socket.listen(65_535)?.into_std()
        };
        match attempt() {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = anyhow::Error::new(error).context(format!("cannot listen on {address}")),
        }
    }
    Err(failed)
}
