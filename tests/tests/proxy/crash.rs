//! Engines that end, hang or are lost without the API server knowing.

use std::cell::Cell;

use anyhow::Result;
use k8s_openapi::api::core::v1;
use kthena_tests::{
    kubelet::{Kubelet, Readiness, RunningPod},
    wait,
};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::{
    bed::{Bed, assert_pairs, during, received, stats, stats_now},
    object::{Pod, split_server},
};

/// The engine's own id: another one after each start.
async fn engine_id(pod: &RunningPod) -> Result<String> {
    Ok(stats_now(pod).await?.engine_id)
}

/// How many attempts the proxy has made beyond each request's first.
async fn retries(bed: &Bed) -> Result<f64> {
    let parts = ["kthena_router_retries_total", bed.space.name()];
    bed.proxy.settled_metric(&parts).await
}

/// Kills the engine and waits until another one answers at the same address.
async fn crash(bed: &Bed, pod: &RunningPod) -> Result<()> {
    let before = engine_id(pod).await?;
    bed.kubelet.crash(&bed.space, &pod.name).await?;
    wait::until("the engine's restart", || async {
        Ok((engine_id(pod).await? != before).then_some(()))
    })
    .await
}

/// The pod stays Ready all the time, so the proxy keeps its idle connections, and all of them are dead.
#[tokio::test]
async fn connections_to_an_engine_that_has_restarted_are_replaced() -> Result<()> {
    let bed = Bed::start("stale").await?;
    bed.split().await?;
    let prefill = bed.run(Pod::prefill("p-0")).await?;
    let decode = bed.run(Pod::decode("d-0")).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    for pod in [&prefill, &decode] {
        bed.kubelet
            .set_ready(&bed.space, &pod.name, Readiness::Always)
            .await?;
    }
    for round in 1..=3 {
        bed.ask("warm").await?.said()?;
        for pod in [&prefill, &decode] {
            // The client has its answer a moment before the connection is put back.
            let look = || bed.proxy.engine(&bed.space, "llm", &pod.name);
            let is_kept = |engine: &Value| engine["idleConnections"] == 1;
            wait::until_value("an idle connection", look, is_kept).await?;
            if round != 3 || pod.name == "d-0" {
                crash(&bed, pod).await?;
            }
        }
        bed.ask("cold").await?.said()?;
        assert_eq!(received(&decode).await?, 1, "a new engine, one request");
    }
    // What was replaced was no attempt of its own: with another engine there it would have cost nothing either.
    assert_eq!(retries(&bed).await?, 0.0);
    Ok(())
}

/// Kills an engine while requests are under way, and waits until it is back.
async fn crash_under_load(bed: &Bed, pod: &str) -> Result<()> {
    wait::until("requests in flight", || async {
        let engine = bed.proxy.engine(&bed.space, "llm", "d-0").await?;
        Ok((engine["inFlight"].as_u64() > Some(2)).then_some(()))
    })
    .await?;
    bed.kubelet.crash(&bed.space, pod).await?;
    let is_back = |pod: &v1::Pod| {
        let status = pod.status.iter();
        let mut engines = status.flat_map(|status| status.container_statuses.iter().flatten());
        engines.any(|engine| engine.restart_count > 0 && engine.ready)
    };
    bed.space.until(pod, "its engine to be back", is_back).await?;
    Ok(())
}

#[tokio::test]
async fn nobody_notices_a_crash_before_the_first_byte() -> Result<()> {
    let bed = Bed::start("crash").await?;
    bed.split().await?;
    for name in ["p-0", "p-1"] {
        bed.run(Pod::prefill(name)).await?;
    }
    // Whole answers, half a second each: what is cut has not begun to arrive.
    for name in ["d-0", "d-1"] {
        bed.run(Pod::decode(name).tokens_per_second(16)).await?;
    }
    bed.until_split(&["p-0", "p-1"], &["d-0", "d-1"]).await?;
    for victim in ["d-0", "p-1", "d-1", "p-0"] {
        let ask = async |enough: &Cell<bool>| {
            let ask = async |number: usize| {
                while !enough.get() {
                    bed.ask(["one", "two", "three"][number % 3]).await?.said()?;
                }
                anyhow::Ok(())
            };
            futures::future::try_join_all((0..10).map(ask)).await
        };
        during(crash_under_load(&bed, victim), ask).await?;
        bed.until_split(&["p-0", "p-1"], &["d-0", "d-1"]).await?;
    }
    assert!(retries(&bed).await? > 0.0);
    Ok(())
}

/// A stream that has begun cannot be saved, and must not look complete.
#[tokio::test]
async fn a_crash_in_the_middle_of_a_stream_is_told() -> Result<()> {
    let bed = Bed::start("cut").await?;
    bed.split().await?;
    bed.run(Pod::prefill("p-0")).await?;
    bed.run(Pod::decode("d-0").tokens_per_second(20)).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    let mut stream = bed.stream("a long story", 1000).await?;
    stream.events(5).await?;
    bed.kubelet.crash(&bed.space, "d-0").await?;
    let answer = stream.rest().await?;
    let events = answer.events();
    let last = events.last().expect("events came");
    assert!(
        last.contains("\"error\"") && last.contains("upstream_lost"),
        "{last}"
    );
    assert!(!events.iter().any(|event| event == "[DONE]"));
    assert!(
        answer.broken.is_some(),
        "the end of the connection is no clean end"
    );
    // The engine comes back by itself.
    bed.until_answered("hello").await?;
    Ok(())
}

/// The API server still shows the pods of a lost node as Ready.
#[tokio::test]
async fn pods_of_a_lost_node_are_passed_over() -> Result<()> {
    let bed = Bed::start("lost").await?;
    bed.split().await?;
    let lost = Kubelet::node(&bed.cluster, &format!("lost-{}", bed.space.name()))
        .start()
        .await?;
    let prefill = bed.run(Pod::prefill("p-0")).await?;
    let decode = bed.run(Pod::decode("d-0")).await?;
    bed.run(Pod::prefill("p-lost").node(lost.name())).await?;
    bed.run(Pod::decode("d-lost").node(lost.name())).await?;
    bed.until_split(&["p-0", "p-lost"], &["d-0", "d-lost"]).await?;
    bed.ask("warm").await?.said()?;
    lost.vanish().await?;
    bed.ask_many(30).await?;
    let before = retries(&bed).await?;
    assert!(
        before > 0.0,
        "no request went to the lost node: nothing was shown"
    );
    bed.until_split(&["p-0", "p-lost"], &["d-0", "d-lost"]).await?;

    // What an administrator does about it.
    let pods = bed.space.api::<v1::Pod>().await?;
    for name in ["p-lost", "d-lost"] {
        pods.delete(name, &DeleteParams::default().grace_period(0))
            .await?;
    }
    bed.until_split(&["p-0"], &["d-0"]).await?;
    bed.ask_many(30).await?;
    assert_eq!(retries(&bed).await?, before);
    assert_eq!(stats(&decode).await?.decode_recomputed, 0);
    assert!(stats(&prefill).await?.prefill.finished >= 60);
    Ok(())
}

/// It accepts connections and never answers: only the time limit tells.
#[tokio::test]
async fn an_engine_that_hangs_costs_its_time_limit() -> Result<()> {
    let bed = Bed::start("frozen").await?;
    bed.split().await?;
    let mut server = split_server("llm", "llm");
    server["spec"]["trafficPolicy"] = json!({"timeout": "2s"});
    bed.apply(&[server]).await?;
    let prefill = bed.run(Pod::prefill("p-0")).await?;
    bed.run(Pod::prefill("p-1")).await?;
    let decode = bed.run(Pod::decode("d-0")).await?;
    bed.until_split(&["p-0", "p-1"], &["d-0"]).await?;
    bed.kubelet
        .set_ready(&bed.space, "p-1", Readiness::Always)
        .await?;
    bed.kubelet.freeze(&bed.space, "p-1").await?;
    // All at once: those that it gets wait together.
    let ask = async |number: usize| bed.ask(&format!("question {number}")).await?.said();
    futures::future::try_join_all((0..12).map(ask)).await?;
    assert!(retries(&bed).await? > 0.0);
    assert_pairs(&[&prefill], &[&decode], 12).await?;

    // Its probe fails, and it gets nothing any more.
    bed.kubelet
        .set_ready(&bed.space, "p-1", Readiness::Probed)
        .await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    bed.kubelet.thaw(&bed.space, "p-1").await?;
    bed.until_split(&["p-0", "p-1"], &["d-0"]).await
}
