//! SGLang: rooms, and its own shapes.

use std::time::Duration;

use kthena_sim::{Config, Connector, Engine, Handle, Kind};
use serde_json::{Value, json};

use crate::client::{self, Answer, CHAT, COMPLETIONS, SOON, begin_post, chat, completion, get, post, with};

async fn pair() -> (Handle, Handle) {
    client::pair(Config::instant(), Connector::Sglang).await
}

async fn plain() -> Handle {
    Engine::start(Config {
        kind: Kind::Sglang,
        ..Config::instant()
    })
    .await
    .unwrap()
}

fn for_p(body: &Value, room: u64) -> Value {
    with(
        body,
        json!({ "bootstrap_room": room, "max_tokens": 1, "stream": false }),
    )
}

fn for_d(body: &Value, room: u64, p: &Handle) -> Value {
    let port = p.side_channel_addr().unwrap().port();
    with(
        body,
        json!({ "bootstrap_room": room, "bootstrap_host": "127.0.0.1", "bootstrap_port": port }),
    )
}

fn message(answer: &Answer) -> String {
    answer.json()["message"]
        .as_str()
        .unwrap_or_else(|| panic!("{}", answer.text()))
        .to_owned()
}

#[tokio::test]
async fn both_sides_meet_in_a_room() {
    let (p, d) = pair().await;
    let body = with(&chat("meet me"), json!({ "stream": true }));
    let expected = post(plain().await.addr(), CHAT, &body).await.said();
    let room = 6_012_345_678_901_234_567;
    let (to_p, to_d) = (for_p(&body, room), for_d(&body, room, &p));
    let (p_answer, d_answer) = tokio::join!(post(p.addr(), CHAT, &to_p), post(d.addr(), CHAT, &to_d));
    assert_eq!((p_answer.status, d_answer.status), (200, 200));
    assert_eq!(d_answer.said(), expected);
    assert_eq!(p_answer.json()["usage"]["completion_tokens"], 1);
    let (p, d) = (p.settled(SOON).await.unwrap(), d.settled(SOON).await.unwrap());
    assert_eq!(
        (p.kv.transfers_out, p.kv.pinned, p.kv.used, d.kv.transfers_in),
        (1, 0, 0, 1)
    );
    assert_eq!(d.decode_recomputed, 0);
}

#[tokio::test]
async fn prefill_waits_for_its_partner_and_gives_up_in_time() {
    let config = Config {
        transfer_timeout: Duration::from_millis(300),
        ..Config::instant()
    };
    let (p, d) = client::pair(config, Connector::Sglang).await;
    let body = completion("nobody comes");
    let answer = post(p.addr(), COMPLETIONS, &for_p(&body, 1)).await;
    assert_eq!(answer.status, 500);
    assert_eq!((p.stats().refused.timeout, p.stats().kv.pinned), (1, 0));
    let answer = post(d.addr(), COMPLETIONS, &for_d(&body, 2, &p)).await;
    assert_eq!(answer.status, 500);
    assert_eq!(d.stats().refused.timeout, 1);
}

#[tokio::test]
async fn a_cancelled_prefill_keeps_nothing() {
    let (p, _) = pair().await;
    let client = begin_post(&p, &for_p(&completion("cancelled"), 1)).await;
    p.wait_for(SOON, |stats| stats.kv.pinned == 1).await.unwrap();
    drop(client);
    let stats = p
        .wait_for(SOON, |stats| stats.prefill.aborted == 1)
        .await
        .unwrap();
    assert_eq!(
        (stats.kv.pinned, stats.kv.released_unread, stats.kv.used),
        (0, 1, 0)
    );
}

#[tokio::test]
async fn without_a_room_half_an_engine_refuses() {
    let (p, d) = pair().await;
    for engine in [&p, &d] {
        let answer = post(engine.addr(), CHAT, &chat("alone")).await;
        assert_eq!(answer.status, 400);
        assert!(message(&answer).contains("without bootstrap room id"));
    }
    assert_eq!(d.stats().decode_recomputed, 0);
}

#[tokio::test]
async fn a_bootstrap_server_that_is_not_there_fails_the_request() {
    let config = Config {
        connect_timeout: Duration::from_millis(200),
        ..Config::instant()
    };
    let (p, d) = client::pair(config, Connector::Sglang).await;
    let mut body = for_d(&with(&chat("lost"), json!({ "stream": true })), 1, &p);
    body["bootstrap_port"] = 1.into();
    // The head waits for the first token, so the failure has its status even for a stream.
    let answer = post(d.addr(), CHAT, &body).await;
    assert_eq!((answer.status, d.stats().refused.unreachable), (500, 1));
}

#[tokio::test]
async fn shapes_are_sglangs() {
    let engine = plain().await;
    let whole = post(engine.addr(), CHAT, &chat("hi")).await;
    assert_eq!(whole.header("vary"), None);
    let text = whole.text();
    assert!(
        text.contains(r#""finish_reason":"length","matched_stop":null}],"usage":{"prompt_tokens":"#),
        "{text}"
    );
    assert!(
        text.ends_with(r#""metadata":{"weight_version":"default"}}"#),
        "{text}"
    );
    let streamed = with(
        &chat("hi"),
        json!({ "stream": true, "stream_options": { "include_usage": true } }),
    );
    let chunks = post(engine.addr(), CHAT, &streamed).await.chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let end = &chunks[chunks.len() - 2]["choices"][0];
    assert_eq!(
        (&end["delta"]["content"], &end["finish_reason"]),
        (&Value::Null, &json!("length"))
    );
    assert_eq!(chunks.last().unwrap()["choices"], json!([]));
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 12);
    let error = post(
        engine.addr(),
        COMPLETIONS,
        &with(&completion("x"), json!({ "temperature": -1 })),
    )
    .await;
    assert_eq!((error.status, &error.json()["object"]), (400, &json!("error")));
    // SGLang does not look at the model's name and answers with the one it was asked for.
    let other = post(
        engine.addr(),
        CHAT,
        &with(&chat("hi"), json!({ "model": "other" })),
    )
    .await;
    assert_eq!((other.status, &other.json()["model"]), (200, &json!("other")));
    assert_eq!(
        get(engine.addr(), "/v1/models").await.json()["data"][0]["owned_by"],
        "sglang"
    );
    assert_eq!(get(engine.addr(), "/health").await.status, 200);
}

#[tokio::test]
async fn the_native_endpoint_says_the_same() {
    let engine = plain().await;
    let body = json!({ "text": "once", "sampling_params": { "max_new_tokens": 12, "temperature": 0 } });
    let native = post(engine.addr(), "/generate", &body).await.json();
    let openai = post(engine.addr(), COMPLETIONS, &completion("once")).await.said();
    assert_eq!(native["text"], openai[0].as_str());
    assert_eq!(native["meta_info"]["finish_reason"]["type"], "length");
    let last = post(
        engine.addr(),
        "/generate",
        &with(&body, json!({ "stream": true })),
    )
    .await
    .chunks()
    .pop()
    .unwrap();
    assert_eq!(last["text"], native["text"]);
}
