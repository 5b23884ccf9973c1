//! Addresses that change, and addresses that come back for somebody else.

use anyhow::Result;
use k8s_openapi::api::core::v1;
use kthena_api::labels;
use kube::api::DeleteParams;
use serde_json::Value;

use crate::{
    bed::{Bed, received, stats},
    object::{Pod, plain_server, route},
};

/// A second model whose one pod is called `heir` and has the label `other`.
async fn second_model(bed: &Bed) -> Result<String> {
    let model = format!("{}-other", bed.model());
    bed.apply(&[
        plain_server("other", "other"),
        route("other", &model, &[("other", 100)]),
    ])
    .await?;
    Ok(model)
}

fn heir() -> Pod {
    Pod::plain("heir").label(labels::MODEL_SERVING_NAME, "other")
}

/// The engine's address as the proxy knows it.
async fn address(bed: &Bed, pod: &str) -> Result<String> {
    let engine = bed.proxy.engine(&bed.space, "llm", pod).await?;
    Ok(engine["address"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_pod_that_moves_is_followed_and_its_old_address_left() -> Result<()> {
    let bed = Bed::start("readdress").await?;
    bed.split().await?;
    let prefill = bed.run(Pod::prefill("p-0")).await?;
    let before = bed.run(Pod::decode("d-0")).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    bed.ask("warm").await?.said()?;
    let old = address(&bed, "d-0").await?;
    bed.kubelet.readdress(&bed.space, "d-0").await?;
    let has_moved = |server: &Value| {
        let mut engines = server["endpoints"].as_array().into_iter().flatten();
        let decode =
            engines.find(|engine| engine["name"].as_str().is_some_and(|name| name.ends_with("/d-0")));
        decode.is_some_and(|engine| engine["address"] != old.as_str())
    };
    bed.proxy
        .until(&bed.space, "modelservers", "llm", has_moved)
        .await?;
    let heir = bed.run(heir().address(before.ip)).await?;
    assert_eq!(heir.ip, before.ip);
    let after = bed.kubelet.until_ready(&bed.space, "d-0").await?;
    assert_eq!(after.uid, before.uid);
    bed.ask_many(20).await?;
    assert_eq!(received(&heir).await?, 0);
    assert_eq!(stats(&after).await?.decode.finished, 20);
    assert_eq!(stats(&prefill).await?.prefill.finished, 21);
    assert_eq!(stats(&after).await?.decode_recomputed, 0);
    Ok(())
}

#[tokio::test]
async fn an_inherited_address_does_not_inherit_requests() -> Result<()> {
    let bed = Bed::start("inherit").await?;
    bed.plain().await?;
    let other = second_model(&bed).await?;
    let first = bed.run(Pod::plain("first")).await?;
    bed.until_engines(&["first"]).await?;
    bed.ask("warm").await?.said()?;
    let pods = bed.space.api::<v1::Pod>().await?;
    pods.delete("first", &DeleteParams::default().grace_period(0))
        .await?;
    let heir = bed.run(heir().address(first.ip)).await?;
    assert_eq!(heir.ip, first.ip);
    bed.proxy.until_engines(&bed.space, "other", &["heir"]).await?;
    bed.until_engines(&[]).await?;
    let refused = bed.ask("is anybody there?").await?;
    assert_eq!(
        (refused.status, refused.code()?.as_str()),
        (503, "no_available_pods")
    );
    assert_eq!(received(&heir).await?, 0);
    bed.ask_for(&other, "hello").await?.said()?;
    assert_eq!(received(&heir).await?, 1);
    Ok(())
}

/// A failed pod stays in the API with its address until somebody removes it; the address is given again long before.
#[tokio::test]
async fn a_failed_pod_has_no_claim_to_its_address() -> Result<()> {
    let bed = Bed::start("failed").await?;
    bed.plain().await?;
    let other = second_model(&bed).await?;
    let first = bed.run(Pod::plain("first").restart_policy("Never")).await?;
    bed.until_engines(&["first"]).await?;
    bed.ask("warm").await?.said()?;
    bed.kubelet.crash(&bed.space, "first").await?;
    let failed = |pod: &v1::Pod| {
        let status = pod.status.clone().unwrap_or_default();
        status.phase.as_deref() == Some("Failed") && status.pod_ip == Some(first.ip.to_string())
    };
    bed.space.until("first", "its failure", failed).await?;
    let heir = bed.run(heir().address(first.ip)).await?;
    assert_eq!(heir.ip, first.ip);
    bed.proxy.until_engines(&bed.space, "other", &["heir"]).await?;
    bed.until_engines(&[]).await?;
    let refused = bed.ask("is anybody there?").await?;
    assert_eq!(
        (refused.status, refused.code()?.as_str()),
        (503, "no_available_pods")
    );
    bed.ask_for(&other, "hello").await?.said()?;
    assert_eq!(received(&heir).await?, 1);
    Ok(())
}

/// Pods of a node's own network share its address and differ by port; two ModelServers tell them apart.
#[tokio::test]
async fn pods_that_share_an_address_are_told_apart() -> Result<()> {
    let bed = Bed::start("hostnetwork").await?;
    bed.plain().await?;
    let mut server = plain_server("other", "other");
    server["spec"]["workloadPort"]["port"] = 8001.into();
    let other = format!("{}-other", bed.model());
    bed.apply(&[server, route("other", &other, &[("other", 100)])])
        .await?;
    let first = bed.run(Pod::plain("first").host_network(8000)).await?;
    let second = bed.run(heir().host_network(8001)).await?;
    assert_eq!(first.ip, second.ip);
    bed.until_engines(&["first"]).await?;
    bed.proxy.until_engines(&bed.space, "other", &["heir"]).await?;
    for _ in 0..3 {
        bed.ask("hello").await?.said()?;
    }
    bed.ask_for(&other, "hello").await?.said()?;
    assert_eq!((received(&first).await?, received(&second).await?), (3, 1));
    // One of the two goes; the other's connections stay good.
    bed.delete("first").await?;
    bed.until_engines(&[]).await?;
    bed.ask_for(&other, "hello").await?.said()?;
    assert_eq!(received(&second).await?, 2);
    Ok(())
}
