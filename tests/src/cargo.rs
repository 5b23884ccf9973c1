//! Programs of this workspace that tests start as processes.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;

use crate::setting;

/// The current build of a workspace binary, in the profile of the tests.
///
/// `cargo xtask test` has built all of them together with the tests and says so in `KTHENA_BIN_DIR`. Otherwise cargo is
/// asked, once per process and program, which costs a moment when nothing has changed.
pub fn binary(name: &str) -> Result<PathBuf> {
    static FOUND: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock(); // held while building: a second caller waits instead of asking cargo as well
    if let Some(path) = found.get(name) {
        return Ok(path.clone());
    }
    let path = match setting::built_binaries()
        .map(|dir| dir.join(name))
        .filter(|path| path.is_file())
    {
        Some(path) => path,
        None => build(name)?,
    };
    found.insert(name.to_owned(), path.clone());
    Ok(path)
}

/// The packages of this workspace call their one binary what they are called themselves.
fn build(name: &str) -> Result<PathBuf> {
    let mut command = Command::new(setting::cargo());
    command.current_dir(setting::checkout());
    command.args(["build", "--quiet", "--package", name, "--bin", name]);
    command.arg("--message-format=json-render-diagnostics");
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("running cargo build")?;
    if !output.status.success() {
        bail!(
            "cargo build --package {name} --bin {name} failed ({})",
            output.status
        );
    }
    let executable = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    executable.with_context(|| format!("cargo built {name} but named no executable"))
}
