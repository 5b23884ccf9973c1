//! SGLang's names.

use super::{Page, load};
use crate::config::Role;
use crate::engine::Engine;

const FIRST_TOKEN: &[f64] = &[
    0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0, 400.0,
];
const PER_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.025, 0.04, 0.05, 0.06, 0.075, 0.08, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0,
    8.0,
];

pub(super) fn page(engine: &Engine) -> String {
    let model = engine.config.model_name().to_owned();
    let kind = match engine.config.role {
        Role::Plain => "unified",
        Role::Prefill => "prefill",
        Role::Decode => "decode",
    };
    let rank = || "0".to_owned();
    let scheduler = vec![
        ("engine_type", kind.to_owned()),
        ("model_name", model.clone()),
        ("moe_ep_rank", rank()),
        ("pp_rank", rank()),
        ("tp_rank", rank()),
    ];
    let mut page = Page::new(scheduler, engine.started, false);
    gauges(&mut page, engine);
    let mut text = page.finish();
    let mut page = Page::new(vec![("model_name", model)], engine.started, false);
    counters(&mut page, engine);
    text.push_str(&page.finish());
    text
}

fn gauges(page: &mut Page, engine: &Engine) {
    let (now, stats) = (engine.scheduler.load(), engine.stats());
    let used = now.blocks_used as f64;
    let usage = used / (now.blocks_total as f64).max(1.0);
    let block = f64::from(engine.config.block_size);
    page.gauge(
        "sglang:num_running_reqs",
        "Sequences being computed.",
        now.running as f64,
    );
    page.gauge("sglang:num_used_tokens", "Tokens whose KV is held.", used * block);
    page.gauge(
        "sglang:token_usage",
        "Part of the KV cache in use, up to 1.",
        usage,
    );
    page.gauge(
        "sglang:gen_throughput",
        "Tokens generated in a second.",
        now.running as f64 * rate(engine),
    );
    page.gauge("sglang:num_queue_reqs", "Sequences waiting.", now.waiting as f64);
    let hits = stats.cached_tokens as f64 / (stats.prompt_tokens as f64).max(1.0);
    page.gauge(
        "sglang:cache_hit_rate",
        "Part of the prompt tokens found in the prefix cache.",
        hits,
    );
    page.gauge(
        "sglang:max_total_num_tokens",
        "Tokens the KV cache has room for.",
        now.blocks_total as f64 * block,
    );
    match engine.config.role {
        Role::Plain => {}
        Role::Prefill => {
            page.gauge(
                "sglang:num_prefill_bootstrap_queue_reqs",
                "Requests that wait for a partner.",
                0.0,
            );
            let inflight = stats.kv.pinned as f64;
            page.gauge(
                "sglang:num_prefill_inflight_queue_reqs",
                "Blocks on their way.",
                inflight,
            );
        }
        Role::Decode => {
            page.gauge(
                "sglang:num_decode_prealloc_queue_reqs",
                "Requests that wait for room.",
                now.waiting as f64,
            );
            page.gauge(
                "sglang:num_decode_transfer_queue_reqs",
                "Requests that wait for KV.",
                now.loading as f64,
            );
        }
    }
}

fn counters(page: &mut Page, engine: &Engine) {
    let (metrics, stats) = (&engine.metrics, engine.stats());
    let ended = load(&metrics.stopped) + load(&metrics.capped);
    page.counter(
        "sglang:prompt_tokens",
        "Prompt tokens processed.",
        stats.prompt_tokens as f64,
    );
    page.counter(
        "sglang:generation_tokens",
        "Tokens generated.",
        stats.generated_tokens as f64,
    );
    page.counter(
        "sglang:cached_tokens",
        "Prompt tokens found in the prefix cache.",
        stats.cached_tokens as f64,
    );
    page.counter("sglang:num_requests", "Requests processed.", ended);
    let aborted = stats.plain.aborted + stats.prefill.aborted + stats.decode.aborted;
    page.counter(
        "sglang:num_aborted_requests",
        "Requests given up.",
        aborted as f64,
    );
    let first = &metrics.first_token;
    page.histogram(
        "sglang:time_to_first_token_seconds",
        "Time to the first token.",
        FIRST_TOKEN,
        first,
    );
    let between = &metrics.inter_token;
    page.histogram(
        "sglang:inter_token_latency_seconds",
        "Time between two tokens.",
        PER_TOKEN,
        between,
    );
    page.histogram(
        "sglang:e2e_request_latency_seconds",
        "Time of a whole request.",
        FIRST_TOKEN,
        &metrics.latency,
    );
    page.histogram(
        "sglang:queue_time_seconds",
        "Time a request waited.",
        FIRST_TOKEN,
        &metrics.queue_time,
    );
}

fn rate(engine: &Engine) -> f64 {
    engine.config.decode_tokens_per_second.max(0.0)
}
