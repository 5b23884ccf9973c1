//! The bench: proxies side by side in one run, in front of one mock engine, under one load.

mod bare;
mod load;
mod mock;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The mock engine.
    Mock {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long, default_value_t = 64)]
        events: usize,
        #[arg(long)]
        hold: bool,
    },
    /// Bare pingora in front of one upstream.
    Bare {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
    },
    /// Load on one proxy; prints a JSON line.
    Load {
        #[arg(long)]
        target: SocketAddr,
        #[arg(long, default_value_t = 1024)]
        bytes: usize,
        #[arg(long)]
        stream: bool,
        #[arg(long, default_value_t = 16)]
        connections: usize,
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Measure the CPU time of this process meanwhile.
        #[arg(long)]
        pid: Option<u32>,
    },
}

fn main() -> Result<()> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match Args::parse().command {
        Command::Mock { listen, events, hold } => {
            runtime()?.block_on(mock::serve(listen, mock::Shape { events, hold }))
        }
        Command::Bare { listen, upstream } => bare::serve(listen, upstream),
        Command::Load {
            target,
            bytes,
            stream,
            connections,
            seconds,
            pid,
        } => runtime()?.block_on(async move {
            let plan = load::Plan {
                target,
                request: load::chat(target, bytes, stream),
                connections,
                time: Duration::from_secs_f64(seconds),
                warmup: Duration::from_millis(500),
            };
            let before = pid.map(cpu_ns).transpose()?;
            let begun = tokio::time::Instant::now();
            let outcome = load::run(&plan).await?;
            let all = begun.elapsed().as_secs_f64();
            println!("{}", serde_json::to_string(&outcome)?);
            if let (Some(pid), Some(before)) = (pid, before) {
                let used = cpu_ns(pid)? - before;
                let requests = outcome.requests as f64 * all / outcome.seconds;
                println!("cpu_us_per_request {:.1}", used as f64 / 1000.0 / requests);
            }
            Ok(())
        }),
    }
}

/// CPU time of a process, all threads, in nanoseconds.
fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().unwrap_or("0").parse::<u64>()?;
    }
    Ok(sum)
}
