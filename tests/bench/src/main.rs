//! The bench: proxies side by side in one run, in front of one mock engine, under one load; and controllers, see [`controller`].
//!
//! `cargo xtask bench` builds it and starts a run. Every proxy has one core to itself; the load generator and the mock engines
//! are elsewhere where there is a second core. Figures are taken in rounds in which the proxies take turns.
//!
//! ```text
//! load ──→ bare pingora │ kthena-proxy │ kthena-proxy, PD │ peers … ──→ mock engines
//!  └───────────────────────────── added latency is measured against ─────────┘
//! ```
//!
//! Figures of one run can be compared with each other; those of different runs, or machines, only as ratios to bare pingora.

mod answer;
mod bare;
mod bed;
mod controller;
mod load;
mod machine;
mod measure;
mod mock;
mod report;
mod request;
mod run;
mod stats;
mod subject;
mod target;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::request::{Answer, Chat};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure all proxies side by side.
    Run(run::Args),
    /// Measure controllers of ModelServings side by side.
    Controller(controller::Args),
    /// The mock engines.
    Mock {
        #[arg(long)]
        listen: Vec<SocketAddr>,
        /// Content events of a stream.
        #[arg(long, default_value_t = 64)]
        events: usize,
    },
    /// Bare pingora in front of one upstream.
    Bare {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
    },
    /// Load on one proxy, for profiling; prints JSON.
    Load {
        #[arg(long)]
        target: SocketAddr,
        #[arg(long, default_value = "bench")]
        model: String,
        /// Bytes of the prompt.
        #[arg(long, default_value_t = 1024)]
        prompt: usize,
        #[arg(long)]
        stream: bool,
        #[arg(long, default_value_t = 16)]
        connections: usize,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// The process group whose CPU time is measured meanwhile.
        #[arg(long)]
        group: Option<u32>,
    },
}

fn main() -> Result<()> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match Args::parse().command {
        Command::Run(args) => runtime()?.block_on(run::run(&args)),
        Command::Controller(args) => runtime()?.block_on(controller::run(&args)),
        Command::Mock { listen, events } => runtime()?.block_on(mock::serve(&listen, events)),
        Command::Bare { listen, upstream } => bare::serve(listen, upstream),
        Command::Load {
            target,
            model,
            prompt,
            stream,
            connections,
            seconds,
            group,
        } => {
            let answer = if stream { Answer::Stream } else { Answer::Json };
            let chat = Chat {
                model: &model,
                prompt,
                answer,
                user: None,
            };
            let plan = load::Plan {
                target,
                request: chat.bytes(target),
                answer,
                connections,
                warmup: Duration::from_millis(500),
                time: Duration::from_secs_f64(seconds),
                group: group.map(machine::Group),
            };
            let outcome = runtime()?.block_on(load::run(&plan))?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }
    }
}
