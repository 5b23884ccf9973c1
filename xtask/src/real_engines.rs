//! Tests against real engines: `cargo xtask test --real-engines`.
//!
//! They install gigabytes, so the test command does not run them by itself; it names them instead. Whoever adds one
//! names it in [`TESTS`] and runs it in [`run`].

use anyhow::{Result, bail};

/// Each test's name and what it shows.
pub(crate) const TESTS: &[(&str, &str)] = &[];

/// Installs the engines and runs all of [`TESTS`].
pub(crate) fn run(_filter: Option<&str>) -> Result<()> {
    bail!("there are no tests with real engines yet")
}
