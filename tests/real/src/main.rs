//! The proxy in front of real engines.
//!
//! A *plain* engine answers whole requests. A *pair* is a prefill and a decode engine, between which the KV cache travels; the
//! proxy stands in front of it. Every *question* is asked twice, and what the proxy answers has to be what the plain engine does,
//! while decode's own metrics tell that it did not compute the prompt itself. What is installed lies in the cache; `vllm/README.md`
//! has the recipe.
//!
//! ```text
//!                    ┌──────────────▶ plain
//!   question ────────┤                                  compare
//!                    └──▶ proxy ──▶ prefill ═KV═▶ decode
//! ```
//!
//! `cargo xtask test --real-engines` builds everything and runs this program.

mod client;
mod compare;
mod engine;
mod event;
mod install;
mod matrix;
mod metric;
mod pair;
mod proxy;
mod question;
mod report;
mod suite;
mod wire;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::suite::Test;

#[derive(Debug, Parser)]
struct Args {
    /// The tests to run; all of them by default.
    tests: Vec<Test>,

    /// Ask only questions whose name contains this.
    #[arg(long, value_name = "TEXT")]
    question: Option<String>,

    /// Where logs and objects are written and kept; by default nothing is kept.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<std::path::PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let tests = match args.tests.is_empty() {
        true => Test::value_variants(),
        false => &args.tests,
    };
    let temporary = tempfile::tempdir().expect("temporary folders can be made");
    let dir = args.keep.as_deref().unwrap_or(temporary.path());
    match suite::run(tests, args.question.as_deref(), dir).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
