//! Faults, as a client meets them.

use std::net::SocketAddr;
use std::time::Duration;

use flate2::read::GzDecoder;
use kthena_sim::{Config, Engine, Fault, Handle, Phase, Rule};
use serde_json::json;
use std::io::Read;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::client::{
    Answer, CHAT, COMPLETIONS, SOON, begin, chat, completion, exchange, get, post, raw, with,
};

async fn engine(fault: Fault) -> Handle {
    let engine = Engine::start(Config::instant()).await.unwrap();
    engine.faults().add(Rule::new(fault));
    engine
}

fn stream(to: SocketAddr) -> Vec<u8> {
    raw(
        to,
        "POST",
        CHAT,
        &[],
        with(&chat("hi"), json!({ "stream": true }))
            .to_string()
            .as_bytes(),
    )
}

/// The answer to a streamed request, and how the connection ended.
async fn streamed(engine: &Handle) -> (Answer, std::io::Result<()>) {
    let mut client = begin(engine.addr(), &stream(engine.addr())).await;
    let mut bytes = Vec::new();
    let end = client.read_to_end(&mut bytes).await.map(|_| ());
    (Answer::parse(&bytes).unwrap(), end)
}

fn is_reset(end: &std::io::Result<()>) -> bool {
    end.as_ref()
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn refused_connections_are_reset_and_the_admin_address_still_works() {
    let config = Config {
        admin: Some(([127, 0, 0, 1], 0).into()),
        ..Config::instant()
    };
    let engine = Engine::start(config).await.unwrap();
    engine.faults().add(Rule::new(Fault::Refuse));
    assert!(exchange(engine.addr(), &stream(engine.addr())).await.is_err());
    let admin = engine.admin_addr().unwrap();
    let raw = raw(admin, "DELETE", "/sim/faults", &[], b"");
    assert_eq!(
        Answer::parse(&exchange(admin, &raw).await.unwrap())
            .unwrap()
            .status,
        204
    );
    assert_eq!(get(engine.addr(), "/health").await.status, 200);
    assert!(engine.stats().faults >= 1);
}

#[tokio::test]
async fn statuses_come_with_body_and_headers() {
    let headers = vec![("retry-after".to_owned(), "7".to_owned())];
    let engine = engine(Fault::Status {
        status: 503,
        body: r#"{"error":"busy"}"#.into(),
        headers,
    })
    .await;
    let answer = post(engine.addr(), COMPLETIONS, &completion("x")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
    assert_eq!(answer.json()["error"], "busy");
    assert_eq!(engine.stats().plain.failed, 1);
}

#[tokio::test]
async fn delays_are_kept() {
    let by = Duration::from_millis(80);
    let engine = engine(Fault::Delay { by }).await;
    let begun = Instant::now();
    assert_eq!(
        post(engine.addr(), COMPLETIONS, &completion("x")).await.status,
        200
    );
    assert!(begun.elapsed() >= by);
    engine.faults().clear();
    engine.faults().add(Rule::new(Fault::DelayEvents {
        by: Duration::from_millis(10),
    }));
    let begun = Instant::now();
    let (answer, _) = streamed(&engine).await;
    assert!(answer.complete && begun.elapsed() >= Duration::from_millis(140));
}

#[tokio::test]
async fn resets_come_where_they_were_asked_for() {
    let before = engine(Fault::ResetBeforeHead).await;
    let raw = stream(before.addr());
    let error = exchange(before.addr(), &raw).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let after = engine(Fault::ResetAfterEvents { events: 3 }).await;
    let (answer, end) = streamed(&after).await;
    assert_eq!(
        (answer.chunks().len(), answer.complete, is_reset(&end)),
        (3, false, true)
    );
    let bytes = engine(Fault::ResetAfterBytes { bytes: 100 }).await;
    let (answer, end) = streamed(&bytes).await;
    assert_eq!((answer.body.len(), is_reset(&end)), (100, true));
    bytes
        .wait_for(SOON, |stats| stats.plain.failed == 1)
        .await
        .unwrap();
}

#[tokio::test]
async fn hanging_requests_wait_for_the_client() {
    let engine = engine(Fault::Hang).await;
    let client = begin(engine.addr(), &stream(engine.addr())).await;
    engine
        .wait_for(SOON, |stats| stats.plain.received == 1)
        .await
        .unwrap();
    drop(client);
    engine
        .wait_for(SOON, |stats| stats.plain.aborted == 1)
        .await
        .unwrap();
    engine.faults().clear();
    engine
        .faults()
        .add(Rule::new(Fault::HangAfterEvents { events: 2 }));
    let mut client = begin(engine.addr(), &stream(engine.addr())).await;
    let mut bytes = Vec::new();
    while Answer::parse(&bytes).is_none_or(|answer| answer.text().matches("\n\n").count() < 2) {
        client.read_buf(&mut bytes).await.unwrap();
    }
    let more = tokio::time::timeout(Duration::from_millis(50), client.read_buf(&mut bytes)).await;
    assert!(more.is_err());
}

#[tokio::test]
async fn streams_can_be_malformed_or_cut_short() {
    let malformed = engine(Fault::MalformedEvent { event: 2 }).await;
    let (answer, _) = streamed(&malformed).await;
    let broken: Vec<_> = answer
        .events()
        .iter()
        .map(|e| serde_json::from_str::<serde_json::Value>(e).is_ok())
        .collect();
    assert_eq!(
        (broken[1], broken[2], broken[3], answer.complete),
        (true, false, true, true)
    );
    let cut = engine(Fault::Truncate { events: 4 }).await;
    let (answer, end) = streamed(&cut).await;
    assert_eq!(
        (answer.chunks().len(), answer.complete, end.is_ok()),
        (4, false, true)
    );
}

#[tokio::test]
async fn lengths_can_lie() {
    let engine = engine(Fault::WrongLength { by: 5 }).await;
    let answer = post(engine.addr(), COMPLETIONS, &completion("x")).await;
    let claimed: usize = answer.header("content-length").unwrap().parse().unwrap();
    assert_eq!((answer.body.len() + 5, answer.complete), (claimed, false));
}

#[tokio::test]
async fn bodies_can_be_compressed() {
    let engine = engine(Fault::Gzip).await;
    let plain = Engine::start(Config::instant()).await.unwrap();
    for request in [chat("hi"), with(&chat("hi"), json!({ "stream": true }))] {
        let mut answer = post(engine.addr(), CHAT, &request).await;
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        let mut body = Vec::new();
        GzDecoder::new(answer.body.as_slice())
            .read_to_end(&mut body)
            .unwrap();
        answer.body = body;
        assert_eq!(answer.said(), post(plain.addr(), CHAT, &request).await.said());
    }
}

#[tokio::test]
async fn headers_and_trailers_can_be_added() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = vec![
        pair("set-cookie", "a=1"),
        pair("set-cookie", "b=2"),
        pair("keep-alive", "timeout=9"),
    ];
    let engine = engine(Fault::Headers {
        headers: headers.clone(),
    })
    .await;
    engine.faults().add(Rule::new(Fault::Trailers {
        headers: vec![pair("x-trailer", "t")],
    }));
    let bytes = exchange(engine.addr(), &stream(engine.addr())).await.unwrap();
    let answer = Answer::parse(&bytes).unwrap();
    let found: Vec<_> = answer
        .headers
        .iter()
        .filter(|(n, _)| n == "set-cookie" || n == "keep-alive")
        .cloned()
        .collect();
    assert_eq!(found, headers);
    assert!(bytes.ends_with(b"0\r\nx-trailer: t\r\n\r\n"));
}

#[tokio::test]
async fn pace_changes_nothing_but_the_writes() {
    let plain = Engine::start(Config::instant()).await.unwrap();
    let expected = streamed(&plain).await.0.said();
    let every = Duration::from_millis(1);
    for fault in [Fault::Coalesce, Fault::Split, Fault::Drip { bytes: 512, every }] {
        let engine = engine(fault.clone()).await;
        let (answer, _) = streamed(&engine).await;
        assert!(answer.complete, "{fault:?}");
        assert_eq!(answer.said(), expected);
    }
}

#[tokio::test]
async fn rules_are_set_over_http_and_hit_only_what_they_name() {
    let engine = Engine::start(Config::instant()).await.unwrap();
    let rules = json!([
        { "fault": { "type": "status", "status": 500 }, "path": "/v1/chat/completions", "times": 1 },
        { "fault": { "type": "status", "status": 429 }, "model": "other" },
        { "fault": { "type": "status", "status": 418 }, "phase": "decode" },
    ]);
    let ids = post(engine.addr(), "/sim/faults", &rules).await;
    assert_eq!(
        (ids.status, ids.json()["ids"].as_array().unwrap().len()),
        (201, 3)
    );
    assert_eq!(
        post(engine.addr(), COMPLETIONS, &completion("x")).await.status,
        200
    );
    assert_eq!(post(engine.addr(), CHAT, &chat("x")).await.status, 500);
    assert_eq!(post(engine.addr(), CHAT, &chat("x")).await.status, 200);
    assert_eq!(
        post(
            engine.addr(),
            CHAT,
            &with(&chat("x"), json!({ "model": "other" }))
        )
        .await
        .status,
        429
    );
    assert_eq!(
        post(engine.addr(), "/sim/faults", &json!({ "fault": { "type": "?" } }))
            .await
            .status,
        400
    );
    assert_eq!(engine.faults().list()[2].1.phase, Some(Phase::Decode));
}
