//! `cargo xtask cluster up`: the test bed's control plane in the foreground.

use anyhow::Result;

use crate::step::{cargo, run as run_command};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Start a control plane, print the line that points kubectl at it, and stop it at Ctrl-C.
    Up {
        /// With kube-controller-manager.
        #[arg(long)]
        controller_manager: bool,
        /// With kube-scheduler.
        #[arg(long)]
        scheduler: bool,
        /// With KWOK, which plays nodes labelled `type=kwok`.
        #[arg(long)]
        kwok: bool,
        /// With Volcano (brings kube-controller-manager).
        #[arg(long)]
        volcano: bool,
    },
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Args::Up {
        controller_manager,
        scheduler,
        kwok,
        volcano,
    } = *args;
    let parts = [
        (controller_manager, "controller-manager"),
        (scheduler, "scheduler"),
        (kwok, "kwok"),
        (volcano, "volcano"),
    ];
    let mut command = cargo([
        "run",
        "--quiet",
        "--package",
        "kthena-tests",
        "--bin",
        "kthena-cluster",
        "--",
    ]);
    command.args(
        parts
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, name)| name),
    );
    run_command(&mut command)
}
