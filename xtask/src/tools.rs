//! `cargo xtask tools`: the Go programs of the test bed.

use anyhow::Result;
use kthena_tests::tools::{self, Group};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that only benchmarks and takeover tests use.
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for (name, path) in build(args.all)? {
        println!("{name}\t{path}");
    }
    Ok(())
}

/// Builds what is missing, and names all with their paths.
pub(crate) fn build(all: bool) -> Result<Vec<(&'static str, String)>> {
    let wanted = tools::ALL
        .iter()
        .filter(|tool| all || tool.group() == Group::Tests);
    wanted
        .map(|tool| Ok((tool.name, tool.ensure()?.path.display().to_string())))
        .collect()
}
