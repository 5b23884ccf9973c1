//! Code generation, checks and tests.

mod codegen;

use clap::Parser;

#[derive(Debug, Parser)]
enum Args {
    /// Generate what is generated: the CRDs, and with --openapi the embedded types of Kubernetes.
    Codegen(codegen::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse() {
        Args::Codegen(args) => codegen::run(&args),
    }
}
