//! The Kthena controller manager: what it decides is in `kthena-sdk`, and this puts it together.
//!
//! It runs the controller of ModelServings and serves the admission webhooks for workloads. Further controllers follow.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kthena_sdk::kube::Client;
use kthena_sdk::leader_worker_set;
use kthena_sdk::model_serving::{self, plugin::Registry};
use kthena_sdk::process::terminated;
use tokio::task::{JoinError, JoinSet};

mod args;
mod client;
mod lead;
mod selection;
mod serve;
mod stop;
mod telemetry;
mod webhook;

use args::Args;
use client::Clients;
use lead::Term;
use selection::Controller;
use serve::Shown;
use stop::{Stop, Stopped};
use telemetry::{Metrics, Phase, Readiness};

/// Watches and requests allocate and free much.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long the tasks of the process may take to end: the controllers' grace, and a moment to release the Lease.
const GRACE: Duration = Duration::from_secs(15);

/// What the controllers have in common.
struct Shared {
    client: Client,
    workers: u16,
    metrics: Metrics,
    readiness: Readiness,
    shown: Shown,
    stopped: Stopped,
}

#[tokio::main]
async fn main() -> ExitCode {
    let (args, flags) = Args::read();
    telemetry::log::init(args.verbosity);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), flags, "starting");
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    // Two TLS providers are compiled in, so rustls cannot choose one.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        bail!("a TLS provider is installed already");
    }
    for flag in args.without_effect() {
        tracing::warn!(flag, "it has no effect here: the log goes to stderr");
    }
    let controllers = selection::chosen(&args.controllers)?;
    if controllers.is_empty() {
        tracing::warn!(list = args.controllers, "no controller is to run");
    }
    let (metrics, readiness, shown) = (Metrics::default(), Readiness::default(), Shown::default());
    let clients = Clients::connect(&args, &metrics).await?;
    let stop = Stop::default();

    // These answer to the very end.
    let mut servers = JoinSet::new();
    if let addresses @ [_, ..] = &args.metrics_bind_address.0[..] {
        let (addresses, metrics, readiness) = (addresses.to_vec(), metrics.clone(), readiness.clone());
        servers.spawn(async move { serve::health(&addresses, metrics, readiness).await });
    }
    if args.debug_port > 0 {
        servers.spawn(serve::debug(args.debug_port, shown.clone()));
    }

    let mut tasks = JoinSet::new();
    if args.enable_webhook {
        readiness.await_webhooks();
        tasks.spawn(webhook::serve(
            args.clone(),
            clients.work.clone(),
            clients.namespace.clone(),
            readiness.clone(),
            stop.stopped(),
        ));
    }
    let shared = Shared {
        client: clients.work,
        workers: args.workers,
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        shown,
        stopped: stop.stopped(),
    };
    let term = Term {
        election: args.leader_elect.then_some((clients.lease, clients.namespace)),
        controllers: controllers.len(),
        start: move || start(&controllers, &shared),
        metrics,
        readiness: readiness.clone(),
    };
    tasks.spawn(term.run(stop.stopped()));

    // The process cannot do its work without any of them.
    let ended = tokio::select! {
        ended = terminated() => ended.context("cannot handle signals"),
        Some(ended) = tasks.join_next() => early(ended),
        Some(ended) = servers.join_next() => early(ended),
    };
    readiness.set(Phase::Ending);
    stop.now();
    let rest = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, rest).await.is_err() {
        tracing::warn!("not everything ended in time");
    }
    ended
}

/// Starts controllers. They end once the process is to end.
fn start(controllers: &[Controller], shared: &Shared) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for controller in controllers {
        let observer = shared
            .metrics
            .observer(controller.name(), shared.readiness.clone());
        match controller {
            Controller::ModelServing => {
                let controller = model_serving::controller::Controller::new(
                    shared.client.clone(),
                    shared.workers,
                    Registry::built_in(),
                    observer,
                );
                // Controllers start once.
                let _first = shared.shown.set(controller.view());
                tasks.spawn(controller.run(shared.stopped.clone().wait()));
                tasks.spawn(until(
                    shared.stopped.clone(),
                    leader_worker_set::controller::run(shared.client.clone()),
                ));
            }
            // They are not part of this version.
            Controller::ModelBooster | Controller::Autoscaler => {}
        }
    }
    tasks
}

/// Runs something that may stop anywhere.
async fn until(stopped: Stopped, task: impl Future<Output = ()>) {
    tokio::select! {
        () = stopped.wait() => {}
        () = task => {}
    }
}

/// What a task says that ended although nobody had asked for it.
fn early(ended: Result<Result<()>, JoinError>) -> Result<()> {
    ended.context("a task broke")??;
    bail!("a task ended before its time")
}
