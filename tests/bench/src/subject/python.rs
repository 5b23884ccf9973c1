//! Routers written in Rust that come as Python packages, each in a virtual environment of its own in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use kthena_tests::cache;
use kthena_tests::reserve::Port;

use super::Mode;
use crate::bed::{Bed, Running};

/// A package with a router.
#[derive(Debug)]
pub(super) struct Package {
    name: &'static str,
    /// All packages with their versions.
    pins: &'static str,
    program: &'static str,
    /// Before all other arguments.
    command: &'static [&'static str],
    split: &'static [&'static str],
    /// What follows the address of a prefill engine.
    prefill: &'static [&'static str],
}

pub(super) const VLLM_ROUTER: Package = Package {
    name: "vllm-router",
    pins: include_str!("../../peers/vllm-router.txt"),
    program: "vllm-router",
    command: &[],
    split: &["--vllm-pd-disaggregation", "--kv-connector", "nixl"],
    prefill: &[],
};

pub(super) const SGLANG_GATEWAY: Package = Package {
    name: "sglang-router",
    pins: include_str!("../../peers/sglang-router.txt"),
    program: "sglang-router",
    command: &["launch"],
    split: &["--pd-disaggregation"],
    prefill: &["8998"], // its bootstrap port, which goes into requests and is never dialled by the router
};

impl Package {
    fn dir(&self) -> Result<PathBuf> {
        let key = cache::key(&[self.pins.as_bytes()]);
        Ok(cache::dir()?.join(format!("bench/{}-{key}", self.name)))
    }

    fn program(&self) -> Result<PathBuf> {
        Ok(self.dir()?.join("venv/bin").join(self.program))
    }

    pub(super) fn installed(&self) -> Result<Option<PathBuf>> {
        let complete = self.dir()?.join("complete").is_file();
        complete.then(|| self.program()).transpose()
    }

    pub(super) fn install(&self) -> Result<PathBuf> {
        Ok(cache::venv(&self.dir()?, self.name, self.pins)?.join(self.program))
    }

    /// With its own defaults, but for the policy: one engine leaves nothing to choose.
    pub(super) async fn start(&self, bed: &Bed, program: &Path, mode: Mode) -> Result<Running> {
        let ports = vec![Port::reserve()?, Port::reserve()?];
        let [port, metrics] = [0, 1].map(|n: usize| ports[n].number().to_string());
        let url = |number| format!("http://{}", bed.engine(number));
        let mut command = Command::new(program);
        command
            .args(self.command)
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                &port,
                "--prometheus-port",
                &metrics,
            ])
            .args(["--policy", "round_robin"]);
        match mode {
            Mode::Plain => command.args(["--worker-urls", &url(0)]),
            Mode::Split => command
                .args(self.split)
                .args(["--prefill", &url(1)])
                .args(self.prefill)
                .args(["--decode", &url(2)]),
        };
        let folder = bed.folder(self.name)?;
        bed.serve(self.name, &mut command, &folder, ports, "bench").await
    }
}
