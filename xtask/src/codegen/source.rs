//! Where the OpenAPI document comes from.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use kthena_tests::{command::output, tools};

use crate::step;

const DOCUMENT: &str = "/openapi/v3/api/v1";

/// Reads a file, a URL, standard input for `-`, or asks a control plane that is started for the purpose.
pub(super) fn read(source: Option<&str>) -> Result<String> {
    match source {
        None => ask_control_plane(),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("reading standard input")?;
            Ok(text)
        }
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            output(Command::new("curl").args(["--fail", "--silent", "--show-error", url]))
        }
        Some(file) => fs::read_to_string(file).with_context(|| format!("reading {file}")),
    }
}

/// A process that ends with this value; the test bed cleans up behind it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask_control_plane() -> Result<String> {
    let kubectl = tools::kubectl()?;
    let mut command = step::cargo([
        "run",
        "--quiet",
        "--package",
        "kthena-tests",
        "--bin",
        "kthena-cluster",
    ]);
    let mut cluster = Running(
        command
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a control plane")?,
    );
    let printed = cluster
        .0
        .stdout
        .take()
        .context("the control plane's output is a pipe")?;
    let mut line = String::new();
    BufReader::new(printed)
        .read_line(&mut line)
        .context("waiting for the control plane")?;
    let kubeconfig = line
        .trim()
        .strip_prefix("export KUBECONFIG=")
        .context("the control plane did not start")?;
    output(Command::new(kubectl).args(["--kubeconfig", kubeconfig, "get", "--raw", DOCUMENT]))
}
