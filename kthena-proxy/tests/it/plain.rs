//! Requests to engines that answer whole requests.

use serde_json::json;

use crate::bed::{Bed, CHAT, COMPLETIONS, chat, direct, plain, plain_server, route, server};
use crate::client;

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_answered_as_the_engine_answers_it() {
    let (bed, engine) = Bed::plain().await;
    for stream in [false, true] {
        let answer = bed.chat("hello world", stream).await;
        let expected = direct(&engine, CHAT, &chat("hello world", stream)).await;
        answer.assert_good(format_args!("stream: {stream}"));
        assert_eq!(answer.generated(), expected.generated());
        assert_eq!(answer.events().len(), expected.events().len());
        assert_eq!(answer.header("server"), Some("uvicorn"));
        assert_eq!(answer.header("content-type"), expected.header("content-type"));
        assert!(answer.header("x-request-id").is_some_and(|id| id.len() == 36));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_gets_the_clients_bytes_with_the_model_renamed() {
    let (bed, engine) = Bed::plain().await;
    let body = br#"{ "model" : "m", "seed":1234567890123456789,"temperature":0.70,"prompt":"a\u00e9", "unknown": {"x":[1.0]} }"#;
    let answer = client::post_with(
        bed.address(),
        "/v1/completions?trace=true",
        &[("X-Custom", "1")],
        body,
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = engine.requests(COMPLETIONS).pop().expect("one request");
    let expected = br#"{ "model" : "sim", "seed":1234567890123456789,"temperature":0.70,"prompt":"a\u00e9", "unknown": {"x":[1.0]} }"#;
    assert_eq!(
        String::from_utf8_lossy(&sent.body),
        String::from_utf8_lossy(expected)
    );
    assert_eq!(sent.target, "/v1/completions?trace=true");
    let header = |name: &str| {
        sent.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    assert_eq!(header("x-custom").as_deref(), Some("1"));
    assert_eq!(header("host").as_deref(), Some("proxy.test"));
    assert_eq!(header("x-request-id").as_deref(), answer.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_engine_reach_the_client_and_are_not_retried() {
    let (bed, a, b) = (Bed::start().await, plain().await, plain().await);
    bed.apply(&[route(), plain_server(&[&a, &b])]).await;
    let answer = bed
        .post(CHAT, &json!({"model": "m", "messages": [], "temperature": -1}))
        .await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"]["type"], "BadRequestError");
    assert_eq!(a.requests(CHAT).len() + b.requests(CHAT).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said_in_openai_terms() {
    let bed = Bed::start().await;
    bed.apply(&[route()]).await;
    for (body, status, code) in [
        (&b""[..], 400, "invalid_body"),
        (b"[]", 400, "invalid_body"),
        (b"{\"model\":", 400, "invalid_body"),
        (b"{}{}", 400, "invalid_body"),
        (b"{}", 400, "missing_required_parameter"),
        (b"{\"model\":7}", 400, "missing_required_parameter"),
        (b"{\"model\":\"  \"}", 400, "missing_required_parameter"),
        (b"{\"model\":\"nope\"}", 404, "model_not_found"),
        (b"{\"model\":\"m\"}", 404, "model_server_not_found"),
    ] {
        let answer = client::post_with(bed.address(), CHAT, &[], body).await;
        answer.assert_refused(status, code, String::from_utf8_lossy(body));
        assert!(answer.json()["error"]["message"].is_string());
    }
    bed.apply(&[server(
        json!({"workloadSelector": {"matchLabels": {"app": "none"}}}),
    )])
    .await;
    let answer = bed.chat("x", false).await;
    answer.assert_refused(503, "no_available_pods", "no pods");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let answer = client::post_with(bed.address(), "/v1/messages", &[], b"{}").await;
    assert_eq!(answer.json()["type"], "error");
}
