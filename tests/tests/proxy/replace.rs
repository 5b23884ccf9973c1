//! Pods that are replaced one after the other while requests come: nobody who asks may notice.

use std::{cell::Cell, time::Duration};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1;
use kthena_api::labels;
use kthena_sim::Stats;
use kthena_tests::{http, wait};

use crate::{
    bed::{Bed, chat, during, stats},
    object::Pod,
};

/// Clients that ask without a pause, every other time for a stream.
const CLIENTS: usize = 6;

/// What the clients have got.
#[derive(Debug, Default)]
struct Asked {
    whole: usize,
    streamed: usize,
}

async fn client(bed: &Bed, number: usize, enough: &Cell<bool>) -> Result<Asked> {
    let mut asked = Asked::default();
    let client = http::client(); // keeps its connections, as users do
    while !enough.get() {
        let count = asked.whole + asked.streamed;
        let mut body = chat(bed.model(), &format!("question {count} of client {number}"));
        let stream = (count + number).is_multiple_of(2);
        body["stream"] = stream.into();
        let answer = async { http::begin(&client, &bed.chat_url(), &body).await?.rest().await };
        let answer = answer.await.and_then(|answer| answer.said());
        answer.with_context(|| {
            let tail = bed.proxy.tail();
            format!("request {count} of client {number}, stream: {stream}; the proxy's last lines:\n{tail}")
        })?;
        match stream {
            true => asked.streamed += 1,
            false => asked.whole += 1,
        }
    }
    Ok(asked)
}

/// Runs `work` while clients ask. All of their answers must be good.
async fn under_load(bed: &Bed, work: impl Future<Output = Result<()>>) -> Result<()> {
    let clients = async |enough: &Cell<bool>| {
        try_join_all((0..CLIENTS).map(|number| client(bed, number, enough))).await
    };
    let asked = during(work, clients).await?;
    assert!(
        asked.iter().all(|asked| asked.whole > 5 && asked.streamed > 5),
        "too little was asked to show anything: {asked:?}"
    );
    Ok(())
}

/// An engine that takes a moment, so that there are always requests in progress, and whose unread blocks count soon.
fn busy(pod: Pod) -> Pod {
    pod.tokens_per_second(200)
        .argument("--lease", "5s")
        .argument("--keep-alive", "1s")
}

/// A prefill and a decode engine. What prefill has computed goes with it, so they serve on for a while after their deletion:
/// long enough for whoever was told of them before.
fn group(number: usize, revision: &str) -> [Pod; 2] {
    let group = format!("llm-{number}");
    [
        Pod::prefill(&format!("p-{number}")),
        Pod::decode(&format!("d-{number}")),
    ]
    .map(|pod| {
        busy(pod)
            .group(&group)
            .label(labels::REVISION, revision)
            .pre_stop(2)
    })
}

/// What a ModelServing does: one group after the other goes and comes back under the same names.
#[tokio::test]
async fn groups_are_replaced_in_place() -> Result<()> {
    let bed = Bed::start("in-place").await?;
    bed.split().await?;
    for number in 0..2 {
        for pod in group(number, "old") {
            bed.run(pod).await?;
        }
    }
    bed.until_split(&["p-0", "p-1"], &["d-0", "d-1"]).await?;
    let rollout = async {
        for (number, rest) in [(0, 1), (1, 0)] {
            let names = ["p", "d"].map(|role| format!("{role}-{number}"));
            for name in &names {
                bed.delete(name).await?;
            }
            bed.until_split(&[&format!("p-{rest}")], &[&format!("d-{rest}")])
                .await?;
            for name in &names {
                bed.space.until_gone::<v1::Pod>(name).await?;
            }
            for pod in group(number, "new") {
                bed.run(pod).await?;
            }
            bed.until_split(&["p-0", "p-1"], &["d-0", "d-1"]).await?;
        }
        Ok(())
    };
    Box::pin(under_load(&bed, rollout)).await?;
    let mut finished = 0;
    for name in ["p-0", "p-1", "d-0", "d-1"] {
        let pod = bed.kubelet.until_ready(&bed.space, name).await?;
        let what = format!("{name} to keep no blocks");
        let is_idle = |stats: &Stats| stats.running == 0 && stats.kv.pinned == 0;
        let stats = wait::until_value(&what, || stats(&pod), is_idle).await?;
        assert_eq!((stats.decode_recomputed, stats.kv.leaked), (0, 0), "{stats:?}");
        assert_eq!(stats.plain.received, 0, "{stats:?}");
        finished += stats.decode.finished;
    }
    assert!(finished > 0, "the new pods have answered nothing");
    Ok(())
}

/// What a Deployment does: a new pod comes before an old one goes. These go without a pause, so that some requests are sent to
/// engines that have just stopped to listen.
#[tokio::test]
async fn pods_are_replaced_by_others() -> Result<()> {
    let bed = Bed::start("surge").await?;
    bed.plain().await?;
    let name = |number: usize| format!("pod-{number}");
    for number in 0..4 {
        bed.run(busy(Pod::plain(&name(number)))).await?;
    }
    let until_engines = async |range: std::ops::Range<usize>| {
        let names: Vec<String> = range.map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        bed.until_engines(&names).await
    };
    until_engines(0..4).await?;
    let rollout = async {
        for old in 0..4 {
            bed.run(busy(Pod::plain(&name(old + 4)))).await?;
            until_engines(old..old + 5).await?;
            bed.delete(&name(old)).await?;
            until_engines(old + 1..old + 5).await?;
            bed.space.until_gone::<v1::Pod>(&name(old)).await?;
        }
        Ok(())
    };
    Box::pin(under_load(&bed, rollout)).await
}

/// The proxy itself is replaced: it finishes what it has, while another one takes what comes.
#[tokio::test]
async fn a_proxy_that_is_replaced_finishes_what_it_has() -> Result<()> {
    let mut bed = Bed::start("handover").await?;
    bed.split().await?;
    bed.run(Pod::prefill("p-0")).await?;
    bed.run(Pod::decode("d-0").tokens_per_second(20)).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    let next = kthena_tests::proxy::Proxy::on(&bed.cluster, &bed.space).await?;
    let mut stream = bed.stream("a long story", 40).await?;
    stream.events(3).await?;
    let mut old = std::mem::replace(&mut bed.proxy, next);
    old.terminate();
    wait::until("the old proxy to say that it goes", || async {
        // Once it listens no more, nobody asks it either.
        Ok(old
            .readiness()
            .await
            .map_or(true, |answer| answer.status == 503)
            .then_some(()))
    })
    .await?;
    bed.ask("to the new one").await?.said()?;
    let answer = stream.rest().await?;
    answer.said()?;
    assert!(answer.events().len() >= 40, "{}", answer.text());
    let status = old.stop(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}");
    Ok(())
}
