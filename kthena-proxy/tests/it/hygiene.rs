//! HTTP as it should be.

use std::time::Duration;

use kthena_proxy::exchange::upstream::is_open;
use kthena_sim::{Fault, Rule};
use serde_json::json;

use crate::bed::{Bed, CHAT, RETRIES, chat, eventually, plain_server, route};
use crate::client::{self, Client};

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_hop_stay_on_the_hop() {
    let (bed, engine) = Bed::plain().await;
    let own = [
        ("Connection", "X-Mine, keep-alive"),
        ("X-Mine", "1"),
        ("Keep-Alive", "timeout=9"),
        ("TE", "trailers"),
        ("X-Kept", "1"),
        ("X-Kept", "2"),
    ];
    let headers = [
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ];
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    engine.faults().add(Rule::new(Fault::Headers { headers }));
    for stream in [false, true] {
        let answer = client::post_with(
            bed.address(),
            CHAT,
            &own,
            chat("x", stream).to_string().as_bytes(),
        )
        .await;
        answer.assert_good(format_args!("stream: {stream}"));
        assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(answer.header("x-hop"), None);
        for once in ["server", "date", "content-type", "connection", "x-request-id"] {
            assert_eq!(answer.all(once).len(), 1, "{once}");
        }
        assert_eq!(
            answer.all("content-length").len() + answer.all("transfer-encoding").len(),
            1
        );
        let sent = engine.requests(CHAT).pop().expect("a request");
        let names: Vec<&str> = sent.headers.iter().map(|(name, _)| name.as_str()).collect();
        for hop in ["x-mine", "keep-alive", "te"] {
            assert!(!names.contains(&hop), "{hop} reached the engine");
        }
        assert_eq!(names.iter().filter(|name| **name == "x-kept").count(), 2);
        assert_eq!(names.iter().filter(|name| **name == "content-length").count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_own_request_id_goes_all_the_way() {
    let (bed, engine) = Bed::plain().await;
    let answer = client::post_with(
        bed.address(),
        CHAT,
        &[("X-Request-Id", "mine-1")],
        chat("x", false).to_string().as_bytes(),
    )
    .await;
    assert_eq!(answer.all("x-request-id"), ["mine-1"]);
    let sent = engine.requests(CHAT).pop().expect("a request");
    assert!(
        sent.headers
            .contains(&("x-request-id".to_owned(), "mine-1".to_owned()))
    );
    let refused = client::post_with(bed.address(), CHAT, &[("X-Request-Id", "mine-2")], b"{}").await;
    assert_eq!(refused.all("x-request-id"), ["mine-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_many_requests_and_engines_connections_are_kept() {
    let (bed, engine) = Bed::plain().await;
    let mut client = Client::connect(bed.address()).await;
    for n in 0..20 {
        client.chat("x", n % 2 == 0).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("keep-alive"))
        );
    }
    // An error of ours leaves the connection usable as well.
    client.post(CHAT, &[], b"{}").await;
    assert_eq!(client.answer().await.status, 400);
    client.chat("x", false).await;
    assert_eq!(client.answer().await.status, 200);
    let snapshot = bed.proxy.view.snapshot.load();
    let endpoint = snapshot.servers["default/s"]
        .pool
        .endpoints()
        .next()
        .expect("one")
        .clone();
    eventually("one idle connection", || endpoint.idle_connections() == 1).await;
    assert_eq!(engine.requests(CHAT).len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_may_be_pipelined() {
    let (bed, _engine) = Bed::plain().await;
    let mut client = Client::connect(bed.address()).await;
    let one = chat("x", true).to_string();
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{one}",
        one.len()
    );
    client.write(request.repeat(3).as_bytes()).await;
    for _ in 0..3 {
        let answer = client.answer().await;
        answer.assert_good("one of three");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_get_a_body_that_ends_with_the_connection() {
    let (bed, _engine) = Bed::plain().await;
    for stream in [false, true] {
        let body = chat("x", stream).to_string();
        let mut client = Client::connect(bed.address()).await;
        client.write(format!("POST {CHAT} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("transfer-encoding")), (200, None));
        assert!(answer.complete && !answer.generated().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let (bed, engine) = Bed::plain().await;
    let body = chat("x", false).to_string();
    let mut client = Client::connect(bed.address()).await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write(head.as_bytes()).await;
    assert_eq!(client.head().await.expect("an interim answer").status, 100);
    client.write(body.as_bytes()).await;
    assert_eq!(client.answer().await.status, 200);
    let sent = engine.requests(CHAT).pop().expect("a request");
    assert!(sent.headers.iter().all(|(name, _)| name != "expect"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_may_come_in_chunks() {
    let (bed, engine) = Bed::plain().await;
    let body = chat("x", false).to_string();
    let mut client = Client::connect(bed.address()).await;
    client.write(format!("POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes()).await;
    for part in body.as_bytes().chunks(11) {
        client
            .write(&[format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat())
            .await;
    }
    client.write(b"0\r\nX-Trailer: 1\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    let sent = engine.requests(CHAT).pop().expect("a request");
    assert!(
        sent.headers.iter().any(|(name, _)| name == "content-length")
            && sent.headers.iter().all(|(name, _)| name != "transfer-encoding")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn media_types_may_have_parameters_or_be_missing() {
    let (bed, _engine) = Bed::plain().await;
    let body = chat("x", false).to_string();
    for kind in [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/json;odata=verbose",
    ] {
        let mut client = Client::connect(bed.address()).await;
        client.write(format!("POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        assert_eq!(client.answer().await.status, 200, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_answers_pass_and_are_not_asked_for() {
    let (bed, engine) = Bed::plain().await;
    let answer = client::post_with(
        bed.address(),
        CHAT,
        &[("Accept-Encoding", "gzip")],
        chat("x", true).to_string().as_bytes(),
    )
    .await;
    assert!(answer.header("content-encoding").is_none());
    let sent = engine.requests(CHAT).pop().expect("a request");
    assert!(
        sent.headers.iter().all(|(name, _)| name != "accept-encoding"),
        "usage can only be read from plain text"
    );
    engine.faults().add(Rule::new(Fault::Gzip));
    for stream in [false, true] {
        let answer = bed.chat("x", stream).await;
        assert_eq!(
            (answer.status, answer.complete, answer.header("content-encoding")),
            (200, true, Some("gzip"))
        );
        assert!(
            answer.body.starts_with(&[0x1f, 0x8b]),
            "the bytes pass as they are"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_do_not_disturb() {
    let (bed, engine) = Bed::plain().await;
    engine.faults().add(Rule::new(Fault::Trailers {
        headers: vec![("x-trailer".into(), "1".into())],
    }));
    let mut client = Client::connect(bed.address()).await;
    for _ in 0..2 {
        client.chat("x", true).await;
        let answer = client.answer().await;
        assert!(answer.complete && answer.events().last().is_some_and(|last| last == "[DONE]"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_that_lie_are_not_believed() {
    let (bed, engine) = Bed::plain().await;
    for (by, complete) in [(10, false), (-10, true)] {
        engine.faults().add(Rule::new(Fault::WrongLength { by }).times(1));
        let answer = bed.chat("x", false).await;
        assert_eq!((answer.status, answer.complete), (200, complete), "{by}");
    }
    assert_eq!(
        bed.chat("x", false).await.status,
        200,
        "a connection with rest bytes is not used again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_refused() {
    let (bed, _engine) = Bed::plain().await;
    for request in [
        "GET /v1/models HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut client = Client::connect(bed.address()).await;
        client.write(request.as_bytes()).await;
        if let Some(answer) = client.head().await {
            assert_eq!(answer.status, 400, "{request:?}");
        }
    }
    assert_eq!(client::get(bed.address(), "/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_heads_pass_and_endless_ones_do_not() {
    let (bed, engine) = Bed::plain().await;
    let large = "x".repeat(100_000);
    let answer = client::post_with(
        bed.address(),
        CHAT,
        &[("X-Large", &large)],
        chat("x", false).to_string().as_bytes(),
    )
    .await;
    assert_eq!(answer.status, 200);
    let sent = engine.requests(CHAT).pop().expect("a request");
    assert!(
        sent.headers
            .iter()
            .any(|(name, value)| name == "x-large" && value.len() == 100_000)
    );
    let mut client = Client::connect(bed.address()).await;
    client.write(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n").await;
    let line = format!("X-More: {}\r\n", "x".repeat(60_000));
    use tokio::io::AsyncWriteExt as _;
    let mut sent = 0;
    while sent < 4 << 20 && client.socket.write_all(line.as_bytes()).await.is_ok() {
        sent += line.len();
    }
    assert!(
        client.head().await.is_none_or(|answer| answer.status == 400),
        "the head was taken"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_and_paths_have_answers_too() {
    let (bed, engine) = Bed::plain().await;
    assert_eq!(
        client::get(bed.address(), "/nope").await.error_code(),
        "unknown_url"
    );
    assert_eq!(client::get(bed.address(), "/metrics").await.status, 404);
    assert_eq!(
        client::get(bed.address(), "/v1/chat/completions").await.status,
        400
    );
    let models = client::get(bed.address(), "/v1/models").await;
    assert_eq!(models.json()["data"][0]["id"], "m");
    assert_eq!(
        client::get(bed.address(), "/v1/models/m").await.json()["object"],
        "model"
    );
    assert_eq!(client::get(bed.address(), "/v1/models/x").await.status, 404);
    let mut client = Client::connect(bed.address()).await;
    client.write(b"HEAD /v1/models HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.head().await.expect("a head");
    assert_eq!(head.status, 200);
    // Paths that only the engine knows pass; its own 404 comes back.
    let passed = bed.post("/v1/some/new/api?x=1", &json!({"model": "m"})).await;
    assert_eq!(
        (passed.status, passed.json()["detail"].as_str()),
        (404, Some("Not Found"))
    );
    assert_eq!(
        engine.all_requests().pop().expect("a request").target,
        "/v1/some/new/api?x=1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_are_routed_by_their_model_field() {
    let (bed, engine) = Bed::plain().await;
    let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\0\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n";
    let mut client = Client::connect(bed.address()).await;
    let head = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
        form.len()
    );
    client.write(&[head.as_bytes(), form.as_bytes()].concat()).await;
    assert_eq!(client.answer().await.status, 404);
    assert_eq!(
        engine
            .requests("/v1/audio/transcriptions")
            .pop()
            .expect("a request")
            .body,
        form.as_bytes()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_connection_is_replaced_without_costing_an_attempt() {
    let bed = Bed::start().await;
    let config = kthena_sim::Config {
        keep_alive: Duration::from_millis(50),
        ..kthena_sim::Config::instant()
    };
    let engine = crate::bed::engine(config).await;
    let mut server = plain_server(&[&engine]);
    server["spec"]["trafficPolicy"] = json!({"retry": {"attempts": 0}});
    bed.apply(&[route(), server]).await;
    let snapshot = bed.proxy.view.snapshot.load_full();
    let endpoint = snapshot.servers["default/s"]
        .pool
        .endpoints()
        .next()
        .expect("one");
    // Whether the engine has closed its side of what the proxy keeps; it stays there for the next request.
    let stale = || {
        let mut open = false;
        endpoint.sweep(Duration::MAX, |stream| {
            open |= is_open(stream);
            true
        });
        !open
    };
    let mut kept = 0;
    for _ in 0..5 {
        assert_eq!(bed.chat("x", false).await.status, 200);
        eventually("the end", || bed.proxy.in_flight() == 0).await;
        kept += endpoint.idle_connections();
        eventually("the end of the kept connection", stale).await;
    }
    assert!(kept > 0, "no connection was kept");
    // The engine never saw a request on a closed one.
    assert_eq!(bed.metric(RETRIES).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_answers_while_engines_keep_everyone_waiting() {
    let (bed, engine) = Bed::plain().await;
    engine.faults().add(Rule::new(Fault::Hang));
    let mut waiting = Vec::new();
    for _ in 0..500 {
        let mut client = Client::connect(bed.address()).await;
        client.chat("x", false).await;
        waiting.push(client);
    }
    eventually("all in flight", || bed.proxy.in_flight() == 500).await;
    for path in ["/healthz", "/readyz"] {
        // The engine never answers, so that any answer is one that did not wait for it.
        assert_eq!(client::get(bed.address(), path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_waits_for_the_first_complete_state() {
    let bed = Bed::start().await;
    let answer = client::get(bed.address(), "/readyz").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (503, r#"{"message":"router is not ready"}"#)
    );
    assert_eq!(
        client::get(bed.address(), "/healthz").await.text(),
        r#"{"message":"ok"}"#
    );
    bed.apply(&[]).await;
    let answer = client::get(bed.address(), "/readyz").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, r#"{"message":"router is ready"}"#)
    );
}
