//! How a proxy is started.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::Proxy;
use crate::{cargo, process::Process, reserve::Port};

/// Settings of a proxy that does not run yet.
#[derive(Debug, Clone)]
pub struct Builder {
    kubeconfig: PathBuf,
    arguments: Vec<String>,
}

impl Builder {
    pub(super) fn new(kubeconfig: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            arguments: Vec::new(),
        }
    }

    /// One more flag; later ones win.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts the process; whether and when it becomes ready is the test's business.
    pub async fn start(&self) -> Result<Proxy> {
        let program = tokio::task::spawn_blocking(|| cargo::binary("kthena-proxy"))
            .await
            .context("building the proxy")??;
        let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?];
        let [inference, metrics, debug] = ports.each_ref().map(Port::number);
        let mut command = Command::new(program);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .args([
                format!("--port={inference}"),
                format!("--metrics-port={metrics}"),
                format!("--debug-port={debug}"),
                "--enable-webhook=false".to_owned(),
                // Of the two cores of a small machine the test itself needs some.
                "--workers=1".to_owned(),
                "--v=4".to_owned(), // why an attempt failed is what one wants to know of a test that fails
            ])
            .args(&self.arguments);
        let log = self.kubeconfig.with_file_name(format!("proxy-{inference}.log"));
        Ok(Proxy {
            process: Process::start("kthena-proxy", &mut command, log)?,
            ports,
        })
    }
}
