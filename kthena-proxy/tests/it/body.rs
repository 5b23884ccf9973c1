//! Request bodies of every size.

use kthena_sim::{Fault, Phase, Rule};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::bed::{Bed, CHAT, COMPLETIONS, WAYS, eventually, fail, plain, plain_server, route, settled};
use crate::client::{self, Client};

fn long(bytes: usize) -> serde_json::Value {
    json!({"model": "m", "max_tokens": 3, "temperature": 0, "prompt": "abcdefg ".repeat(bytes / 8)})
}

#[tokio::test(flavor = "multi_thread")]
async fn long_bodies_survive_retries() {
    let (bed, a, b) = (Bed::start().await, plain().await, plain().await);
    let mut server = plain_server(&[&a, &b]);
    server["spec"]["trafficPolicy"] = json!({"retry": {"attempts": 3, "retryInterval": "1ms"}});
    bed.apply(&[route(), server]).await;
    // What the engine would make of so long a prompt does not matter here; that it gets all of it does.
    let taken = Fault::Status {
        status: 200,
        body: r#"{"taken":true}"#.into(),
        headers: Vec::new(),
    };
    // Twice the last is what an engine remembers: a kept connection that is reset is replaced at once, at the same engine.
    for bytes in [100_000, 3 << 20, 30 << 20] {
        for engine in [&a, &b] {
            engine.forget_requests();
            engine.faults().clear();
        }
        fail([&a, &b], Rule::new(Fault::ResetBeforeHead).times(1));
        fail([&a, &b], Rule::new(taken.clone()));
        let body = long(bytes).to_string();
        let answer = client::post_with(bed.address(), COMPLETIONS, &[], body.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, r#"{"taken":true}"#)
        );
        let renamed = body.replacen("\"model\":\"m\"", "\"model\":\"sim\"", 1);
        let sent = [a.requests(COMPLETIONS), b.requests(COMPLETIONS)].concat();
        assert!(sent.len() > 1, "a retry was needed");
        for sent in sent {
            assert!(
                sent.body == renamed.as_bytes(),
                "{} of {} bytes",
                sent.body.len(),
                renamed.len()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_bodies_are_split_into_prefill_and_decode() {
    for way in WAYS {
        let large = |config: &mut kthena_sim::Config| {
            config.max_model_len = 10_000_000;
            config.num_blocks = 200_000;
        };
        let policy = json!({"retry": {"attempts": 2, "retryInterval": "1ms"}});
        let (bed, prefill, decode) = way.bed(large, policy).await;
        prefill
            .faults()
            .add(Rule::new(Fault::ResetBeforeHead).phase(Phase::Prefill).times(1));
        let answer = bed.post(COMPLETIONS, &long(300_000)).await;
        answer.assert_good(way.name);
        let stats = settled(&decode).await;
        assert_eq!(
            (stats.decode_recomputed, stats.refused.total()),
            (0, 0),
            "{}: {stats:?}",
            way.name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_the_limit_are_refused_before_they_fill_memory() {
    let (bed, engine) = Bed::plain_with(|config| config.body_limit = 100_000).await;
    let fits = bed.post(COMPLETIONS, &long(90_000)).await;
    assert_ne!(fits.status, 413);
    let answer = bed.post(COMPLETIONS, &long(200_000)).await;
    answer.assert_refused(413, "request_too_large", "a body of an announced length");
    assert_eq!(answer.header("connection"), Some("close"));
    // Without an announced length it shows while reading.
    let mut client = Client::connect(bed.address()).await;
    client
        .write(format!("POST {CHAT} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes())
        .await;
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    // The answer may be there after the second, and nobody reads the third then.
    let mut sent = 0;
    while sent < 3 && client.socket.write_all(&chunk).await.is_ok() {
        sent += 1;
    }
    assert_eq!(client.answer().await.status, 413);
    // A client that asks first is not even told to go on.
    let mut client = Client::connect(bed.address()).await;
    client
        .write(
            format!(
                "POST {CHAT} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 999999\r\n\r\n"
            )
            .as_bytes(),
        )
        .await;
    assert_eq!(client.head().await.expect("a head").status, 413);
    assert!(
        engine
            .all_requests()
            .iter()
            .all(|request| request.body.len() < 100_000)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_midst_of_its_body_leaves_nothing_behind() {
    let bed = Bed::start().await;
    bed.apply(&[route()]).await;
    let mut client = Client::connect(bed.address()).await;
    client
        .write(format!("POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{{").as_bytes())
        .await;
    eventually("the request", || bed.proxy.in_flight() == 1).await;
    drop(client);
    eventually("its end", || bed.proxy.in_flight() == 0).await;
}
