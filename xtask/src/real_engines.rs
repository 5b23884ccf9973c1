//! Tests against real engines: `cargo xtask test --real-engines`.
//!
//! They install gigabytes, so the test command does not run them by itself; it names them instead. The tests are
//! `tests/real`, whose program knows them by the names of [`TESTS`] and refuses others.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::step::{Steps, cargo};

/// Each test's name and what it shows.
pub(crate) const TESTS: &[(&str, &str)] = &[
    (
        "answers_through_nixl_equal_a_plain_engines",
        "vLLM, prefill and decode apart with NIXL, says what one engine says",
    ),
    (
        "answers_without_a_named_connector_equal_a_plain_engines",
        "the same for a ModelServer without a kvConnector",
    ),
    (
        "official_clients_see_no_difference",
        "the OpenAI clients for Python and JavaScript get the same from both",
    ),
    (
        "answers_through_mooncake_equal_a_plain_engines",
        "the same with vLLM's own Mooncake connector",
    ),
];

/// Installs the engines and runs all of [`TESTS`] whose name contains the filter.
pub(crate) fn run(filter: Option<&str>) -> Result<()> {
    let names: Vec<&str> = TESTS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| filter.is_none_or(|filter| name.contains(filter)))
        .collect();
    ensure!(!names.is_empty(), "no test with real engines is called so");
    let mut steps = Steps::default();
    // As the test command builds: another choice of packages would compile shared dependencies again.
    steps.command(
        "build",
        &mut cargo(["build", "--workspace", "--all-targets", "--quiet"]),
    )?;
    // Beside this program, which the same cargo has built.
    let this = std::env::current_exe().context("finding this program")?;
    let programs = this.parent().context("programs lie in folders")?;
    let mut tests = Command::new(programs.join("kthena-real"));
    tests.env("KTHENA_BIN_DIR", programs).args(names);
    steps.command("tests with real engines", &mut tests)?;
    eprintln!("\nAll tests with real engines passed.\n{}", steps.summary());
    Ok(())
}
