//! `cargo xtask bench`: the proxy beside bare pingora and other routers, in one run. `cargo xtask bench controller`: the controller
//! beside the one written in Go.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::step::{binaries, cargo, run as run_command};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    proxy: Proxy,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Measure the controller of ModelServings beside the one written in Go, each on a control plane of its own.
    Controller(Controller),
}

#[derive(Debug, clap::Args)]
struct Controller {
    /// One round instead of three.
    #[arg(long)]
    quick: bool,
    /// Fail where the controller misses a target.
    #[arg(long)]
    check: bool,
    /// Write everything that was measured to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// More for the bench itself; `cargo xtask bench controller -- --help` lists it.
    #[arg(last = true)]
    more: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
struct Proxy {
    /// Compare with other routers too, and install those that are missing into the cache: all, or `--peers=nginx,reference`.
    #[arg(long, value_name = "NAMES", num_args = 0..=1, require_equals = true)]
    peers: Option<Option<String>>,
    /// Fewer and shorter rounds, and fewer open streams.
    #[arg(long)]
    quick: bool,
    /// Fail where the proxy misses a target.
    #[arg(long)]
    check: bool,
    /// Write everything that was measured to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// More for the bench itself; `cargo xtask bench -- --help` lists it.
    #[arg(last = true)]
    more: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        None => proxy(&args.proxy),
        Some(What::Controller(args)) => controller(args),
    }
}

fn proxy(args: &Proxy) -> Result<()> {
    let programs = build("kthena-proxy")?;
    let mut bench = Command::new(programs.join("kthena-bench"));
    bench.arg("run").arg("--proxy").arg(programs.join("kthena-proxy"));
    if let Some(names) = &args.peers {
        let names = names.iter().map(|names| format!("={names}"));
        bench.arg(format!("--peers{}", names.collect::<String>()));
    }
    if args.quick {
        bench.args(["--extent", "quick"]);
    }
    finish(bench, args.check, args.out.as_deref(), &args.more)
}

fn controller(args: &Controller) -> Result<()> {
    let programs = build("kthena-controller")?;
    let mut bench = Command::new(programs.join("kthena-bench"));
    bench.arg("controller");
    bench.arg("--controller").arg(programs.join("kthena-controller"));
    if args.quick {
        bench.args(["--rounds", "1"]);
    }
    finish(bench, args.check, args.out.as_deref(), &args.more)
}

/// Builds the bench and what it measures as they would be shipped, and says where they are.
fn build(package: &str) -> Result<PathBuf> {
    let build = [
        "build",
        "--release",
        "--quiet",
        "--package",
        package,
        "--package",
        "kthena-bench",
    ];
    run_command(&mut cargo(build))?;
    binaries("release")
}

fn finish(mut bench: Command, check: bool, out: Option<&Path>, more: &[OsString]) -> Result<()> {
    if check {
        bench.arg("--check");
    }
    if let Some(path) = out {
        bench.arg("--out").arg(path);
    }
    run_command(bench.args(more))
}
