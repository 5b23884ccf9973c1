//! Hand-over with Mooncake, in both dialects.

use std::time::Duration;

use kthena_sim::{Config, Connector, Engine, Handle, Role};
use serde_json::{Value, json};

use crate::client::{
    self, Answer, COMPLETIONS, SOON, begin_post, completion, decode, for_decode, for_prefill, get, post,
    prefill, with,
};

/// Soon gives up waiting for the other side.
fn impatient() -> Config {
    Config {
        transfer_timeout: Duration::from_millis(300),
        ..Config::instant()
    }
}

async fn pair() -> (Handle, Handle) {
    client::pair(Config::instant(), Connector::Mooncake).await
}

fn for_p(body: &Value, id: &str) -> Value {
    let params = json!({ "do_remote_decode": true, "do_remote_prefill": false, "transfer_id": id });
    with(&for_prefill(body), json!({ "kv_transfer_params": params }))
}

fn for_d(body: &Value, id: &str, p: &Handle) -> Value {
    let params = json!({
        "do_remote_decode": false,
        "do_remote_prefill": true,
        "transfer_id": id,
        "remote_bootstrap_addr": format!("http://{}", p.side_channel_addr().unwrap()),
        "remote_engine_id": p.engine_id(),
    });
    for_decode(body, &params)
}

fn is_internal_error(answer: &Answer) -> bool {
    answer.status == 500 && answer.json()["error"]["type"] == "InternalServerError"
}

#[tokio::test]
async fn the_bootstrap_server_tells_the_engine_id() {
    let (p, d) = pair().await;
    let ranks = get(p.side_channel_addr().unwrap(), "/query").await.json();
    assert_eq!(ranks["0"]["engine_id"], p.engine_id());
    assert!(
        ranks["0"]["worker_addr"]["0"]["0"]
            .as_str()
            .unwrap()
            .starts_with("tcp://127.0.0.1:")
    );
    assert!(d.side_channel_addr().is_none());
}

#[tokio::test]
async fn both_sides_meet_in_any_order() {
    let (p, d) = pair().await;
    let body = completion("in any order");
    let plain = Engine::start(Config::instant()).await.unwrap();
    let expected = post(plain.addr(), COMPLETIONS, &body).await.said();
    let prefill = |id: &'static str| {
        let (to, body) = (p.addr(), for_p(&body, id));
        async move { post(to, COMPLETIONS, &body).await }
    };
    let decode = |id: &'static str| {
        let (to, body) = (d.addr(), for_d(&body, id, &p));
        async move { post(to, COMPLETIONS, &body).await }
    };
    let first = prefill("a").await.json();
    assert_eq!(first["kv_transfer_params"], Value::Null);
    assert_eq!(decode("a").await.said(), expected);
    let (d_answer, p_answer) = tokio::join!(decode("b"), prefill("b"));
    assert_eq!((p_answer.status, d_answer.said()), (200, expected.clone()));
    let waiting = tokio::spawn(decode("c"));
    d.wait_for(SOON, |stats| stats.waiting == 1).await.unwrap();
    prefill("c").await;
    assert_eq!(waiting.await.unwrap().said(), expected);
    let (p, d) = (p.settled(SOON).await.unwrap(), d.settled(SOON).await.unwrap());
    assert_eq!(
        (
            p.kv.transfers_out,
            d.kv.transfers_in,
            d.decode_recomputed,
            p.kv.pinned
        ),
        (3, 3, 0, 0)
    );
}

#[tokio::test]
async fn without_its_prefill_a_decode_times_out() {
    let (p, d) = client::pair(impatient(), Connector::Mooncake).await;
    let answer = post(d.addr(), COMPLETIONS, &for_d(&completion("alone"), "x", &p)).await;
    assert!(is_internal_error(&answer), "{}", answer.text());
    assert_eq!((d.stats().refused.timeout, d.stats().decode.failed), (1, 1));
}

#[tokio::test]
async fn a_prefill_that_stops_sends_nothing() {
    let (p, d) = client::pair(impatient(), Connector::Mooncake).await;
    let body = completion("stops at once");
    let word = post(p.addr(), COMPLETIONS, &with(&body, json!({ "max_tokens": 1 })))
        .await
        .said();
    let stopping = with(&for_p(&body, "x"), json!({ "stop": [word[0].trim()] }));
    let answer = post(p.addr(), COMPLETIONS, &stopping).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(p.stats().kv.pinned, 0);
    assert!(is_internal_error(
        &post(d.addr(), COMPLETIONS, &for_d(&body, "x", &p)).await
    ));
}

#[tokio::test]
async fn asking_a_producer_to_consume_is_fatal() {
    let config = Config {
        // Time for the answer that it still gives.
        death: Duration::from_secs(2),
        ..Config::instant()
    };
    let (p, _) = client::pair(config, Connector::Mooncake).await;
    let answer = post(p.addr(), COMPLETIONS, &for_d(&completion("wrong way"), "x", &p)).await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("EngineCore"));
    assert!(p.is_dead());
    assert_eq!(get(p.addr(), "/health").await.status, 503);
    p.ended().await;
}

#[tokio::test]
async fn a_wrong_engine_id_or_address_fails() {
    let config = Config {
        connect_timeout: Duration::from_secs(1),
        ..Config::instant()
    };
    let (p, d) = client::pair(config, Connector::Mooncake).await;
    let other = Engine::start(Config::instant().paired(Role::Prefill, Connector::Mooncake))
        .await
        .unwrap();
    let body = completion("lost");
    post(p.addr(), COMPLETIONS, &for_p(&body, "x")).await;
    let mut foreign = for_d(&body, "x", &p);
    foreign["kv_transfer_params"]["remote_engine_id"] = other.engine_id().into();
    let foreign = post(d.addr(), COMPLETIONS, &foreign).await;
    assert_eq!(
        (foreign.status, foreign.header("x-kthena-sim-refused")),
        (500, Some("foreign"))
    );
    let mut nowhere = for_d(&body, "x", &p);
    nowhere["kv_transfer_params"]["remote_bootstrap_addr"] = "http://127.0.0.1:1".into();
    assert!(is_internal_error(&post(d.addr(), COMPLETIONS, &nowhere).await));
    let refused = d.stats().refused;
    assert_eq!((refused.foreign, refused.unreachable), (1, 1));
}

#[tokio::test]
async fn incomplete_parameters_hang_without_killing() {
    let (_, d) = pair().await;
    let body = with(
        &completion("?"),
        json!({ "kv_transfer_params": { "do_remote_prefill": true, "transfer_id": "x" } }),
    );
    let hanging = begin_post(&d, &body).await;
    d.wait_for(SOON, |stats| stats.waiting == 1).await.unwrap();
    drop(hanging);
    d.wait_for(SOON, |stats| stats.decode.aborted == 1).await.unwrap();
    assert!(!d.is_dead());
    assert_eq!(post(d.addr(), COMPLETIONS, &completion("fine")).await.status, 200);
}

#[tokio::test]
async fn the_ascend_dialect_answers_with_parameters() {
    let (p, d) = client::pair(Config::instant(), Connector::MooncakeAscend).await;
    let body = completion("on another chip");
    let params = prefill(p.addr(), COMPLETIONS, &body).await;
    let names: Vec<_> = params.as_object().unwrap().keys().cloned().collect();
    let mut expected = [
        "do_remote_prefill",
        "do_remote_decode",
        "remote_block_ids",
        "remote_engine_id",
        "remote_request_id",
        "remote_host",
        "remote_port",
        "remote_pcp_size",
        "remote_dcp_size",
        "remote_ptp_size",
        "last_token_id",
        "remote_multi_nodes_meta_mapping",
        "num_prompt_blocks",
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
    let answer = decode(d.addr(), COMPLETIONS, &body, &params).await;
    let plain = Engine::start(Config::instant()).await.unwrap();
    assert_eq!(answer.said(), post(plain.addr(), COMPLETIONS, &body).await.said());
    assert_eq!((d.stats().decode_recomputed, p.stats().kv.pinned), (0, 0));
}
