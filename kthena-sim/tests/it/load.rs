//! Many requests at once, and how long they take.

use std::time::Duration;

use futures::future::join_all;
use kthena_sim::{Config, Connector, Engine, Eos};
use serde_json::json;
use tokio::time::Instant;

use crate::client::{CHAT, COMPLETIONS, SOON, chat, completion, decode, pair, post, prefill, with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_at_once_are_all_whole_and_leave_nothing() {
    let config = Config {
        max_num_seqs: 200,
        decode_tokens_per_second: 400.0,
        ..Config::instant()
    };
    let engine = Engine::start(config).await.unwrap();
    let body = with(&chat("all at once"), json!({ "stream": true }));
    let answers = join_all((0..600).map(|_| post(engine.addr(), CHAT, &body))).await;
    let said = answers[0].said();
    assert!(
        answers
            .iter()
            .all(|answer| answer.complete && answer.said() == said)
    );
    let stats = engine.settled(SOON).await.unwrap();
    assert_eq!(
        (
            stats.plain.finished,
            stats.plain.aborted,
            stats.running,
            stats.waiting
        ),
        (600, 0, 0, 0)
    );
    assert_eq!(stats.kv.used, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_hand_overs_at_once_leak_nothing() {
    let (p, d) = pair(Config::instant(), Connector::Nixl).await;
    let one = async |number: usize| {
        let body = completion(&format!("story number {number}"));
        let params = prefill(p.addr(), COMPLETIONS, &body).await;
        decode(d.addr(), COMPLETIONS, &body, &params).await.status
    };
    let statuses = join_all((0..200).map(one)).await;
    assert!(statuses.iter().all(|status| *status == 200));
    let (p, d) = (p.settled(SOON).await.unwrap(), d.settled(SOON).await.unwrap());
    assert_eq!(
        (p.kv.transfers_out, p.kv.pinned, p.kv.used, p.kv.leaked),
        (200, 0, 0, 0)
    );
    assert_eq!(
        (d.kv.transfers_in, d.decode_recomputed, d.refused.total()),
        (200, 0, 0)
    );
}

#[tokio::test]
async fn speeds_are_those_that_were_asked_for() {
    let config = Config {
        prefill_tokens_per_second: 80.0,
        decode_tokens_per_second: 100.0,
        block_size: 4,
        eos: Eos::Never,
        ..Config::default()
    };
    let engine = Engine::start(config).await.unwrap();
    let body = with(
        &completion(&"word after ".repeat(20)),
        json!({ "max_tokens": 11 }),
    );
    let begun = Instant::now();
    let usage = post(engine.addr(), COMPLETIONS, &body).await.json()["usage"].clone();
    let first = begun.elapsed();
    let tokens = usage["prompt_tokens"].as_f64().unwrap();
    let least = Duration::from_secs_f64(tokens / 80.0 + 0.1);
    assert!(first >= least, "{first:?} < {least:?}");
    // What is in the cache need not be computed: only the ten steps of decoding and the rest of a block are left.
    let begun = Instant::now();
    let usage = post(engine.addr(), COMPLETIONS, &body).await.json()["usage"].clone();
    let second = begun.elapsed();
    assert!(usage["prompt_tokens_details"]["cached_tokens"].as_f64().unwrap() >= tokens - 4.0);
    assert!(
        second >= Duration::from_millis(100) && second + Duration::from_millis(80) < first,
        "{second:?} {first:?}"
    );
}
