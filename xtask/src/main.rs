//! Code generation, checks, tests and measuring: `cargo xtask --help`.

mod bench;
mod check;
mod cluster;
mod codegen;
mod real_engines;
mod step;
mod test;
mod tools;

use clap::Parser;

#[derive(Debug, Parser)]
enum Args {
    /// Measure the proxy beside bare pingora and other routers, or the controller beside the one written in Go.
    Bench(bench::Args),
    /// Check formatting, lints, documentation, features, dependencies and generated files; run nothing.
    Check,
    /// Generate what is generated: the CRDs, the roles of the controller manager, and with --openapi the embedded types of Kubernetes.
    Codegen(codegen::Args),
    /// A control plane for manual use.
    #[command(subcommand)]
    Cluster(cluster::Args),
    /// Check everything, install what the tests need, and run them all, except those with real engines.
    Test(test::Args),
    /// Build the Go programs that the tests use, and say where they are.
    Tools(tools::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse() {
        Args::Bench(args) => bench::run(&args),
        Args::Check => check::run(),
        Args::Cluster(args) => cluster::run(&args),
        Args::Codegen(args) => codegen::run(&args),
        Args::Test(args) => test::run(&args),
        Args::Tools(args) => tools::run(&args),
    }
}
