//! Pods that come, go and are not ready.

use std::time::Duration;

use anyhow::Result;
use kthena_tests::{kubelet::Readiness, stopwatch::Stopwatch};

use crate::{
    bed::{Bed, assert_pairs, received, stats_now},
    object::Pod,
};

/// Enough that each of two engines of equal load gets some: all at one has a chance of one in 2³⁹.
const MANY: u64 = 40;

#[tokio::test]
async fn new_pods_get_their_share() -> Result<()> {
    let bed = Bed::start("scale-up").await?;
    bed.split().await?;
    let first = bed.ask("too early").await?;
    assert_eq!((first.status, first.code()?.as_str()), (503, "no_available_pods"));
    let prefill = bed.run(Pod::prefill("p-0")).await?;
    bed.until_split(&["p-0"], &[]).await?;
    let half = bed.ask("still too early").await?;
    assert_eq!(
        (half.status, half.code()?.as_str()),
        (503, "no_prefill_decode_pair")
    );
    let decode = bed.run(Pod::decode("d-0")).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    bed.ask_many(MANY).await?;

    let more_prefill = bed.run(Pod::prefill("p-1")).await?;
    let more_decode = bed.run(Pod::decode("d-1")).await?;
    bed.until_split(&["p-0", "p-1"], &["d-0", "d-1"]).await?;
    bed.ask_many(MANY).await?;
    for pod in [&more_prefill, &more_decode] {
        assert!(received(pod).await? > 0, "{} got nothing", pod.name);
    }
    assert_pairs(&[&prefill, &more_prefill], &[&decode, &more_decode], 2 * MANY).await
}

/// The pod that goes has a pause before its SIGTERM and stays Ready in it: only the deletion timestamp says that it goes.
#[tokio::test]
async fn a_deleted_pod_gets_nothing_new_and_finishes_what_it_has() -> Result<()> {
    let bed = Bed::start("deletion").await?;
    bed.split().await?;
    let prefill = bed.run(Pod::prefill("p-0").pre_stop(20)).await?;
    let decode = bed
        .run(Pod::decode("d-0").tokens_per_second(20).pre_stop(20))
        .await?;
    // Their successors run already, so that the time of the stream is left for what it is about.
    let next_prefill = bed.run(Pod::prefill("p-1")).await?;
    let next_decode = bed.run(Pod::decode("d-1")).await?;
    bed.until_split(&["p-0", "p-1"], &["d-0", "d-1"]).await?;
    for pod in ["p-1", "d-1"] {
        bed.kubelet.set_ready(&bed.space, pod, Readiness::Never).await?;
    }
    bed.until_split(&["p-0"], &["d-0"]).await?;
    let mut stream = bed.stream("a long story", 160).await?; // eight seconds
    stream.events(3).await?;
    assert_eq!(bed.proxy.engine(&bed.space, "llm", "d-0").await?["inFlight"], 1);

    for pod in ["p-1", "d-1"] {
        bed.kubelet.set_ready(&bed.space, pod, Readiness::Probed).await?;
    }
    bed.until_split(&["p-0", "p-1"], &["d-0", "d-1"]).await?;
    let clock = Stopwatch::start();
    bed.delete("p-0").await?;
    bed.delete("d-0").await?;
    bed.until_split(&["p-1"], &["d-1"]).await?;
    assert!(clock.elapsed() < Duration::from_secs(15), "{:?}", clock.elapsed());
    assert_eq!(
        stats_now(&decode).await?.decode.finished,
        0,
        "the stream still runs"
    );
    bed.ask_many(MANY).await?;
    assert!(prefill.answers().await && decode.answers().await);

    stream.rest().await?.said()?;
    assert_pairs(&[&prefill], &[&decode], 1).await?;
    assert_pairs(&[&next_prefill], &[&next_decode], MANY).await
}

#[tokio::test]
async fn a_stream_outlives_the_sigterm_of_its_engine() -> Result<()> {
    let bed = Bed::start("sigterm").await?;
    bed.split().await?;
    bed.run(Pod::prefill("p-0")).await?;
    bed.run(Pod::decode("d-0").tokens_per_second(20)).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    let mut stream = bed.stream("a long story", 40).await?;
    stream.events(3).await?;
    bed.delete("d-0").await?;
    bed.until_split(&["p-0"], &[]).await?;
    let refused = bed.ask("another").await?;
    assert_eq!(
        (refused.status, refused.code()?.as_str()),
        (503, "no_prefill_decode_pair")
    );
    let answer = stream.rest().await?;
    answer.said()?;
    assert!(answer.events().len() >= 40, "{}", answer.text());
    bed.space
        .until_gone::<k8s_openapi::api::core::v1::Pod>("d-0")
        .await
}

#[tokio::test]
async fn a_pod_that_is_not_ready_waits_until_it_is() -> Result<()> {
    let bed = Bed::start("unready").await?;
    bed.split().await?;
    let prefill = bed.run(Pod::prefill("p-0")).await?;
    let decode = bed.run(Pod::decode("d-0").tokens_per_second(20)).await?;
    let other = bed.run(Pod::decode("d-1")).await?;
    // The proxy may be behind: what it is to forget it has to know first.
    bed.until_split(&["p-0"], &["d-0", "d-1"]).await?;
    bed.kubelet.set_ready(&bed.space, "d-1", Readiness::Never).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    let mut stream = bed.stream("a long story", 40).await?;
    stream.events(3).await?;

    bed.kubelet.set_ready(&bed.space, "d-0", Readiness::Never).await?;
    bed.until_split(&["p-0"], &[]).await?;
    let refused = bed.ask("nobody is ready").await?;
    assert_eq!(
        (refused.status, refused.code()?.as_str()),
        (503, "no_prefill_decode_pair")
    );
    bed.kubelet
        .set_ready(&bed.space, "d-1", Readiness::Probed)
        .await?;
    bed.until_split(&["p-0"], &["d-1"]).await?;
    bed.ask_many(MANY).await?;
    stream.rest().await?.said()?;
    assert_eq!(received(&decode).await?, 1, "the stream alone");

    bed.kubelet
        .set_ready(&bed.space, "d-0", Readiness::Probed)
        .await?;
    bed.until_split(&["p-0"], &["d-0", "d-1"]).await?;
    bed.ask_many(MANY).await?;
    assert!(received(&decode).await? > 1, "ready again and left out");
    assert_pairs(&[&prefill], &[&decode, &other], 2 * MANY + 1).await
}

#[tokio::test]
async fn the_last_pods_go_and_others_come() -> Result<()> {
    let bed = Bed::start("empty").await?;
    bed.split().await?;
    for round in 0..2 {
        let [p, d] = ["p", "d"].map(|role| format!("{role}-{round}"));
        let prefill = bed.run(Pod::prefill(&p)).await?;
        let decode = bed.run(Pod::decode(&d)).await?;
        bed.until_split(&[&p], &[&d]).await?;
        bed.ask("hello").await?.said()?;
        assert_pairs(&[&prefill], &[&decode], 1).await?;
        bed.delete(&p).await?;
        bed.delete(&d).await?;
        bed.until_split(&[], &[]).await?;
        let refused = bed.ask("hello").await?;
        assert_eq!(
            (refused.status, refused.code()?.as_str()),
            (503, "no_available_pods")
        );
    }
    Ok(())
}
