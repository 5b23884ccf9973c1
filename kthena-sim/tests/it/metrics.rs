//! `/metrics` tells what is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use kthena_sim::{Config, Connector, Engine, Kind};
use serde_json::json;

use crate::client::{COMPLETIONS, SOON, begin_post, completion, decode, for_prefill, get, pair, post, with};

/// Values by series, labels included.
pub(crate) async fn scrape(from: SocketAddr) -> BTreeMap<String, f64> {
    let page = get(from, "/metrics").await;
    assert_eq!(page.status, 200);
    let lines = page.text();
    let series = lines
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '));
    series
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Families of a page with their type and their label names.
pub(crate) fn families(page: &str, prefix: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((name, labels)) = line.split_once('{') {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let name = base.filter(|base| families.contains_key(*base)).unwrap_or(name);
            let labels = labels.rsplit_once('}').unwrap().0.split("\",");
            let names = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            families
                .get_mut(name)
                .unwrap_or_else(|| panic!("{name} has no type"))
                .1
                .extend(names);
        }
    }
    families.retain(|name, _| name.starts_with(prefix));
    families
}

#[tokio::test]
async fn gauges_follow_the_load() {
    let config = Config {
        max_num_seqs: 2,
        decode_tokens_per_second: 10.0,
        ..Config::instant()
    };
    let engine = Engine::start(Config {
        lora: vec!["adapter".into()],
        ..config
    })
    .await
    .unwrap();
    let mut clients = Vec::new();
    for model in ["sim", "adapter", "adapter"] {
        let body = with(
            &completion("x"),
            json!({ "model": model, "max_tokens": 1000, "ignore_eos": true }),
        );
        clients.push(begin_post(&engine, &body).await);
        let seqs = clients.len() as u64;
        engine
            .wait_for(SOON, |stats| stats.running + stats.waiting == seqs)
            .await
            .unwrap();
    }
    let metrics = scrape(engine.addr()).await;
    let labels = r#"{engine="0",model_name="sim"}"#;
    assert_eq!(metrics[&format!("vllm:num_requests_running{labels}")], 2.0);
    assert_eq!(metrics[&format!("vllm:num_requests_waiting{labels}")], 1.0);
    assert!(metrics[&format!("vllm:kv_cache_usage_perc{labels}")] > 0.0);
    let lora = r#"vllm:lora_requests_info{max_lora="1",running_lora_adapters="adapter",waiting_lora_adapters="adapter"}"#;
    assert!(metrics[lora] > 1.7e9);
    drop(clients);
    engine
        .wait_for(SOON, |stats| stats.running == 0 && stats.waiting == 0)
        .await
        .unwrap();
    let metrics = scrape(engine.addr()).await;
    assert_eq!(metrics[&format!("vllm:num_requests_running{labels}")], 0.0);
    let aborted = r#"vllm:request_success_total{engine="0",finished_reason="abort",model_name="sim"}"#;
    assert_eq!(metrics[aborted], 3.0);
    // The set of adapters that was in use is still there, older than the present one.
    let idle = r#"vllm:lora_requests_info{max_lora="1",running_lora_adapters="",waiting_lora_adapters=""}"#;
    assert!(metrics[lora] < metrics[idle]);
}

#[tokio::test]
async fn hand_overs_show_on_both_sides() {
    let config = Config {
        block_size: 4,
        ..Config::instant()
    };
    let (p, d) = pair(config, Connector::Nixl).await;
    let body = completion("the story of a king and his horse");
    let answer = post(p.addr(), COMPLETIONS, &for_prefill(&body)).await.json();
    let tokens = answer["usage"]["prompt_tokens"].as_f64().unwrap();
    decode(d.addr(), COMPLETIONS, &body, &answer["kv_transfer_params"]).await;
    let labels = r#"{engine="0",model_name="sim"}"#;
    let source = |name: &str| {
        format!(r#"vllm:prompt_tokens_by_source_total{{engine="0",model_name="sim",source="{name}"}}"#)
    };
    let (p, d) = (scrape(p.addr()).await, scrape(d.addr()).await);
    assert_eq!(
        (p[&source("local_compute")], p[&source("external_kv_transfer")]),
        (tokens, 0.0)
    );
    assert_eq!(
        (d[&source("local_compute")], d[&source("external_kv_transfer")]),
        (0.0, tokens)
    );
    assert_eq!(
        d[&format!("vllm:external_prefix_cache_hits_total{labels}")],
        tokens
    );
    assert_eq!(d[&format!("vllm:nixl_xfer_time_seconds_count{labels}")], 1.0);
    assert_eq!(d[&format!("vllm:generation_tokens_total{labels}")], 12.0);
    assert_eq!(
        d[&format!("vllm:inter_token_latency_seconds_count{labels}")],
        11.0
    );
    assert_eq!(d[&format!("vllm:time_to_first_token_seconds_count{labels}")], 1.0);
}

#[tokio::test]
async fn sglang_has_its_own_names() {
    let config = Config {
        kind: Kind::Sglang,
        ..Config::instant()
    };
    let engine = Engine::start(config).await.unwrap();
    post(engine.addr(), COMPLETIONS, &completion("x")).await;
    let page = get(engine.addr(), "/metrics").await.text();
    assert!(!page.contains("vllm:"));
    let families = families(&page, "sglang:");
    for (name, kind) in [
        ("sglang:token_usage", "gauge"),
        ("sglang:num_queue_reqs", "gauge"),
        ("sglang:num_running_reqs", "gauge"),
        ("sglang:inter_token_latency_seconds", "histogram"),
        ("sglang:time_to_first_token_seconds", "histogram"),
    ] {
        assert_eq!(families[name].0, kind);
    }
    let metrics = scrape(engine.addr()).await;
    assert_eq!(
        metrics[r#"sglang:generation_tokens_total{model_name="sim"}"#],
        12.0
    );
}
