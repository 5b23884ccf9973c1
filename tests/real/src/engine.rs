//! One running engine.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Result, ensure};
use kthena_tests::{process::Process, reserve::Port};
use serde_json::json;

use crate::{
    install::Vllm,
    metric::Metrics,
    wire::{self, Answer, Request},
};

/// What starting may take: importing everything for the first time on a busy machine is slow.
const START: Duration = Duration::from_secs(600);
const STOP: Duration = Duration::from_secs(20);

/// Tokens in a block of the KV cache; the CPU's attention wants a multiple of 32.
pub(crate) const BLOCK: usize = 32;
/// The longest prompt and answer together.
pub(crate) const CONTEXT: usize = 2048;

/// For how long NIXL's prefill keeps blocks that nobody fetches: short, so that tests can wait for it. A decode engine that
/// still waits for its turn renews it every sixth of that, in whole seconds.
pub(crate) const LEASE: Duration = Duration::from_secs(6);

/// What an engine is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The whole of a request; the one to compare with.
    Plain,
    Prefill(Library),
    Decode(Library),
}

/// What moves the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Library {
    Nixl,
    Mooncake,
}

impl Library {
    /// Members in which an answer cannot be like a plain engine's.
    pub(crate) fn unlike(self) -> &'static [&'static str] {
        match self {
            Self::Nixl => &[],
            // NIXL's parameters tell decode what prefill had in its own cache. Nothing does here: decode calls all cached.
            Self::Mooncake => &["cached_tokens"],
        }
    }
}

/// A vLLM process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Engine {
    name: &'static str,
    process: Process,
    port: Port,
    /// NIXL's side channel, or Mooncake's bootstrap server.
    side: Port,
}

impl Engine {
    /// Starts the process; it takes a while until it answers.
    pub(crate) fn start(vllm: &Vllm, role: Role, dir: &Path) -> Result<Self> {
        let (port, side) = (Port::reserve()?, Port::reserve()?);
        let number = side.number().to_string();
        let mut command = vllm.command();
        command
            .args([
                "serve",
                "tiny",
                "--served-model-name",
                "tiny",
                "--host",
                "127.0.0.1",
            ])
            .args(["--port", &port.number().to_string()])
            // Bfloat16 dies on CPUs with AMX: an illegal instruction in the attention kernel.
            .args(["--enforce-eager", "--dtype", "float32"])
            .args([
                "--max-model-len",
                &CONTEXT.to_string(),
                "--block-size",
                &BLOCK.to_string(),
            ])
            // A thousand blocks, and more requests than these run one after the other.
            .args(["--kv-cache-memory-bytes", "33554432", "--max-num-seqs", "8"])
            .args([
                "--enable-lora",
                "--max-lora-rank",
                "8",
                "--lora-modules",
                "tiny-lora=tiny-lora",
            ])
            .args(["--enable-auto-tool-choice", "--tool-call-parser", "hermes"])
            .env("VLLM_HOST_IP", "127.0.0.1")
            .envs([
                ("VLLM_NIXL_SIDE_CHANNEL_HOST", "127.0.0.1"),
                ("VLLM_NIXL_SIDE_CHANNEL_PORT", &number),
            ])
            .env("VLLM_MOONCAKE_BOOTSTRAP_PORT", &number)
            .env("VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT", LEASE.as_secs().to_string());
        if let Some(transfer) = role.transfer() {
            command.args(["--kv-transfer-config", &transfer]);
        }
        let name = role.name();
        let process = Process::start(
            name,
            &mut command,
            dir.join(format!("{name}-{}.log", port.number())),
        )?;
        Ok(Self {
            name,
            process,
            port,
            side,
        })
    }

    /// Waits until it answers, and pays for what the first request of an engine costs.
    pub(crate) async fn until_ready(&mut self) -> Result<()> {
        let address = self.address();
        let is_healthy = || async move {
            let answer = wire::get(address, "/health").await?;
            Ok((answer.status == 200).then_some(()))
        };
        self.process
            .within(START, "an engine to be healthy", is_healthy)
            .await?;
        let question = json!({"model": "tiny", "prompt": "warm up", "max_tokens": 2});
        let answer = wire::send(self.address(), &Request::post("/v1/completions", &question)).await?;
        ensure!(
            answer.status == 200,
            "the first request to {} failed: {answer:?}",
            self.name
        );
        Ok(())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    /// The side channel's, or the bootstrap server's.
    pub(crate) fn side_port(&self) -> u16 {
        self.side.number()
    }

    pub(crate) async fn metrics(&self) -> Result<Metrics> {
        let page: Answer = wire::get(self.address(), "/metrics").await?;
        Ok(Metrics::parse(&page.text()))
    }

    /// An error with the end of its log if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// Lines of its log that contain a text.
    pub(crate) fn said(&self, text: &str) -> Vec<String> {
        let log = std::fs::read(self.process.log()).unwrap_or_default();
        let lines = String::from_utf8_lossy(&log);
        lines
            .lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn tail(&self) -> String {
        self.process.tail()
    }

    pub(crate) async fn stop(mut self) {
        self.process.stop(STOP).await;
    }
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Prefill(_) => "prefill",
            Self::Decode(_) => "decode",
        }
    }

    /// vLLM's `--kv-transfer-config`.
    fn transfer(self) -> Option<String> {
        let (role, library) = match self {
            Self::Plain => return None,
            Self::Prefill(library) => ("kv_producer", library),
            Self::Decode(library) => ("kv_consumer", library),
        };
        let config = match library {
            Library::Nixl => json!({
                "kv_connector": "NixlConnector", "kv_role": role, "kv_buffer_device": "cpu",
                "kv_connector_extra_config": {"kv_lease_duration": LEASE.as_secs()},
            }),
            Library::Mooncake => json!({
                "kv_connector": "MooncakeConnector", "kv_role": role,
                "kv_connector_extra_config": {"mooncake_protocol": "tcp"},
            }),
        };
        Some(config.to_string())
    }
}
