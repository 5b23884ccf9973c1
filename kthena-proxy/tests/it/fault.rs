//! What the client sees when engines fail, for every way to hand over.

use std::time::Duration;

use kthena_sim::{Fault, Handle, Phase, Rule};
use serde_json::{Value, json};

use crate::bed::{
    Bed, CHAT, RETRIES, WAYS, Way, chat, direct, eventually, fail, plain, plain_server, route, settled,
};
use crate::client::{self, Answer, Client};

/// A prefill and a decode engine that fail, and one of each that does not.
struct Quad {
    bed: Bed,
    prefill: [Handle; 2],
    decode: [Handle; 2],
}

impl Quad {
    async fn start(way: &Way, policy: Value) -> Self {
        Self::with(way, policy, |_| {}).await
    }

    /// The same, where the first prefill engine is a special one.
    async fn with(way: &Way, policy: Value, first: impl FnOnce(&mut kthena_sim::Config)) -> Self {
        let impatient = |config: &mut kthena_sim::Config| {
            config.connect_timeout = Duration::from_secs(1);
            config.transfer_timeout = Duration::from_secs(2);
        };
        let special = |config: &mut kthena_sim::Config| {
            impatient(config);
            first(config);
        };
        let prefill = [way.prefill(special).await, way.prefill(impatient).await];
        let decode = [way.decode(impatient).await, way.decode(impatient).await];
        let bed = Bed::start().await;
        let quad = Self { bed, prefill, decode };
        quad.apply(way, policy).await;
        quad
    }

    async fn apply(&self, way: &Way, policy: Value) {
        let engines: Vec<(&Handle, &str)> = self
            .prefill
            .iter()
            .chain(&self.decode)
            .map(|engine| (engine, "g"))
            .collect();
        let more = json!({"trafficPolicy": policy});
        self.bed.apply(&[route(), way.server(&engines, more)]).await;
    }

    /// Twenty requests without a retry do not happen where half of them go to an engine that is dead.
    async fn assert_retried(&self, way: &Way) {
        assert!(self.bed.metric(RETRIES).await > 0.0, "{}", way.name);
    }

    /// Sends requests until the failing engine was hit; all of them must be answered well.
    async fn all_good(&self, way: &Way, what: &str, hit: impl Fn() -> bool) {
        let single = plain().await;
        for n in 0..200 {
            let prompt = format!("request {n} for {what} by way of {}", way.name);
            for stream in [false, true] {
                let answer = self.bed.chat(&prompt, stream).await;
                let expected = direct(&single, CHAT, &chat(&prompt, stream)).await;
                answer.assert_good(format_args!("{what}, {}", way.name));
                assert_eq!(answer.generated(), expected.generated(), "{what}, {}", way.name);
            }
            if hit() {
                return;
            }
        }
        panic!("{what}, {}: the failing engine was never asked", way.name);
    }
}

fn hits(engine: &Handle) -> bool {
    engine.faults().hits() > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_prefill_engine_is_replaced() {
    for way in WAYS {
        let quad = Quad::start(way, json!({})).await;
        quad.prefill[0].kill().await;
        let single = plain().await;
        for n in 0..20 {
            let prompt = format!("prompt {n}");
            let answer = quad.bed.chat(&prompt, n % 2 == 0).await;
            let expected = direct(&single, CHAT, &chat(&prompt, n % 2 == 0)).await;
            assert_eq!(
                (answer.status, answer.generated()),
                (200, expected.generated()),
                "{}",
                way.name
            );
        }
        quad.assert_retried(way).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_decode_engine_is_replaced_and_prefill_asked_again() {
    for way in WAYS {
        let quad = Quad::start(way, json!({})).await;
        quad.decode[0].kill().await;
        for n in 0..20 {
            let answer = quad.bed.chat(&format!("prompt {n}"), n % 2 == 0).await;
            answer.assert_good(way.name);
        }
        quad.assert_retried(way).await;
        let live = settled(&quad.decode[1]).await;
        assert_eq!(
            (live.decode.finished, live.refused.total(), live.decode_recomputed),
            (20, 0, 0),
            "{}: {live:?}",
            way.name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_prefill_engine_is_given_up_after_the_timeout() {
    for way in WAYS {
        let quad = Quad::start(way, json!({"timeout": "1s"})).await;
        quad.prefill[0].faults().add(
            Rule::new(Fault::Delay {
                by: Duration::from_secs(60),
            })
            .phase(Phase::Prefill),
        );
        quad.all_good(way, "slow prefill", || hits(&quad.prefill[0]))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefill_engine_that_says_it_cannot_is_replaced() {
    for way in WAYS {
        for status in [429, 500, 502, 503, 504] {
            let quad = Quad::start(way, json!({})).await;
            let fault = Fault::Status {
                status,
                body: r#"{"error":"x"}"#.into(),
                headers: Vec::new(),
            };
            quad.prefill[0]
                .faults()
                .add(Rule::new(fault).phase(Phase::Prefill));
            quad.all_good(way, &format!("prefill says {status}"), || hits(&quad.prefill[0]))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefill_engine_that_resets_is_replaced() {
    for way in WAYS {
        let quad = Quad::start(way, json!({})).await;
        quad.prefill[0]
            .faults()
            .add(Rule::new(Fault::ResetBeforeHead).phase(Phase::Prefill));
        quad.all_good(way, "prefill resets", || hits(&quad.prefill[0]))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decode_engine_that_cannot_is_replaced() {
    for way in WAYS {
        for fault in [
            Fault::ResetBeforeHead,
            Fault::Status {
                status: 503,
                body: String::new(),
                headers: Vec::new(),
            },
            Fault::Status {
                status: 500,
                body: r#"{"error":{"message":"EngineCore"}}"#.into(),
                headers: Vec::new(),
            },
        ] {
            let quad = Quad::start(way, json!({})).await;
            quad.decode[0]
                .faults()
                .add(Rule::new(fault.clone()).phase(Phase::Decode));
            quad.all_good(way, &format!("decode: {fault:?}"), || hits(&quad.decode[0]))
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefill_engine_that_dies_while_decode_reads_from_it_costs_an_attempt() {
    for way in WAYS
        .iter()
        .filter(|way| way.sim != kthena_sim::Connector::Lmcache)
    {
        // The first takes minutes to hand over, the other one no time.
        let quad = Quad::with(way, json!({}), |config| config.transfer_tokens_per_second = 0.1).await;
        let victim = &quad.prefill[0];
        let address = quad.bed.address();
        let reading = || {
            let stats = victim.stats().prefill;
            // SGLang's prefill answers when its blocks have been read, the others before.
            let answered = way.sim == kthena_sim::Connector::Sglang || stats.finished > 0;
            stats.received > 0 && answered && quad.decode.iter().any(|decode| decode.stats().waiting == 1)
        };
        let mut others = 0;
        let answer = loop {
            let answer =
                tokio::spawn(async move { client::post(address, CHAT, &chat("will it live", false)).await });
            eventually("an answer or a hand-over", || answer.is_finished() || reading()).await;
            if reading() {
                break answer;
            }
            answer.await.expect("no panic").assert_good(way.name);
            others += 1;
            assert!(others < 200, "{}: the slow engine was never asked", way.name);
        };
        assert_eq!(quad.bed.metric(RETRIES).await, 0.0, "{}", way.name);
        victim.kill().await;
        answer.await.expect("no panic").assert_good(way.name);
        quad.bed.counts(RETRIES, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decode_engine_that_dies_before_the_first_byte_is_replaced() {
    for way in WAYS {
        let quad = Quad::start(way, json!({})).await;
        let never = Rule::new(Fault::Hang).phase(Phase::Decode).times(1);
        fail(&quad.decode, never.clone());
        let address = quad.bed.address();
        let answer =
            tokio::spawn(async move { client::post(address, CHAT, &chat("who answers", false)).await });
        eventually("a decode", || quad.decode.iter().any(hits)).await;
        let victim = usize::from(!hits(&quad.decode[0]));
        quad.decode[1 - victim].faults().clear();
        quad.decode[victim].kill().await;
        let answer = answer.await.expect("no panic");
        answer.assert_good(way.name);
    }
}

/// After the first byte: what came, an error event, and no end.
fn assert_broken_off(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 200, "{what}");
    assert!(!answer.complete, "{what}: the end looks clean: {}", answer.text());
    assert!(
        !answer.raw.ends_with(b"0\r\n\r\n"),
        "{what}: the last chunk was written"
    );
    let events = answer.events();
    let last: Value = serde_json::from_str(events.last().expect("events")).expect("JSON");
    assert_eq!(last["error"]["code"], "upstream_lost", "{what}: {events:?}");
    assert!(!events.contains(&"[DONE]".to_owned()), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_loses_its_engine_ends_with_an_error_and_no_second_answer() {
    for way in WAYS {
        for fault in [
            Fault::ResetAfterEvents { events: 3 },
            Fault::Truncate { events: 3 },
        ] {
            let quad = Quad::start(way, json!({})).await;
            fail(&quad.decode, Rule::new(fault.clone()).phase(Phase::Decode));
            let answer = quad.bed.chat("tell me a long story", true).await;
            assert_broken_off(&answer, way.name);
            assert_eq!(answer.events().len(), 4, "{}: {:?}", way.name, answer.events());
            let asked: u64 = quad
                .decode
                .iter()
                .map(|decode| decode.stats().decode.received)
                .sum();
            assert_eq!(asked, 1, "{}", way.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_engine_that_dies_is_replaced_before_the_first_byte_and_reported_after_it() {
    let (bed, a, b) = (Bed::start().await, plain().await, plain().await);
    bed.apply(&[route(), plain_server(&[&a, &b])]).await;
    fail([&a, &b], Rule::new(Fault::Hang).times(1));
    let address = bed.address();
    let answer = tokio::spawn(async move { client::post(address, CHAT, &chat("who answers", false)).await });
    eventually("an engine", || hits(&a) || hits(&b)).await;
    let (victim, other) = if hits(&a) { (&a, &b) } else { (&b, &a) };
    other.faults().clear();
    victim.kill().await;
    assert_eq!(answer.await.expect("no panic").status, 200);

    other
        .faults()
        .add(Rule::new(Fault::HangAfterEvents { events: 2 }).times(1));
    let mut client = Client::connect(bed.address()).await;
    client.chat("and after it", true).await;
    let head = client.head().await.expect("a head");
    let first = client.piece().await.expect("events");
    assert!(!first.is_empty());
    other.kill().await;
    let mut rest = Vec::new();
    while let Some(piece) = client.piece().await {
        rest.extend_from_slice(&piece);
    }
    let text = String::from_utf8_lossy(&rest);
    assert_eq!(head.status, 200);
    assert!(
        text.contains("upstream_lost") && !rest.ends_with(b"0\r\n\r\n"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_cut_short_is_not_completed() {
    let (bed, engine) = Bed::plain().await;
    engine
        .faults()
        .add(Rule::new(Fault::ResetAfterBytes { bytes: 100 }));
    let answer = bed.chat("x", false).await;
    assert_eq!(
        (answer.status, answer.complete, answer.body.len()),
        (200, false, 100)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_fail_the_last_engines_answer_or_ours_says_so() {
    for way in WAYS {
        let quad = Quad::start(way, json!({"retry": {"attempts": 2, "retryInterval": "1ms"}})).await;
        let fault = Fault::Status {
            status: 503,
            body: r#"{"error":{"message":"busy"}}"#.into(),
            headers: Vec::new(),
        };
        fail(&quad.decode, Rule::new(fault.clone()).phase(Phase::Decode));
        let answer = quad.bed.chat("x", true).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["message"].as_str()),
            (503, Some("busy")),
            "{}",
            way.name
        );
        let asked: u64 = quad
            .decode
            .iter()
            .map(|decode| decode.stats().decode.received)
            .sum();
        assert_eq!(asked, 3, "{}", way.name);
        for engine in quad.prefill.iter().chain(&quad.decode) {
            engine.kill().await;
        }
        let answer = quad.bed.chat("x", true).await;
        answer.assert_refused(503, "upstream_unreachable", way.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_prefill_refuses_gets_the_answer_of_a_whole_engine() {
    for way in WAYS {
        let quad = Quad::start(way, json!({})).await;
        let answer = quad
            .bed
            .post(CHAT, &json!({"model": "m", "messages": [], "temperature": -1}))
            .await;
        assert_eq!(answer.status, 400, "{}: {}", way.name, answer.text());
        let reason = "kthena_router_prefill_decode_alone_total{model=\"m\",reason=\"prefill_refused\"}";
        // Of two engines that are asked at once and both refuse, either may be first.
        eventually("the end", || quad.bed.proxy.in_flight() == 0).await;
        let before = quad.bed.metric(reason).await;
        let fault = Fault::Status {
            status: 422,
            body: r#"{"error":"odd"}"#.into(),
            headers: Vec::new(),
        };
        fail(&quad.prefill, Rule::new(fault).phase(Phase::Prefill));
        let answer = quad.bed.chat("x", false).await;
        let alone = way.sim != kthena_sim::Connector::Sglang;
        assert_eq!(
            answer.status,
            if alone { 200 } else { 422 },
            "{}: {}",
            way.name,
            answer.text()
        );
        quad.bed
            .counts(reason, before + if alone { 1.0 } else { 0.0 })
            .await;
    }
}
