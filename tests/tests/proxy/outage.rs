//! The API server is away: what is known stays in use, and what happened meanwhile is learned afterwards.

use std::cell::Cell;

use anyhow::Result;
use k8s_openapi::api::core::v1;
use kthena_api::{ModelRoute, ModelServer, labels};
use kthena_tests::{
    cluster::{Cluster, Filter},
    http,
    proxy::Proxy,
    relay::Relay,
};
use kube::api::DeleteParams;
use serde_json::Value;

use crate::{
    bed::{Bed, assert_pairs, chat, during, stats},
    object::{Pod, SERVED, plain_server, route},
};

/// Asks again and again until told to stop; every answer must be good. Says how many there were.
async fn keep_asking(bed: &Bed, enough: &Cell<bool>) -> Result<u64> {
    let mut asked = 0;
    while !enough.get() {
        bed.ask(&format!("question {asked}")).await?.said()?;
        asked += 1;
    }
    Ok(asked)
}

#[tokio::test]
async fn requests_go_on_while_the_api_server_is_away() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let bed = Bed::on(&cluster, "outage").await?;
    bed.split().await?;
    let prefill = bed.run(Pod::prefill("p-0")).await?;
    let decode = bed.run(Pod::decode("d-0").tokens_per_second(50)).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    let mut stream = bed.stream("a long story", 200).await?;
    stream.events(3).await?;

    let outage = async {
        cluster.stop_api_server().await?;
        for number in 0..10 {
            bed.ask(&format!("without {number}")).await?.said()?;
        }
        assert_eq!(bed.proxy.readiness().await?.status, 200);
        cluster.start_api_server().await
    };
    let asked = during(outage, async |enough| keep_asking(&bed, enough).await).await?;
    stream.rest().await?.said()?;
    assert_pairs(&[&prefill], &[&decode], asked + 11).await?;

    // Changes are seen again.
    let next = bed.run(Pod::decode("d-1")).await?;
    bed.until_split(&["p-0"], &["d-0", "d-1"]).await?;
    bed.delete("d-0").await?;
    bed.until_split(&["p-0"], &["d-1"]).await?;
    bed.ask("afterwards").await?.said()?;
    assert_eq!(stats(&next).await?.decode.finished, 1);

    // The store goes and comes back as well, which ends the API server's own watches.
    cluster.stop_etcd().await?;
    bed.ask("without a store").await?.said()?;
    cluster.start_etcd().await?;
    bed.run(Pod::decode("d-2")).await?;
    bed.until_split(&["p-0"], &["d-1", "d-2"]).await?;
    Ok(())
}

/// While the proxy cannot reach it, the API server changes much and starts anew, so that it has forgotten where the proxy
/// was: a watch cannot go on, and only a full list tells what is gone.
#[tokio::test]
async fn what_went_unseen_is_learned_from_a_list() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let mut bed = Bed::on(&cluster, "relist").await?;
    let account = Proxy::account(&cluster, &bed.space).await?;
    let mut relay = Relay::to(cluster.url()).await?;
    bed.proxy = Proxy::builder(&account.through(relay.address())?).start().await?;
    bed.proxy.until_ready().await?;
    bed.plain().await?;
    let gone_model = format!("{}-gone", bed.model());
    let new_model = format!("{}-new", bed.model());
    bed.apply(&[
        route("gone", &gone_model, &[("llm", 100)]),
        plain_server("gone", "gone"),
    ])
    .await?;
    bed.run(Pod::plain("stays")).await?;
    let gone = bed.run(Pod::plain("gone")).await?;
    bed.until_engines(&["gone", "stays"]).await?;
    let known = |object: &Value| !object.is_null();
    bed.proxy.until(&bed.space, "modelservers", "gone", known).await?;

    relay.cut().await;
    let now = DeleteParams::default().grace_period(0);
    bed.space.api::<v1::Pod>().await?.delete("gone", &now).await?;
    bed.space.api::<ModelRoute>().await?.delete("gone", &now).await?;
    bed.space.api::<ModelServer>().await?.delete("gone", &now).await?;
    let new = route("new", &new_model, &[("llm", 100)]);
    bed.space.apply(&new.to_string()).await?;
    // Somebody else has the address by now, and must not get this model's requests.
    let heir = bed
        .run(
            Pod::plain("heir")
                .label(labels::MODEL_SERVING_NAME, "heir")
                .address(gone.ip),
        )
        .await?;
    let new = bed.run(Pod::plain("new")).await?;
    cluster.stop_api_server().await?;
    cluster.start_api_server().await?;
    let mark = cluster.audit().mark()?;
    relay.mend().await?;

    bed.until_engines(&["new", "stays"]).await?;
    for (kind, name) in [
        ("modelroutes", "gone"),
        ("modelservers", "gone"),
        ("pods", "gone"),
    ] {
        bed.proxy.until(&bed.space, kind, name, Value::is_null).await?;
    }
    bed.proxy.until(&bed.space, "modelroutes", "new", known).await?;
    assert_eq!(bed.ask_for(&gone_model, "hello").await?.status, 404);
    let mut models = bed.proxy.models().await?;
    models.retain(|model| model.starts_with(bed.model()));
    assert_eq!(models, [bed.model().to_owned(), new_model.clone()]);
    for _ in 0..20 {
        bed.ask_for(&new_model, "hello").await?.said()?;
    }
    assert!(stats(&new).await?.plain.finished > 0);
    assert_eq!(stats(&heir).await?.plain.received, 0);
    let lists = Filter::default()
        .user(account.name())
        .verb("list")
        .resource("pods");
    assert!(
        cluster.audit().count(mark, &lists)? > 0,
        "no list was needed: this showed nothing"
    );
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_starts_before_the_api_server_waits_for_it() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let bed = Bed::on(cluster, "early").await?;
    bed.split().await?;
    bed.run(Pod::prefill("p-0")).await?;
    bed.run(Pod::decode("d-0")).await?;
    let mut relay = Relay::to(cluster.url()).await?;
    relay.cut().await;
    let account = Proxy::account(cluster, &bed.space)
        .await?
        .through(relay.address())?;
    let mut proxy = Proxy::builder(&account).start().await?;
    kthena_tests::wait::until("the proxy to listen", || async {
        Ok(Some(proxy.readiness().await?))
    })
    .await?;
    kthena_tests::wait::until("the refusals to be told", || async {
        Ok((proxy.log()?.matches("the watch broke").count() >= 5).then_some(()))
    })
    .await?;
    let readiness = proxy.readiness().await?;
    assert_eq!(
        (readiness.status, readiness.json()?["message"].as_str()),
        (503, Some("router is not ready"))
    );
    assert_eq!(http::get(&format!("{}/healthz", proxy.url())).await?.status, 200);
    proxy.check()?;
    // Silence is no better than a refusal.
    relay.stall();
    relay.mend().await?;
    proxy.until_ready().await?;
    http::post(
        &format!("{}/chat/completions", proxy.base()),
        &chat(bed.model(), "hello"),
    )
    .await?
    .said()?;
    Ok(())
}

/// The network between the two loses everything and tells nobody: for the proxy nothing happens.
#[tokio::test]
async fn a_silent_network_stops_nothing_and_loses_nothing() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut bed = Bed::on(cluster, "silent").await?;
    let mut relay = Relay::to(cluster.url()).await?;
    let account = Proxy::account(cluster, &bed.space)
        .await?
        .through(relay.address())?;
    bed.proxy = Proxy::builder(&account).start().await?;
    bed.proxy.until_ready().await?;
    bed.plain().await?;
    let first = bed.run(Pod::plain("first")).await?;
    bed.until_engines(&["first"]).await?;
    relay.stall();
    let second = bed.run(Pod::plain("second")).await?;
    bed.kubelet.crash(&bed.space, "first").await?;
    kthena_tests::wait::until("the engine's restart", || async {
        Ok(first.answers().await.then_some(()))
    })
    .await?;
    bed.until_answered("hello").await?;
    bed.ask_many(20).await?;
    assert_eq!(stats(&second).await?.plain.received, 0);
    relay.mend().await?;
    bed.until_engines(&["first", "second"]).await?;
    assert_eq!(bed.ask_for(SERVED, "hello").await?.status, 404);
    Ok(())
}
