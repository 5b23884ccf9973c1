//! A prefill and a decode engine that hand over by the same library.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use kthena_tests::wait;
use serde_json::json;

use crate::{
    engine::{Engine, LEASE, Library, Role},
    install::Vllm,
    metric::Metrics,
    wire::{self, Request},
};

/// Blocks stay pinned for a lease at most, which an engine notices when it looks.
const RELEASE: Duration = LEASE.saturating_mul(5);

#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) library: Library,
    pub(crate) prefill: Engine,
    pub(crate) decode: Engine,
}

/// Whether an engine, asked for nothing else, still has something to do or holds blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Load {
    requests: f64,
    cache: f64,
}

impl Pair {
    /// Starts both; [`Self::until_ready`] waits for them.
    pub(crate) fn start(vllm: &Vllm, library: Library, dir: &Path) -> Result<Self> {
        Ok(Self {
            library,
            prefill: Engine::start(vllm, Role::Prefill(library), dir)?,
            decode: Engine::start(vllm, Role::Decode(library), dir)?,
        })
    }

    pub(crate) async fn until_ready(&mut self) -> Result<()> {
        let (prefill, decode) = futures::join!(self.prefill.until_ready(), self.decode.until_ready());
        prefill.and(decode)
    }

    /// An error with the end of a log if one of them has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.prefill.check().and(self.decode.check())
    }

    /// Waits until both engines have nothing to do any more: nothing runs, nothing waits, no request holds blocks.
    pub(crate) async fn until_idle(&self) -> Result<()> {
        for engine in [&self.prefill, &self.decode] {
            wait::within(RELEASE, "an engine to be idle", || async {
                let load = load(engine).await?;
                anyhow::ensure!(
                    load == Load {
                        requests: 0.0,
                        cache: 0.0
                    },
                    "{load:?}"
                );
                Ok(Some(()))
            })
            .await
            .with_context(|| engine.tail())?;
        }
        Ok(())
    }

    pub(crate) async fn stop(self) {
        futures::join!(self.prefill.stop(), self.decode.stop());
    }
}

async fn load(engine: &Engine) -> Result<Load> {
    let seen: Metrics = engine.metrics().await?;
    let load = Load {
        requests: seen.running(),
        cache: seen.cache_in_use(),
    };
    if load.requests == 0.0 && load.cache > 0.0 {
        // An idle engine counts nothing anew.
        let nudge = json!({"model": "tiny", "prompt": "?", "max_tokens": 1});
        wire::send(engine.address(), &Request::post("/v1/completions", &nudge)).await?;
    }
    Ok(load)
}
