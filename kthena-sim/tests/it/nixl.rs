//! Hand-over with NIXL.

use std::time::Duration;

use kthena_sim::{Config, Connector, Engine, Handle, Role};
use serde_json::{Value, json};

use crate::client::{
    self, CHAT, COMPLETIONS, SOON, begin_post, chat, completion, decode, exchange, for_decode, for_prefill,
    get, post, post_with, prefill, with,
};

async fn start(role: Role) -> Handle {
    Engine::start(Config::instant().paired(role, Connector::Nixl))
        .await
        .unwrap()
}

async fn pair() -> (Handle, Handle) {
    client::pair(Config::instant(), Connector::Nixl).await
}

/// Soon gives up on an engine that cannot be reached.
fn impatient() -> Config {
    Config {
        connect_timeout: Duration::from_millis(300),
        ..Config::instant()
    }
}

#[tokio::test]
async fn a_handed_over_prompt_gives_the_plain_engines_answer() {
    let (p, d) = pair().await;
    let plain = Engine::start(Config::instant()).await.unwrap();
    let streamed = json!({ "stream": true, "stream_options": { "include_usage": true } });
    for (path, body) in [
        (COMPLETIONS, completion("tell a story")),
        (CHAT, with(&chat("tell a story"), streamed)),
    ] {
        let expected = post(plain.addr(), path, &body).await;
        let params = prefill(p.addr(), path, &body).await;
        let answer = decode(d.addr(), path, &body, &params).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.said(), expected.said());
    }
    let (p, d) = (p.settled(SOON).await.unwrap(), d.settled(SOON).await.unwrap());
    assert_eq!(
        (p.kv.transfers_out, p.kv.pinned, p.kv.leaked, p.kv.used),
        (2, 0, 0, 0)
    );
    assert_eq!(
        (d.kv.transfers_in, d.decode_recomputed, d.decode.finished),
        (2, 0, 2)
    );
    assert_eq!(d.kv.received, p.kv.handed_over);
}

#[tokio::test]
async fn a_decode_engine_without_parameters_computes_and_says_so() {
    let (_, d) = pair().await;
    let plain = Engine::start(Config::instant()).await.unwrap();
    let body = completion("on its own");
    let answer = post(d.addr(), COMPLETIONS, &body).await;
    assert_eq!(answer.said(), post(plain.addr(), COMPLETIONS, &body).await.said());
    assert_eq!(d.stats().decode_recomputed, 1);
}

#[tokio::test]
async fn parameters_are_good_for_one_decode_at_the_engine_that_made_them() {
    let (p, d) = pair().await;
    let other = start(Role::Prefill).await;
    let body = completion("only once");
    let params = prefill(p.addr(), COMPLETIONS, &body).await;
    let elsewhere = with(
        &params,
        json!({ "remote_port": other.side_channel_addr().unwrap().port() }),
    );
    let invented = with(
        &params,
        json!({ "remote_request_id": "cmpl-invented-0-00000000" }),
    );
    for (params, reason) in [
        (elsewhere, Some("foreign")),
        (invented, Some("unknown")),
        (params.clone(), None),
        (params.clone(), Some("used")),
    ] {
        let answer = decode(d.addr(), COMPLETIONS, &body, &params).await;
        assert_eq!(answer.header("x-kthena-sim-refused"), reason);
        assert_eq!(answer.status, if reason.is_some() { 500 } else { 200 });
    }
    let refused = d.stats().refused;
    assert_eq!(
        (refused.foreign, refused.unknown, refused.used, refused.total()),
        (1, 1, 1, 3)
    );
}

#[tokio::test]
async fn an_expired_lease_is_a_leak_and_a_refusal() {
    let lease = Duration::from_millis(50);
    let p = Engine::start(Config {
        lease,
        ..Config::instant().paired(Role::Prefill, Connector::Nixl)
    })
    .await
    .unwrap();
    let d = start(Role::Decode).await;
    let body = completion("too late");
    let params = prefill(p.addr(), COMPLETIONS, &body).await;
    let stats = p
        .wait_for(SOON, |stats| stats.kv.leaked_transfers == 1)
        .await
        .unwrap();
    assert_eq!((stats.kv.leaked, stats.kv.pinned, stats.kv.used), (1, 0, 0));
    let answer = decode(d.addr(), COMPLETIONS, &body, &params).await;
    assert_eq!(
        (answer.status, answer.header("x-kthena-sim-refused")),
        (500, Some("expired"))
    );
}

#[tokio::test]
async fn an_unreachable_prefill_engine_fails_the_request_and_not_the_engine() {
    let config = impatient();
    let (p, d) = client::pair(config.clone(), Connector::Nixl).await;
    let body = completion("gone");
    let params = prefill(p.addr(), COMPLETIONS, &body).await;
    p.kill().await;
    let began = tokio::time::Instant::now();
    let answer = decode(d.addr(), COMPLETIONS, &body, &params).await;
    assert!(began.elapsed() >= config.connect_timeout);
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["error"]["type"], "InternalServerError");
    assert_eq!(d.stats().refused.unreachable, 1);
    assert_eq!(get(d.addr(), "/health").await.status, 200);
}

#[tokio::test]
async fn without_a_remote_request_id_decode_hangs_and_dies_when_given_up() {
    let config = Config {
        // Time for the two answers that it still gives.
        death: Duration::from_secs(2),
        ..Config::instant()
    };
    let (p, d) = client::pair(config, Connector::Nixl).await;
    let body = completion("fatal");
    let mut params = prefill(p.addr(), COMPLETIONS, &body).await;
    params.as_object_mut().unwrap().remove("remote_request_id");
    let hanging = begin_post(&d, &for_decode(&body, &params)).await;
    d.wait_for(SOON, |stats| stats.waiting == 1).await.unwrap();
    assert!(!d.is_dead());
    drop(hanging);
    d.wait_for(SOON, |stats| stats.decode.aborted == 1).await.unwrap();
    assert!(d.is_dead());
    assert_eq!(get(d.addr(), "/health").await.status, 503);
    let refused = post(d.addr(), COMPLETIONS, &completion("x")).await;
    assert_eq!(refused.status, 500);
    assert!(refused.text().contains("EngineCore encountered an issue"));
    d.ended().await;
    while exchange(d.addr(), b"").await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn batches_get_the_first_prompts_blocks_for_all() {
    let (p, d) = pair().await;
    let plain = Engine::start(Config::instant()).await.unwrap();
    let body = with(
        &completion(""),
        json!({ "prompt": ["alpha the end", "omega the end"] }),
    );
    let expected = post(plain.addr(), COMPLETIONS, &body).await.said();
    let params = prefill(p.addr(), COMPLETIONS, &body).await;
    assert_eq!(p.stats().kv.pinned, 2);
    let said = decode(d.addr(), COMPLETIONS, &body, &params).await.said();
    assert_eq!((said[0] == expected[0], said[1] == expected[1]), (true, false));
    assert_eq!(said[0], said[1]);
    assert_eq!(p.stats().kv.pinned, 1);
}

#[tokio::test]
async fn several_answers_pin_several_times_and_the_last_one_is_named() {
    let (p, d) = pair().await;
    let plain = Engine::start(Config::instant()).await.unwrap();
    let body = with(&chat("twice"), json!({ "n": 2, "temperature": 0.5, "seed": 1 }));
    let params = prefill(p.addr(), CHAT, &body).await;
    assert!(
        params["remote_request_id"]
            .as_str()
            .unwrap()
            .starts_with("1_chatcmpl-")
    );
    let answer = decode(d.addr(), CHAT, &body, &params).await;
    assert_eq!(answer.said(), post(plain.addr(), CHAT, &body).await.said());
    assert_eq!((p.stats().kv.transfers_out, p.stats().kv.pinned), (1, 1));
}

#[tokio::test]
async fn a_prefill_that_streams_keeps_its_blocks_and_says_nothing_of_them() {
    let (p, _) = pair().await;
    let streamed = with(&for_prefill(&completion("a")), json!({ "stream": true }));
    assert!(
        !post(p.addr(), COMPLETIONS, &streamed)
            .await
            .text()
            .contains("kv_transfer_params")
    );
    assert_eq!(p.stats().kv.pinned, 1);
}

#[tokio::test]
async fn a_prefill_that_stops_hands_over_all_the_same() {
    let (p, _) = pair().await;
    let first = post(
        p.addr(),
        COMPLETIONS,
        &with(&completion("b"), json!({ "max_tokens": 1 })),
    )
    .await
    .said();
    let stopped = with(
        &for_prefill(&completion("b")),
        json!({ "stop": [first[0].trim()] }),
    );
    let stopped = post(p.addr(), COMPLETIONS, &stopped).await.json();
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert!(stopped["kv_transfer_params"]["remote_request_id"].is_string());
}

#[tokio::test]
async fn a_prefill_of_several_tokens_counts_all_that_were_computed() {
    let (p, _) = pair().await;
    let one = post(p.addr(), COMPLETIONS, &for_prefill(&completion("b")))
        .await
        .json();
    let four = with(&for_prefill(&completion("b")), json!({ "max_tokens": 4 }));
    let four = post(p.addr(), COMPLETIONS, &four).await.json();
    let tokens = |answer: &Value| {
        answer["kv_transfer_params"]["remote_num_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(tokens(&four), tokens(&one) + 3);
    assert!(
        one["kv_transfer_params"]
            .get("remote_prefill_cached_tokens")
            .is_some()
    );
    assert!(
        four["kv_transfer_params"]
            .get("remote_prefill_cached_tokens")
            .is_none()
    );
}

#[tokio::test]
async fn without_block_ids_decode_dies_at_once() {
    let (p, d) = pair().await;
    let body = completion("fatal");
    let mut params = prefill(p.addr(), COMPLETIONS, &body).await;
    params.as_object_mut().unwrap().remove("remote_block_ids");
    let answer = decode(d.addr(), COMPLETIONS, &body, &params).await;
    assert_eq!((answer.status, d.is_dead()), (500, true));
}

#[tokio::test]
async fn a_prompt_longer_than_its_blocks_kills_the_decode_engine() {
    let config = Config {
        block_size: 4,
        ..Config::instant()
    };
    let (p, d) = client::pair(config, Connector::Nixl).await;
    let batch = |second: &str| {
        with(
            &completion(""),
            json!({ "prompt": ["one two three four five", second] }),
        )
    };
    let shorter = batch("one two");
    let params = prefill(p.addr(), COMPLETIONS, &shorter).await;
    assert_eq!(decode(d.addr(), COMPLETIONS, &shorter, &params).await.status, 200);
    let longer = batch("six seven eight nine ten and many many more words than before");
    let params = prefill(p.addr(), COMPLETIONS, &longer).await;
    let answer = decode(d.addr(), COMPLETIONS, &longer, &params).await;
    assert_eq!((answer.status, d.is_dead()), (500, true));
}

#[tokio::test]
async fn a_stream_whose_blocks_do_not_come_has_its_error_inside() {
    let d = Engine::start(impatient().paired(Role::Decode, Connector::Nixl))
        .await
        .unwrap();
    let params = json!({
        "do_remote_prefill": true, "do_remote_decode": false, "remote_block_ids": [[1]],
        "remote_engine_id": "e", "remote_request_id": "r", "remote_host": "127.0.0.1", "remote_port": 1,
    });
    let body = with(
        &completion("x"),
        json!({ "stream": true, "kv_transfer_params": params }),
    );
    let error = r#"{"error": {"message": "Internal server error", "type": "InternalServerError", "param": null, "code": 500}}"#;
    let stream = post(d.addr(), COMPLETIONS, &body).await;
    assert_eq!(
        (stream.status, stream.events()),
        (200, vec![error.to_owned(), "[DONE]".to_owned()])
    );
    // A chat opens its choice before it fails.
    let body = with(
        &chat("x"),
        json!({ "stream": true, "kv_transfer_params": params }),
    );
    let events = post(d.addr(), CHAT, &body).await.events();
    assert!(events[0].contains("assistant"));
    assert_eq!(events[1..], [error, "[DONE]"]);
    // Messages say it their own way, and a stream of responses just ends.
    let messages = json!([{ "role": "user", "content": "x" }]);
    let body = json!({ "messages": messages, "max_tokens": 3, "stream": true, "kv_transfer_params": params });
    let text = post(d.addr(), "/v1/messages", &body).await.text();
    assert!(
        text.contains("event: message_start")
            && text.contains(r#"data: {"type":"error","error":{"type":"internal_error""#),
        "{text}"
    );
    let body = json!({ "input": "x", "stream": true, "kv_transfer_params": params });
    let answer = post(d.addr(), "/v1/responses", &body).await;
    assert_eq!((answer.chunks().len(), answer.complete), (2, false));
}

#[tokio::test]
async fn request_ids_of_the_client_end_up_in_both_ids() {
    let (p, _) = pair().await;
    let headers = [("X-Request-Id", "rid-1")];
    let answer = post_with(p.addr(), COMPLETIONS, &headers, &for_prefill(&completion("a")))
        .await
        .json();
    assert_eq!(answer["id"], "cmpl-rid-1");
    assert!(
        answer["kv_transfer_params"]["remote_request_id"]
            .as_str()
            .unwrap()
            .starts_with("cmpl-rid-1-0-")
    );
}
