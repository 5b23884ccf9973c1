//! Several controllers of which one leads; what a process says about itself, and how it ends.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kthena_api::ModelServing;
use kthena_tests::{
    cluster::{Cluster, Identity, Namespace},
    controller::Controller,
    kubelet::Kubelet,
    stopwatch::Stopwatch,
    wait,
};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

const LEASE: &str = "lease.kthena.controller-manager";

const SERVING: &str = "
apiVersion: workload.serving.volcano.sh/v1alpha1
kind: ModelServing
metadata: {name: llama}
spec:
  replicas: 1
  schedulerName: default-scheduler
  template:
    roles:
    - name: decode
      entryTemplate:
        spec:
          terminationGracePeriodSeconds: 1
          containers: [{name: engine, image: kthena-sim, ports: [{containerPort: 8000}]}]
";

async fn candidate(account: &Identity, space: &Namespace, name: &str) -> Result<Controller> {
    let namespace = format!("--pod-namespace={}", space.name());
    Controller::with(
        account,
        name,
        &["--enable-webhook=false", "--leader-elect", "-v=2", &namespace],
    )
    .await
}

async fn scale(space: &Namespace, replicas: i32) -> Result<()> {
    let api = space.api::<ModelServing>().await?;
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    api.patch("llama", &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn until_available(space: &Namespace, replicas: i32, leader: &Controller) -> Result<()> {
    let is_available = |serving: &ModelServing| {
        let status = serving.status.clone().unwrap_or_default();
        (status.replicas, status.available_replicas) == (Some(replicas), Some(replicas))
    };
    let what = format!("{replicas} groups");
    let found = space.until("llama", &what, is_available).await;
    found.map(|_: ModelServing| ()).with_context(|| leader.tail())
}

/// Waits until a controller leads.
async fn until_leading(controller: &Controller) -> Result<()> {
    let leads = || controller.metrics(&["kthena_controller_leader "]);
    let found = wait::until_value("the next leader", leads, |it| *it == [1.0]).await;
    found.map(drop).with_context(|| controller.tail())
}

async fn writes(controller: &Controller) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for verb in ["create", "patch", "delete"] {
        let verb = format!("verb=\"{verb}\"");
        all.extend(
            controller
                .metrics(&["kthena_controller_api_requests_total{", &verb])
                .await?,
        );
    }
    Ok(all)
}

#[tokio::test]
async fn one_leads_and_the_next_takes_over() -> Result<()> {
    let cluster = Cluster::builder().controller_manager().start().await?;
    let space = cluster.namespace("managed").await?;
    let _kubelet = Kubelet::on(&cluster, &space).start().await?;
    let account = Controller::account(&cluster, &space).await?;
    let mut first = candidate(&account, &space, "first").await?;
    first.until_ready("ok").await?;
    let mut second = candidate(&account, &space, "second").await?;
    second.until_ready("standing by").await?;
    space.apply(SERVING).await?;
    until_available(&space, 1, &first).await?;

    // One works, the other says that it does not.
    ensure!(!writes(&first).await?.is_empty() && writes(&second).await?.is_empty());
    assert_eq!(first.metrics(&["kthena_controller_leader "]).await?, [1.0]);
    assert_eq!(second.metrics(&["kthena_controller_leader "]).await?, [0.0]);
    let done = first
        .metrics(&[
            "reconciles_total",
            "controller=\"modelserving\"",
            "result=\"done\"",
        ])
        .await?;
    ensure!(matches!(done[..], [count] if count >= 1.0), "{done:?}");
    for controller in [&first, &second] {
        assert_eq!(controller.health("/livez").await?.status, 200);
    }
    let pods = space
        .api::<Pod>()
        .await?
        .list(&ListParams::default())
        .await?
        .items;
    let labels = pods[0].metadata.labels.clone().context("labels")?;
    let cache = first.cache().await?.json()?;
    let revision = &labels["modelserving.volcano.sh/revision"];
    let role = json!({
        "name": "decode-0",
        "revision": revision,
        "roleTemplateHash": labels["modelserving.volcano.sh/role-template-hash"],
        "status": "Running",
    });
    let group = json!({
        "name": "llama-0",
        "runningPods": ["llama-0-decode-0-0"],
        "revision": revision,
        "status": "Running",
        "roles": { "decode": { "decode-0": role } },
    });
    let key = format!("{}/llama", space.name());
    assert_eq!(cache, json!({ key: { "llama-0": group } }));
    assert_eq!(second.cache().await?.status, 503);

    // One that ends in order is followed at once: long before the lease would expire, which takes 15 s.
    let clock = Stopwatch::start();
    let ended = first.stop().await;
    ensure!(ended.success(), "{ended}:\n{}", first.tail());
    until_leading(&second).await?;
    let took = clock.elapsed();
    ensure!(took < Duration::from_secs(8), "{took:?}");
    scale(&space, 2).await?;
    until_available(&space, 2, &second).await?;

    // One that vanishes is followed when its lease has expired.
    let third = candidate(&account, &space, "third").await?;
    third.until_ready("standing by").await?;
    let clock = Stopwatch::start();
    second.kill();
    until_leading(&third).await?;
    let took = clock.elapsed();
    ensure!(
        took > Duration::from_secs(5),
        "it did not wait for the lease: {took:?}"
    );
    scale(&space, 1).await?;
    until_available(&space, 1, &third).await?;

    // One whose lease somebody else has ends at once, and says why.
    let mut third = third;
    let api = space.api::<Lease>().await?;
    let taken = Patch::Merge(json!({ "spec": { "holderIdentity": "somebody" } }));
    api.patch(LEASE, &PatchParams::default(), &taken).await?;
    let ended = third.until_ended().await?;
    assert_eq!(ended.code(), Some(1));
    let log = third.tail();
    ensure!(
        log.contains("no longer the leader: the lease was taken by somebody"),
        "{log}"
    );
    let lease = api.get(LEASE).await?;
    assert_eq!(
        lease.spec.and_then(|spec| spec.holder_identity).as_deref(),
        Some("somebody")
    );
    Ok(())
}
