//! vLLM's names. A real engine also shows Python's, the process's and HTTP's own metrics; this one does not.

use super::{Page, load};
use crate::config::{Connector, Role};
use crate::engine::Engine;
use crate::http::date;
use crate::sched::Load;
use crate::stats::Stats;

const TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0,
];
const ITERATION: &[f64] = &[
    1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16_384.0,
];
const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const PER_TOKEN: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
const REQUEST: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
const TRANSFER: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 5.0,
];
const DESCRIPTORS: &[f64] = &[
    10.0, 20.0, 30.0, 50.0, 75.0, 100.0, 200.0, 400.0, 1000.0, 2000.0, 4000.0, 10_000.0, 20_000.0, 50_000.0,
];
const POST: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 5.0,
];
const BYTES: &[f64] = &[
    2048.0,
    8192.0,
    32_768.0,
    131_072.0,
    524_288.0,
    2_097_152.0,
    8_388_608.0,
    33_554_432.0,
    134_217_728.0,
    536_870_912.0,
    2_147_483_648.0,
    8_589_934_592.0,
];

pub(super) fn page(engine: &Engine) -> String {
    let base = vec![
        ("engine", "0".to_owned()),
        ("model_name", engine.config.model_name().to_owned()),
    ];
    let mut page = Page::new(base, engine.started, true);
    let (load, stats) = (engine.scheduler.load(), engine.stats());
    let hands_over = matches!(engine.config.connector, Connector::Nixl);
    if hands_over {
        transfers(&mut page, engine, &stats);
    }
    for name in ["flops", "read_bytes", "write_bytes"] {
        page.counter(
            &format!("vllm:estimated_{name}_per_gpu"),
            "Not estimated here.",
            0.0,
        );
    }
    gauges(&mut page, engine, &load);
    counters(&mut page, engine, &load, &stats);
    let engine_label = page.without("engine");
    page.counters(
        "vllm:admission_rejections",
        "Requests turned away by a full queue; this one has no end.",
        &[
            (&[("reason", "max_num_queued_reqs")], 0.0),
            (&[("reason", "max_num_queued_tokens")], 0.0),
        ],
    );
    page.with(engine_label);
    histograms(&mut page, engine);
    information(&mut page, engine);
    page.finish()
}

/// What NIXL counts.
fn transfers(page: &mut Page, engine: &Engine, stats: &Stats) {
    let metrics = &engine.metrics;
    page.histogram(
        "vllm:nixl_xfer_time_seconds",
        "Time of a KV transfer.",
        TRANSFER,
        &metrics.transfer_time,
    );
    page.histogram(
        "vllm:nixl_post_time_seconds",
        "Time to post a KV transfer.",
        POST,
        &metrics.transfer_time,
    );
    page.histogram(
        "vllm:nixl_bytes_transferred",
        "Bytes of a KV transfer.",
        BYTES,
        &metrics.transfer_bytes,
    );
    let blocks = &metrics.transfer_blocks;
    page.histogram(
        "vllm:nixl_num_descriptors",
        "Descriptors of a KV transfer.",
        DESCRIPTORS,
        blocks,
    );
    let failed = stats.refused.total() as f64;
    page.counter(
        "vllm:nixl_num_failed_transfers",
        "KV transfers that failed.",
        failed,
    );
    page.counter(
        "vllm:nixl_num_failed_notifications",
        "Notifications that failed.",
        0.0,
    );
    let expired = stats.kv.leaked_transfers as f64;
    page.counter(
        "vllm:nixl_num_kv_expired_reqs",
        "Requests whose KV lease ended unread.",
        expired,
    );
    page.counter(
        "vllm:nixl_num_notifications_after_expiry",
        "Notifications for leases that were over.",
        0.0,
    );
}

fn gauges(page: &mut Page, engine: &Engine, now: &Load) {
    let waiting = now.waiting as f64;
    let loading = now.loading as f64;
    page.gauge(
        "vllm:num_requests_running",
        "Sequences being computed.",
        now.running as f64,
    );
    page.gauge(
        "vllm:num_requests_waiting",
        "Sequences waiting.",
        waiting + loading,
    );
    page.gauges(
        "vllm:num_requests_waiting_by_reason",
        "Sequences waiting, by reason.",
        &[
            (&[("reason", "capacity")], waiting),
            (&[("reason", "deferred")], loading),
        ],
    );
    if engine.config.connector != Connector::None && engine.config.role != Role::Prefill {
        page.gauges(
            "vllm:num_requests_kv_fetch_by_stage",
            "Sequences waiting for KV of another engine, by stage.",
            &[
                (&[("stage", "waiting_to_start")], 0.0),
                (&[("stage", "in_progress")], loading),
                (&[("stage", "completed_waiting")], 0.0),
            ],
        );
    }
    page.gauges(
        "vllm:engine_sleep_state",
        "Whether the engine sleeps.",
        &[
            (&[("sleep_state", "awake")], 1.0),
            (&[("sleep_state", "weights_offloaded")], 0.0),
            (&[("sleep_state", "discard_all")], 0.0),
        ],
    );
    let usage = now.blocks_used as f64 / (now.blocks_total as f64).max(1.0);
    page.gauge(
        "vllm:kv_cache_usage_perc",
        "Part of the KV blocks in use, up to 1.",
        usage,
    );
}

fn counters(page: &mut Page, engine: &Engine, now: &Load, stats: &Stats) {
    let metrics = &engine.metrics;
    let (prompt, cached) = (stats.prompt_tokens as f64, stats.cached_tokens as f64);
    let external = load(&metrics.prompt_external);
    let queries = if engine.config.connector == Connector::None {
        0.0
    } else {
        load(&metrics.external_queries)
    };
    page.counter(
        "vllm:prefix_cache_queries",
        "Prompt tokens looked up in the prefix cache.",
        prompt,
    );
    page.counter(
        "vllm:prefix_cache_hits",
        "Prompt tokens found in the prefix cache.",
        cached,
    );
    page.counter(
        "vllm:external_prefix_cache_queries",
        "Prompt tokens looked for elsewhere.",
        queries,
    );
    page.counter(
        "vllm:external_prefix_cache_hits",
        "Prompt tokens that came from elsewhere.",
        external,
    );
    page.counter(
        "vllm:mm_cache_queries",
        "Images and the like looked up; there are none.",
        0.0,
    );
    page.counter(
        "vllm:mm_cache_hits",
        "Images and the like found; there are none.",
        0.0,
    );
    page.counter(
        "vllm:num_preemptions",
        "Sequences that found no block left.",
        now.preemptions as f64,
    );
    page.counter("vllm:prompt_tokens", "Prompt tokens processed.", prompt);
    page.counters(
        "vllm:prompt_tokens_by_source",
        "Prompt tokens by where they came from.",
        &[
            (&[("source", "local_compute")], load(&metrics.prompt_computed)),
            (&[("source", "local_cache_hit")], load(&metrics.prompt_local)),
            (&[("source", "external_kv_transfer")], external),
        ],
    );
    page.counter(
        "vllm:prompt_tokens_cached",
        "Prompt tokens that were not computed.",
        cached + external,
    );
    page.counters(
        "vllm:prompt_tokens_cached_by_source",
        "Prompt tokens that were not computed, by cache.",
        &[
            (&[("source", "device")], cached),
            (&[("source", "host")], 0.0),
            (&[("source", "p2p")], external),
            (&[("source", "disk")], 0.0),
            (&[("source", "external_unspecified")], 0.0),
        ],
    );
    page.counter(
        "vllm:generation_tokens",
        "Tokens generated.",
        stats.generated_tokens as f64,
    );
    let aborted = stats.plain.aborted + stats.prefill.aborted + stats.decode.aborted;
    let failed = stats.plain.failed + stats.prefill.failed + stats.decode.failed;
    page.counters(
        "vllm:request_success",
        "Sequences that ended, by reason.",
        &[
            (&[("finished_reason", "stop")], load(&metrics.stopped)),
            (&[("finished_reason", "length")], load(&metrics.capped)),
            (&[("finished_reason", "abort")], aborted as f64),
            (&[("finished_reason", "error")], failed as f64),
            (&[("finished_reason", "repetition")], 0.0),
        ],
    );
}

fn histograms(page: &mut Page, engine: &Engine) {
    let m = &engine.metrics;
    for (name, help, bounds, histogram) in [
        (
            "vllm:request_prompt_tokens",
            "Prompt tokens of a request.",
            TOKENS,
            &m.prompt_tokens,
        ),
        (
            "vllm:request_generation_tokens",
            "Tokens generated for a request.",
            TOKENS,
            &m.generation_tokens,
        ),
        (
            "vllm:iteration_tokens_total",
            "Tokens of an engine step.",
            ITERATION,
            &m.iteration_tokens,
        ),
        (
            "vllm:request_max_num_generation_tokens",
            "Most tokens generated for a request.",
            TOKENS,
            &m.generation_tokens,
        ),
        (
            "vllm:request_params_n",
            "Answers asked for.",
            &[1.0, 2.0, 5.0, 10.0, 20.0],
            &m.n,
        ),
        (
            "vllm:request_params_max_tokens",
            "Tokens asked for.",
            TOKENS,
            &m.max_tokens,
        ),
        (
            "vllm:time_to_first_token_seconds",
            "Time to the first token.",
            FIRST_TOKEN,
            &m.first_token,
        ),
        (
            "vllm:inter_token_latency_seconds",
            "Time between two tokens.",
            PER_TOKEN,
            &m.inter_token,
        ),
        (
            "vllm:request_time_per_output_token_seconds",
            "Mean time between the tokens of a request.",
            PER_TOKEN,
            &m.per_output_token,
        ),
        (
            "vllm:e2e_request_latency_seconds",
            "Time of a whole request.",
            REQUEST,
            &m.latency,
        ),
        (
            "vllm:request_queue_time_seconds",
            "Time a request waited.",
            REQUEST,
            &m.queue_time,
        ),
        (
            "vllm:request_inference_time_seconds",
            "Time a request was computed.",
            REQUEST,
            &m.inference_time,
        ),
        (
            "vllm:request_prefill_time_seconds",
            "Time of a request's prefill.",
            REQUEST,
            &m.prefill_time,
        ),
        (
            "vllm:request_decode_time_seconds",
            "Time of a request's decoding.",
            REQUEST,
            &m.decode_time,
        ),
        (
            "vllm:request_num_preemptions",
            "Preemptions of a request.",
            &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0],
            &m.preemptions,
        ),
        (
            "vllm:request_prefill_kv_computed_tokens",
            "Prompt tokens of a request that were computed.",
            TOKENS,
            &m.computed_tokens,
        ),
    ] {
        page.histogram(name, help, bounds, histogram);
    }
}

fn information(page: &mut Page, engine: &Engine) {
    let config = &engine.config;
    // A set of adapters that was seen once stays, with the time it was seen last: readers take the newest.
    let series: Vec<_> = engine
        .adapters
        .seen(date::unix_now_f64())
        .into_iter()
        .map(|(running, waiting, at)| {
            let labels = vec![
                ("max_lora", config.max_loras.to_string()),
                ("running_lora_adapters", running),
                ("waiting_lora_adapters", waiting),
            ];
            (labels, at)
        })
        .collect();
    if !config.lora.is_empty() || !engine.models.lock().adapters().is_empty() {
        page.info(
            "vllm:lora_requests_info",
            "LoRA adapters in use; the value is a time.",
            &series,
        );
    }
    let labels = vec![
        ("block_size", config.block_size.to_string()),
        ("cache_dtype", "auto".to_owned()),
        (
            "enable_prefix_caching",
            if config.prefix_caching { "True" } else { "False" }.to_owned(),
        ),
        ("engine", "0".to_owned()),
        ("gpu_memory_utilization", "0.92".to_owned()),
        (
            "kv_cache_size_tokens",
            (u64::from(config.block_size) * u64::from(config.num_blocks)).to_string(),
        ),
        ("num_cpu_blocks", "None".to_owned()),
        ("num_gpu_blocks", config.num_blocks.to_string()),
        ("prefix_caching_hash_algo", "sha256".to_owned()),
        ("sliding_window", "None".to_owned()),
    ];
    page.info(
        "vllm:cache_config_info",
        "The KV cache's configuration.",
        &[(labels, 1.0)],
    );
}
