//! `cargo xtask bench`: the proxy beside bare pingora and other routers, in one run.

use std::{ffi::OsString, path::PathBuf, process::Command};

use anyhow::Result;

use crate::step::{binaries, cargo, run as run_command};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
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
    let build = [
        "build",
        "--release",
        "--quiet",
        "--package",
        "kthena-proxy",
        "--package",
        "kthena-bench",
    ];
    run_command(&mut cargo(build))?;
    let programs = binaries("release")?;
    let mut bench = Command::new(programs.join("kthena-bench"));
    bench.arg("run").arg("--proxy").arg(programs.join("kthena-proxy"));
    if let Some(names) = &args.peers {
        let names = names.iter().map(|names| format!("={names}"));
        bench.arg(format!("--peers{}", names.collect::<String>()));
    }
    if args.quick {
        bench.args(["--extent", "quick"]);
    }
    if args.check {
        bench.arg("--check");
    }
    if let Some(path) = &args.out {
        bench.arg("--out").arg(path);
    }
    run_command(bench.args(&args.more))
}
