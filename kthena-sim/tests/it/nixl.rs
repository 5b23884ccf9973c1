//! Hand-over with NIXL.

use std::time::Duration;

use kthena_sim::{Config, Connector, Engine, Handle, Role};
use serde_json::{Value, json};

use crate::client::{
    Answer, CHAT, COMPLETIONS, SOON, begin, chat, completion, exchange, for_prefill, get, post, post_with,
    raw, with,
};

fn fast() -> Config {
    Config {
        connect_timeout: Duration::from_millis(300),
        death: Duration::from_millis(200),
        ..Config::instant()
    }
}

async fn start(role: Role) -> Handle {
    Engine::start(fast().paired(role, Connector::Nixl)).await.unwrap()
}

async fn pair() -> (Handle, Handle) {
    (start(Role::Prefill).await, start(Role::Decode).await)
}

async fn prefill(engine: &Handle, path: &str, body: &Value) -> Value {
    let answer = post(engine.addr(), path, &for_prefill(body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["kv_transfer_params"].clone()
}

async fn decode(engine: &Handle, path: &str, body: &Value, params: Value) -> Answer {
    post(
        engine.addr(),
        path,
        &with(body, json!({ "kv_transfer_params": params })),
    )
    .await
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
        let params = prefill(&p, path, &body).await;
        let answer = decode(&d, path, &body, params).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.said(), expected.said());
    }
    let (p, d) = (p.stats(), d.stats());
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
    let params = prefill(&p, COMPLETIONS, &body).await;
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
        let answer = decode(&d, COMPLETIONS, &body, params).await;
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
        ..fast().paired(Role::Prefill, Connector::Nixl)
    })
    .await
    .unwrap();
    let d = start(Role::Decode).await;
    let body = completion("too late");
    let params = prefill(&p, COMPLETIONS, &body).await;
    let stats = p
        .wait_for(SOON, |stats| stats.kv.leaked_transfers == 1)
        .await
        .unwrap();
    assert_eq!((stats.kv.leaked, stats.kv.pinned, stats.kv.used), (1, 0, 0));
    let answer = decode(&d, COMPLETIONS, &body, params).await;
    assert_eq!(
        (answer.status, answer.header("x-kthena-sim-refused")),
        (500, Some("expired"))
    );
}

#[tokio::test]
async fn an_unreachable_prefill_engine_fails_the_request_and_not_the_engine() {
    let (p, d) = pair().await;
    let body = completion("gone");
    let params = prefill(&p, COMPLETIONS, &body).await;
    p.kill().await;
    let began = tokio::time::Instant::now();
    let answer = decode(&d, COMPLETIONS, &body, params).await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["error"]["type"], "InternalServerError");
    assert_eq!(d.stats().refused.unreachable, 1);
    assert_eq!(get(d.addr(), "/health").await.status, 200);
}

#[tokio::test]
async fn without_a_remote_request_id_decode_hangs_and_dies_when_given_up() {
    let (p, d) = pair().await;
    let body = completion("fatal");
    let mut params = prefill(&p, COMPLETIONS, &body).await;
    params.as_object_mut().unwrap().remove("remote_request_id");
    let body = with(&body, json!({ "kv_transfer_params": params }));
    let hanging = begin(
        d.addr(),
        &raw(d.addr(), "POST", COMPLETIONS, &[], body.to_string().as_bytes()),
    )
    .await;
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
    let params = prefill(&p, COMPLETIONS, &body).await;
    assert_eq!(p.stats().kv.pinned, 2);
    let said = decode(&d, COMPLETIONS, &body, params).await.said();
    assert_eq!((said[0] == expected[0], said[1] == expected[1]), (true, false));
    assert_eq!(said[0], said[1]);
    assert_eq!(p.stats().kv.pinned, 1);
}

#[tokio::test]
async fn several_answers_pin_several_times_and_the_last_one_is_named() {
    let (p, d) = pair().await;
    let plain = Engine::start(Config::instant()).await.unwrap();
    let body = with(&chat("twice"), json!({ "n": 2, "temperature": 0.5, "seed": 1 }));
    let params = prefill(&p, CHAT, &body).await;
    assert!(
        params["remote_request_id"]
            .as_str()
            .unwrap()
            .starts_with("1_chatcmpl-")
    );
    let answer = decode(&d, CHAT, &body, params).await;
    assert_eq!(answer.said(), post(plain.addr(), CHAT, &body).await.said());
    assert_eq!((p.stats().kv.transfers_out, p.stats().kv.pinned), (1, 1));
}

#[tokio::test]
async fn a_prefill_that_streams_or_stops_hands_nothing_over() {
    let (p, _) = pair().await;
    let streamed = with(&for_prefill(&completion("a")), json!({ "stream": true }));
    assert!(
        !post(p.addr(), COMPLETIONS, &streamed)
            .await
            .text()
            .contains("kv_transfer_params")
    );
    assert_eq!(p.stats().kv.pinned, 1);
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
    assert_eq!(stopped["kv_transfer_params"], Value::Null);
    assert_eq!(p.stats().kv.pinned, 1);
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
