//! Namespaces: a route, its servers and their pods belong together.

use anyhow::Result;
use kthena_tests::kubelet::Kubelet;

use crate::{
    bed::{Bed, received},
    object::{Pod, plain_server, route},
};

#[tokio::test]
async fn objects_of_the_same_name_in_two_namespaces_do_not_mix() -> Result<()> {
    let bed = Bed::start("mine").await?;
    let theirs = bed.cluster.namespace("theirs").await?;
    let kubelet = Kubelet::on(&bed.cluster, &theirs).start().await?;
    bed.plain().await?;
    let mine = bed.run(Pod::plain("pod")).await?;
    let objects = [
        plain_server("llm", "llm"),
        route("llm", theirs.name(), &[("llm", 1)]),
    ];
    bed.apply_in(&theirs, &objects).await?;
    theirs.apply(&Pod::plain("pod").yaml()).await?;
    let other = kubelet.until_ready(&theirs, "pod").await?;
    bed.until_engines(&["pod"]).await?;
    bed.proxy.until_engines(&theirs, "llm", &["pod"]).await?;
    for _ in 0..10 {
        bed.ask("hello").await?.said()?;
    }
    assert_eq!((received(&mine).await?, received(&other).await?), (10, 0));
    for _ in 0..5 {
        bed.ask_for(theirs.name(), "hello").await?.said()?;
    }
    assert_eq!((received(&mine).await?, received(&other).await?), (10, 5));
    // Without pods of its own it has none.
    bed.delete("pod").await?;
    bed.until_engines(&[]).await?;
    assert_eq!(bed.ask("hello").await?.code()?, "no_available_pods");
    Ok(())
}

#[tokio::test]
async fn a_route_finds_servers_of_its_own_namespace_alone() -> Result<()> {
    let bed = Bed::start("near").await?;
    let far = bed.cluster.namespace("far").await?;
    bed.apply(&[plain_server("llm", "llm")]).await?;
    let pod = bed.run(Pod::plain("pod")).await?;
    bed.until_engines(&["pod"]).await?;
    bed.apply_in(&far, &[route("llm", bed.model(), &[("llm", 1)])])
        .await?;
    let lost = bed.ask("hello").await?;
    assert_eq!(
        (lost.status, lost.code()?.as_str()),
        (404, "model_server_not_found")
    );
    // A server there would have to select pods there.
    bed.apply_in(&far, &[plain_server("llm", "llm")]).await?;
    assert_eq!(bed.ask("hello").await?.code()?, "no_available_pods");
    assert_eq!(received(&pod).await?, 0);
    Ok(())
}
