//! How requests and engines end.

use std::time::Duration;

use kthena_sim::{Config, Connector, Engine, Phase, Role};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::client::{
    Answer, COMPLETIONS, SOON, begin_post, completion, exchange, for_decode, for_prefill, get, pair, post,
    prefill, with,
};

fn slow() -> Config {
    Config {
        decode_tokens_per_second: 100.0,
        ..Config::instant()
    }
}

fn long_stream() -> Value {
    let members = json!({ "max_tokens": 2000, "ignore_eos": true, "stream": true });
    with(&completion("on and on"), members)
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_at_once() {
    let config = Config {
        // The next token is far off: nothing but the close itself tells.
        decode_tokens_per_second: 0.01,
        ..Config::instant()
    };
    let engine = Engine::start(config).await.unwrap();
    let mut client = begin_post(&engine, &long_stream()).await;
    let mut some = [0; 1000];
    assert!(client.read(&mut some).await.unwrap() > 0);
    drop(client);
    let stats = engine
        .wait_for(SOON, |stats| stats.plain.aborted == 1)
        .await
        .unwrap();
    assert_eq!((stats.aborts.len(), stats.aborts[0].phase), (1, Phase::Plain));
    let stats = engine.wait_for(SOON, |stats| stats.running == 0).await.unwrap();
    assert_eq!(stats.kv.used, 0);
    let end = engine.requests(COMPLETIONS)[0].end.unwrap();
    assert_eq!((end.status, end.complete), (Some(200), false));
}

#[tokio::test]
async fn an_aborted_prefill_keeps_no_blocks() {
    let config = Config {
        prefill_tokens_per_second: 10.0,
        ..Config::instant()
    };
    let p = Engine::start(config.paired(Role::Prefill, Connector::Nixl))
        .await
        .unwrap();
    let body = for_prefill(&completion("the long story of a king and his horse"));
    let client = begin_post(&p, &body).await;
    p.wait_for(SOON, |stats| stats.kv.used > 0).await.unwrap();
    drop(client);
    let stats = p
        .wait_for(SOON, |stats| stats.prefill.aborted == 1)
        .await
        .unwrap();
    assert_eq!((stats.kv.used, stats.kv.pinned), (0, 0));
}

#[tokio::test]
async fn a_decode_given_up_in_the_queue_lets_the_prefill_engine_free_its_blocks() {
    let config = Config {
        max_num_seqs: 1,
        ..slow()
    };
    let (p, d) = pair(config, Connector::Nixl).await;
    let _busy = begin_post(&d, &long_stream()).await;
    d.wait_for(SOON, |stats| stats.running == 1).await.unwrap();
    let body = completion("never read");
    let params = prefill(p.addr(), COMPLETIONS, &body).await;
    let waiting = begin_post(&d, &for_decode(&body, &params)).await;
    d.wait_for(SOON, |stats| stats.waiting == 1).await.unwrap();
    assert_eq!(p.stats().kv.pinned, 1);
    drop(waiting);
    let stats = p.wait_for(SOON, |stats| stats.kv.pinned == 0).await.unwrap();
    assert_eq!(
        (stats.kv.released_unread, stats.kv.handed_over, stats.kv.leaked),
        (1, 0, 0)
    );
}

/// A decode request that waits for slow blocks, with its connection.
async fn slow_hand_over(p: &kthena_sim::Handle, d: &kthena_sim::Handle) -> tokio::net::TcpStream {
    let body = completion("slow blocks");
    let params = prefill(p.addr(), COMPLETIONS, &body).await;
    let client = begin_post(d, &for_decode(&body, &params)).await;
    d.wait_for(SOON, |stats| stats.waiting == 1).await.unwrap();
    assert_eq!(p.stats().kv.pinned, 1);
    client
}

#[tokio::test]
async fn a_decode_given_up_while_blocks_are_on_their_way_frees_them() {
    let config = Config {
        transfer_tokens_per_second: 0.1,
        ..Config::instant()
    };
    let (p, d) = pair(config, Connector::Nixl).await;
    drop(slow_hand_over(&p, &d).await);
    let stats = p.wait_for(SOON, |stats| stats.kv.pinned == 0).await.unwrap();
    assert_eq!(
        (stats.kv.released_unread, stats.kv.leaked, stats.kv.used),
        (1, 0, 0)
    );
    assert_eq!(d.stats().decode.aborted, 1);
}

#[tokio::test]
async fn a_decode_engine_that_is_killed_tells_nobody_and_the_lease_ends_unread() {
    let config = Config {
        transfer_tokens_per_second: 0.1,
        lease: Duration::from_secs(3),
        ..Config::instant()
    };
    let (p, d) = pair(config, Connector::Nixl).await;
    let _client = slow_hand_over(&p, &d).await;
    d.kill().await;
    let stats = p.wait_for(SOON, |stats| stats.kv.pinned == 0).await.unwrap();
    assert_eq!((stats.kv.leaked, stats.kv.released_unread), (1, 0));
}

#[tokio::test]
async fn termination_finishes_what_runs_and_takes_nothing_new() {
    let engine = Engine::start(slow()).await.unwrap();
    let address = engine.addr();
    let running = tokio::spawn(async move { post(address, COMPLETIONS, &completion("finish me")).await });
    engine.wait_for(SOON, |stats| stats.running == 1).await.unwrap();
    engine.terminate(SOON).await;
    let answer = running.await.unwrap();
    assert_eq!((answer.status, answer.complete), (200, true));
    assert!(exchange(address, b"").await.is_err());
}

#[tokio::test]
async fn what_outlasts_the_grace_period_is_cut() {
    let engine = Engine::start(slow()).await.unwrap();
    let mut client = begin_post(&engine, &long_stream()).await;
    engine.wait_for(SOON, |stats| stats.running == 1).await.unwrap();
    engine.terminate(Duration::from_millis(50)).await;
    let mut rest = Vec::new();
    drop(client.read_to_end(&mut rest).await);
    assert!(!Answer::parse(&rest).unwrap().complete);
    assert_eq!(engine.stats().plain.aborted, 1);
}

#[tokio::test]
async fn killing_resets_every_connection() {
    let engine = Engine::start(slow()).await.unwrap();
    let mut client = begin_post(&engine, &long_stream()).await;
    engine.wait_for(SOON, |stats| stats.running == 1).await.unwrap();
    engine.kill().await;
    let mut rest = Vec::new();
    let error = client.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn connections_are_kept_and_idle_ones_closed() {
    let config = Config {
        keep_alive: Duration::from_millis(100),
        ..Config::instant()
    };
    let engine = Engine::start(config).await.unwrap();
    let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", engine.addr());
    // Two requests at once, then silence: two answers, then the end.
    let answers = exchange(engine.addr(), format!("{request}{request}").as_bytes())
        .await
        .unwrap();
    let text = String::from_utf8(answers).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2);
    assert!(!text.contains("connection: close"));
    assert_eq!(
        get(engine.addr(), "/health").await.header("connection"),
        Some("close")
    );
}
