//! The libraries could be published as they are.

use anyhow::Result;
use kthena_tests::command::output;
use kthena_tests::setting;

use super::is_installed;
use crate::step::{Steps, cargo};

/// Packages are made, and build by themselves, from each other.
pub(super) fn package(steps: &mut Steps, libraries: &[&str]) -> Result<()> {
    // Changes that are not committed yet are no reason not to try.
    let mut command = cargo(["package", "--allow-dirty", "--quiet"]);
    for library in libraries {
        command.args(["--package", library]);
    }
    steps.command("packages", &mut command)
}

/// What was published last can be replaced, as the version says: where cargo-semver-checks is installed and there is a tag.
pub(super) fn versions(steps: &mut Steps, libraries: &[&str]) -> Result<()> {
    if !is_installed("cargo-semver-checks") {
        steps.leave_out(
            "cargo semver-checks, which is not installed (`cargo install --locked cargo-semver-checks`)",
        );
        return Ok(());
    }
    let mut describe = std::process::Command::new("git");
    describe
        .current_dir(setting::checkout())
        .args(["describe", "--tags", "--abbrev=0"]);
    let Ok(tag) = output(&mut describe) else {
        steps.leave_out("cargo semver-checks: there is no tag to compare with");
        return Ok(());
    };
    let mut command = cargo(["semver-checks", "--baseline-rev", tag.trim()]);
    for library in libraries {
        command.args(["--package", library]);
    }
    steps.command("compatibility with the last release", &mut command)
}
