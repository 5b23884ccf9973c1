//! What `/metrics` shows, under the names of the engine that is imitated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Kind;
use crate::engine::Engine;
use crate::generate::{Sampling, Times};
use crate::http::respond::Reply;

mod histogram;
mod page;
mod sglang;
mod vllm;

use histogram::Histogram;
use page::Page;

/// Media type of the Prometheus text format, as the Python client writes it.
const TEXT: &str = "text/plain; version=1.0.0; charset=utf-8";

/// Everything that is counted beyond what [`crate::Stats`] has.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    prompt_computed: AtomicU64,
    prompt_local: AtomicU64,
    prompt_external: AtomicU64,
    external_queries: AtomicU64,
    stopped: AtomicU64,
    capped: AtomicU64,
    prompt_tokens: Histogram,
    generation_tokens: Histogram,
    computed_tokens: Histogram,
    iteration_tokens: Histogram,
    max_tokens: Histogram,
    n: Histogram,
    first_token: Histogram,
    inter_token: Histogram,
    per_output_token: Histogram,
    latency: Histogram,
    queue_time: Histogram,
    inference_time: Histogram,
    prefill_time: Histogram,
    decode_time: Histogram,
    preemptions: Histogram,
    transfer_time: Histogram,
    transfer_bytes: Histogram,
    transfer_blocks: Histogram,
}

/// Bytes of a token's KV in the recorded engine: 32 MiB for 32768 tokens.
const BYTES_PER_TOKEN: f64 = 1024.0;

/// Answers `GET /metrics`.
pub(crate) fn page(engine: &Engine) -> Reply {
    let text = match engine.config.kind {
        Kind::Vllm | Kind::VllmAscend => vllm::page(engine),
        Kind::Sglang => sglang::page(engine),
    };
    Reply::text(200, TEXT, text)
}

impl Metrics {
    /// A prompt has come to its first token.
    pub(crate) fn first_token(&self, times: &Times) {
        let computed = times.prompt_tokens - times.cached - times.external;
        self.prompt_computed
            .fetch_add(u64::from(computed), Ordering::Relaxed);
        self.prompt_local
            .fetch_add(u64::from(times.cached), Ordering::Relaxed);
        self.prompt_external
            .fetch_add(u64::from(times.external), Ordering::Relaxed);
        self.external_queries
            .fetch_add(u64::from(times.prompt_tokens - times.cached), Ordering::Relaxed);
        self.first_token
            .observe((times.first - times.arrived).as_secs_f64());
        self.iteration_tokens.observe(f64::from(computed) + 1.0);
    }

    /// Some tokens came, the last of them so long after what was before.
    pub(crate) fn tokens(&self, tokens: u64, within: Duration) {
        if tokens > 0 {
            self.inter_token
                .observe_many(within.as_secs_f64() / tokens as f64, tokens);
            self.iteration_tokens.observe_many(1.0, tokens);
        }
    }

    /// KV blocks of so many tokens came from another engine.
    pub(crate) fn transferred(&self, tokens: usize, blocks: u32, within: Duration) {
        self.transfer_time.observe(within.as_secs_f64());
        self.transfer_bytes.observe(tokens as f64 * BYTES_PER_TOKEN);
        self.transfer_blocks.observe(f64::from(blocks));
    }

    /// A sequence has ended.
    pub(crate) fn finished(&self, times: &Times, end: tokio::time::Instant, stop: bool, sampling: &Sampling) {
        let ended = if stop { &self.stopped } else { &self.capped };
        ended.fetch_add(1, Ordering::Relaxed);
        let generated = f64::from(times.generated);
        let decode = (end - times.first).as_secs_f64();
        self.prompt_tokens.observe(f64::from(times.prompt_tokens));
        self.generation_tokens.observe(generated);
        self.computed_tokens
            .observe(f64::from(times.prompt_tokens - times.cached - times.external));
        self.max_tokens.observe(f64::from(sampling.max_tokens));
        self.n.observe(f64::from(sampling.n));
        self.latency.observe((end - times.arrived).as_secs_f64());
        self.queue_time
            .observe((times.seated - times.arrived).as_secs_f64());
        self.inference_time.observe((end - times.seated).as_secs_f64());
        self.prefill_time
            .observe((times.first - times.seated).as_secs_f64());
        self.decode_time.observe(decode);
        self.per_output_token.observe(decode / (generated - 1.0).max(1.0));
        self.preemptions.observe(0.0);
    }
}

fn load(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}
