//! `trafficPolicy`: timeouts and retries.

use std::time::Duration;

use kthena_sim::{Fault, Phase, Rule};
use serde_json::json;

use crate::bed::{Bed, CHAT, COMPLETIONS, NIXL, WAYS, fail, plain, plain_server, route};

fn busy() -> Rule {
    Rule::new(Fault::Status {
        status: 503,
        body: "{}".into(),
        headers: Vec::new(),
    })
}

async fn bed(policy: serde_json::Value, engines: usize) -> (Bed, Vec<kthena_sim::Handle>) {
    let bed = Bed::start().await;
    let mut all = Vec::new();
    for _ in 0..engines {
        all.push(plain().await);
    }
    let mut server = plain_server(&all.iter().collect::<Vec<_>>());
    server["spec"]["trafficPolicy"] = policy;
    bed.apply(&[route(), server]).await;
    (bed, all)
}

fn asked(engines: &[kthena_sim::Handle]) -> Vec<usize> {
    engines.iter().map(|engine| engine.requests(CHAT).len()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_further_tries() {
    for (attempts, expected) in [(0, 1), (1, 2), (3, 4)] {
        let (bed, engines) = bed(
            json!({"retry": {"attempts": attempts, "retryInterval": "1ms"}}),
            1,
        )
        .await;
        engines[0].faults().add(busy());
        assert_eq!(bed.chat("x", false).await.status, 503);
        assert_eq!(asked(&engines), [expected], "attempts: {attempts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_up_to_four_others_are_asked_once_each() {
    for (engines, expected) in [(1, 1), (3, 3), (7, 5)] {
        let (bed, engines) = bed(json!({}), engines).await;
        fail(&engines, busy());
        assert_eq!(bed.chat("x", false).await.status, 503);
        let asked = asked(&engines);
        assert!(
            asked.iter().all(|n| *n <= 1) && asked.iter().sum::<usize>() == expected,
            "{asked:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_statuses_that_another_engine_may_not_have_are_retried() {
    for (status, tries) in [
        (400, 1),
        (401, 1),
        (404, 1),
        (422, 1),
        (429, 3),
        (500, 3),
        (501, 1),
        (502, 3),
        (503, 3),
        (504, 3),
    ] {
        let (bed, engines) = bed(json!({"retry": {"attempts": 2, "retryInterval": "1ms"}}), 2).await;
        let fault = Fault::Status {
            status,
            body: r#"{"error":{"message":"engine"}}"#.into(),
            headers: vec![("retry-after".into(), "7".into())],
        };
        fail(&engines, Rule::new(fault.clone()));
        let answer = bed.chat("x", false).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["message"].as_str()),
            (status, Some("engine"))
        );
        assert_eq!(
            answer.header("retry-after"),
            Some("7"),
            "the engine's own head comes along"
        );
        assert_eq!(asked(&engines).iter().sum::<usize>(), tries, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_interval_is_waited_before_each_retry() {
    let (bed, engines) = bed(json!({"retry": {"attempts": 2, "retryInterval": "150ms"}}), 1).await;
    engines[0].faults().add(busy());
    bed.chat("x", false).await;
    let times: Vec<_> = engines[0]
        .requests(CHAT)
        .iter()
        .map(|request| request.received)
        .collect();
    for two in times.windows(2) {
        assert!(
            two[1].duration_since(two[0]) >= Duration::from_millis(150),
            "{times:?}"
        );
    }
    assert_eq!(times.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_stay_within_the_budget() {
    let (bed, engines) = bed(json!({"retry": {"attempts": 10, "retryInterval": "0s"}}), 1).await;
    engines[0].faults().add(busy());
    let begun = tokio::time::Instant::now();
    for _ in 0..200 {
        bed.chat("x", false).await;
    }
    // A hundred are saved up at first; then a fifth of the requests and ten a second.
    let most = 200 + 100 + 40 + (begun.elapsed().as_secs_f64() * 10.0).ceil() as usize + 1;
    let total = asked(&engines)[0];
    assert!(
        (300..=most).contains(&total),
        "{total} requests reached the engine, {most} are allowed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeout_ends_at_the_head_and_is_504_at_last() {
    let (bed, engines) = bed(
        json!({"timeout": "1s", "retry": {"attempts": 1, "retryInterval": "1ms"}}),
        2,
    )
    .await;
    fail(&engines, Rule::new(Fault::Hang).times(1));
    let begun = tokio::time::Instant::now();
    let answer = bed.chat("x", true).await;
    answer.assert_refused(504, "upstream_timeout", "late");
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "each attempt has its own time"
    );
    // A stream whose head came in time may take as long as it likes.
    let slow = Fault::DelayEvents {
        by: Duration::from_millis(150),
    };
    fail(&engines, Rule::new(slow));
    let begun = tokio::time::Instant::now();
    let answer = bed.chat("x", true).await;
    answer.assert_good("a slow stream");
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_one_piece_may_take_longer_than_the_timeout_where_it_is_split() {
    // The published guides set ten seconds in front of models that take longer to answer.
    for way in WAYS.iter().filter(|way| ["auto", "nixl"].contains(&way.name)) {
        // Prefill says one token, which takes no time.
        let (bed, _prefill, _decode) = way
            .bed(
                |config| config.decode_tokens_per_second = 4.0,
                json!({"timeout": "1s"}),
            )
            .await;
        let body =
            json!({"model": "m", "prompt": "slow", "max_tokens": 16, "ignore_eos": true, "temperature": 0});
        let begun = tokio::time::Instant::now();
        let answer = bed.post(COMPLETIONS, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_leg_has_its_own_time() {
    let policy = json!({"timeout": "2s", "retry": {"attempts": 0}});
    let (bed, prefill, decode) = NIXL.bed(|_| {}, policy).await;
    let late = |millis| {
        Rule::new(Fault::Delay {
            by: Duration::from_millis(millis),
        })
    };
    prefill.faults().add(late(1200).phase(Phase::Prefill));
    decode.faults().add(late(1200).phase(Phase::Decode));
    let begun = tokio::time::Instant::now();
    assert_eq!(
        bed.chat("x", true).await.status,
        200,
        "1.2 s and 1.2 s are each below 2 s"
    );
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
    decode.faults().clear();
    decode.faults().add(late(60_000).phase(Phase::Decode));
    assert_eq!(bed.chat("x", true).await.status, 504);
}
