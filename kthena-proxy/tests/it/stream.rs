//! Streams: every byte, at once, and nothing that was not asked for.

use std::time::Duration;

use kthena_sim::{Fault, Rule};
use serde_json::{Value, json};

use crate::bed::{self, Bed, CHAT, COMPLETIONS, chat, direct, plain_server, route};
use crate::client::Client;

fn without_ids(events: &[String]) -> Vec<Value> {
    events
        .iter()
        .map(|data| match serde_json::from_str::<Value>(data) {
            Ok(mut event) => {
                for name in ["id", "created", "system_fingerprint"] {
                    event.as_object_mut().expect("an object").remove(name);
                }
                event
            }
            Err(_) => data.as_str().into(),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_what_the_engine_sends_a_client_of_its_own() {
    let (bed, engine) = Bed::plain().await;
    for options in [
        Value::Null,
        json!({"include_usage": true}),
        json!({"include_usage": false}),
        json!({"include_usage": true, "continuous_usage_stats": true}),
        json!({"continuous_usage_stats": true}),
    ] {
        for path in [CHAT, COMPLETIONS] {
            let mut body = chat("count to ten", true);
            body["prompt"] = "count to ten".into();
            body.as_object_mut()
                .expect("an object")
                .remove(if path == CHAT { "prompt" } else { "messages" });
            if !options.is_null() {
                body["stream_options"] = options.clone();
            }
            let answer = bed.post(path, &body).await;
            let expected = direct(&engine, path, &body).await;
            assert_eq!(
                without_ids(&answer.events()),
                without_ids(&expected.events()),
                "{path} {options}"
            );
            assert!(answer.complete);
        }
    }
    let asked = engine.requests(CHAT);
    let options =
        |n: usize| serde_json::from_slice::<Value>(&asked[n].body).expect("JSON")["stream_options"].clone();
    assert_eq!(
        options(0),
        json!({"include_usage": true}),
        "usage is asked for on the client's behalf"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_counted_whether_the_client_sees_it_or_not() {
    let (bed, _engine) = Bed::plain().await;
    let mut expected = 0.0;
    for stream in [false, true] {
        bed.chat("count to ten", stream).await;
        expected += 12.0;
        let series = "kthena_router_tokens_total{model=\"m\",path=\"/v1/chat/completions\",token_type=\"output\",model_route=\"default/r\",backend_type=\"model_server\",backend_name=\"default/s\",upstream_model=\"sim\"}";
        bed.counts(series, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_an_engine_cuts_its_bytes_the_stream_is_the_same() {
    let (bed, engine) = Bed::plain().await;
    let expected = without_ids(&bed.chat("count to ten", true).await.events());
    for fault in [
        Fault::Split,
        Fault::Coalesce,
        Fault::Drip {
            bytes: 7,
            every: Duration::from_micros(100),
        },
    ] {
        engine.faults().add(Rule::new(fault.clone()).times(1));
        let answer = bed.chat("count to ten", true).await;
        assert_eq!(without_ids(&answer.events()), expected, "{fault:?}");
        assert!(answer.complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_before_the_next_one_exists() {
    let (bed, engine) = Bed::plain().await;
    // Three events come, then nothing ever: all three must be here although the stream does not go on.
    engine
        .faults()
        .add(Rule::new(Fault::HangAfterEvents { events: 3 }).times(1));
    let mut client = Client::connect(bed.address()).await;
    client.chat("count", true).await;
    assert_eq!(client.head().await.expect("a head").status, 200);
    let mut seen = Vec::new();
    while seen.windows(2).filter(|two| *two == b"\n\n").count() < 3 {
        seen.extend_from_slice(&client.piece().await.expect("more events"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_there_together_leave_in_one_write() {
    let (bed, engine) = Bed::plain().await;
    engine.faults().add(Rule::new(Fault::Coalesce));
    let mut body = chat("count", true);
    body["max_tokens"] = 60.into();
    body["stream_options"] = json!({"include_usage": true});
    let answer = bed.post(CHAT, &body).await;
    let chunks = String::from_utf8_lossy(&answer.raw).matches("\r\ndata: ").count();
    assert!(
        answer.events().len() > 60 && chunks <= 2,
        "{} events in {chunks} chunks",
        answer.events().len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_event_passes_as_it_is() {
    let (bed, engine) = Bed::plain().await;
    engine.faults().add(Rule::new(Fault::MalformedEvent { event: 2 }));
    let answer = bed.chat("count to ten", true).await;
    assert!(answer.complete && answer.events().last().is_some_and(|last| last == "[DONE]"));
    assert_eq!(
        answer
            .events()
            .iter()
            .filter(|data| serde_json::from_str::<Value>(data).is_err())
            .count(),
        2,
        "{:?}",
        answer.events()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_slows_the_engine_and_loses_nothing() {
    /// About 12 MB of events: more than Linux lets the two sockets between engine and proxy hold by default.
    const TOKENS: u32 = 60_000;
    let engine = bed::engine(kthena_sim::Config {
        max_model_len: 2 * TOKENS,
        ..kthena_sim::Config::instant()
    });
    let (bed, engine) = (Bed::start().await, engine.await);
    bed.apply(&[route(), plain_server(&[&engine])]).await;
    let mut body = chat("a long story", true);
    body["max_tokens"] = TOKENS.into();
    body["ignore_eos"] = true.into();
    // How long it takes with somebody who reads.
    let begun = tokio::time::Instant::now();
    bed.post(CHAT, &body).await.assert_good("in full");
    let took = begun.elapsed();
    assert_eq!(bed::settled(&engine).await.plain.finished, 1);
    let mut client = Client::connect_narrow(bed.address()).await;
    client.post(CHAT, &[], body.to_string().as_bytes()).await;
    let head = client.head().await.expect("a head");
    // Nobody reads: buffers fill and the engine has to wait.
    let busy = engine.wait_for(2 * took, |stats| stats.plain.finished > 1).await;
    assert!(
        busy.is_err(),
        "the engine finished within {:?} although nobody read",
        2 * took
    );
    let answer = client.body(head).await;
    assert!(
        answer.complete && answer.events().len() > TOKENS as usize,
        "{}",
        answer.events().len()
    );
}
