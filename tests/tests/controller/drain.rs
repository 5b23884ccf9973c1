//! Draining a node under a PodDisruptionBudget: one group at a time.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::api::{EvictParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::bed::Bed;

const SERVING: &str = "
apiVersion: workload.serving.volcano.sh/v1alpha1
kind: ModelServing
metadata: {name: llama, annotations: {modelserving.volcano.sh/pod-disruption-budget: 'true'}}
spec:
  replicas: 3
  schedulerName: default-scheduler
  template:
    roles:
    - name: prefill
      entryTemplate: &pod
        spec:
          terminationGracePeriodSeconds: 1
          containers: [{name: engine, image: kthena-sim, ports: [{containerPort: 8000}]}]
    - name: decode
      entryTemplate: *pod
";

/// Waits until the budget asks for so many pods, and Kubernetes has counted so many that are healthy.
async fn until_counted(bed: &Bed, available: i32, healthy: i32) -> Result<()> {
    let is_so = |budget: &PodDisruptionBudget| {
        let status = budget.status.clone().unwrap_or_default();
        let wanted = budget.spec.as_ref().and_then(|spec| spec.min_available.clone());
        wanted == Some(IntOrString::Int(available))
            && status.observed_generation == budget.metadata.generation
            && (
                status.desired_healthy,
                status.current_healthy,
                status.disruptions_allowed,
            ) == (available, healthy, healthy - available)
    };
    let what = format!("{healthy} healthy pods, of which {available} must stay");
    let found = bed
        .space
        .until::<PodDisruptionBudget>("llama", &what, is_so)
        .await;
    found.with_context(|| bed.controller.tail()).map(drop)
}

/// Groups one of whose pods is missing, going or not ready.
fn down(pods: &BTreeMap<String, Pod>) -> BTreeSet<String> {
    let is_up = |pod: &Pod| {
        let conditions = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        pod.metadata.deletion_timestamp.is_none()
            && conditions
                .into_iter()
                .any(|it| it.type_ == "Ready" && it.status == "True")
    };
    let groups = (0..3).map(|group| format!("llama-{group}"));
    let is_down = |group: &String| {
        let names = ["prefill", "decode"].map(|role| format!("{group}-{role}-0-0"));
        !names.iter().all(|name| pods.get(name).is_some_and(is_up))
    };
    groups.filter(is_down).collect()
}

#[tokio::test]
async fn a_drained_node_takes_down_one_group_at_a_time() -> Result<()> {
    let bed = Bed::start().await?;
    bed.space.apply(SERVING).await?;
    bed.until_settled("llama", 3).await?;
    until_counted(&bed, 5, 6).await?;
    let before = bed.pods("llama").await?;

    // Every change of a pod while `kubectl drain` works.
    let api = bed.space.api::<Pod>().await?;
    let list = api.list(&Default::default()).await?;
    let version = list.metadata.resource_version.context("a version")?;
    let mut pods: BTreeMap<String, Pod> = list.items.into_iter().map(|pod| (pod.name_any(), pod)).collect();
    assert_eq!(down(&pods), BTreeSet::new());
    let mut changes = api.watch(&WatchParams::default(), &version).await?.boxed();
    let mut drain = bed.cluster.kubectl()?;
    drain.args(["drain", bed.kubelet.name(), "--timeout=120s"]);
    let drain = tokio::task::spawn_blocking(move || drain.output());
    let watched = async {
        while let Some(change) = changes.next().await {
            match change? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => drop(pods.insert(pod.name_any(), pod)),
                WatchEvent::Deleted(pod) => drop(pods.remove(&pod.name_any())),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(error) => anyhow::bail!("the watch broke: {error:?}"),
            }
            let down = down(&pods);
            ensure!(down.len() <= 1, "{down:?} are down at a time");
            let is_new = |(name, pod): (&String, &Pod)| pod.uid().as_ref() != before.get(name);
            if down.is_empty() && pods.iter().all(is_new) {
                return Ok(());
            }
        }
        anyhow::bail!("the watch ended")
    };
    watched.await.with_context(|| bed.controller.tail())?;
    let drained = drain.await??;
    ensure!(
        drained.status.success(),
        "{}",
        String::from_utf8_lossy(&drained.stderr)
    );

    // The number follows what is asked for, and what is down already may go.
    bed.patch("llama", json!({ "spec": { "replicas": 2 } })).await?;
    bed.until_settled("llama", 2).await?;
    until_counted(&bed, 3, 4).await?;
    let broken = "llama-1-decode-0-0";
    bed.kubelet
        .set_ready(&bed.space, broken, kthena_tests::kubelet::Readiness::Never)
        .await?;
    until_counted(&bed, 3, 3).await?;
    api.evict(broken, &EvictParams::default()).await?;

    // One no longer asked for goes.
    let nothing =
        json!({ "metadata": { "annotations": { "modelserving.volcano.sh/pod-disruption-budget": null } } });
    bed.patch("llama", nothing).await?;
    bed.space.until_gone::<PodDisruptionBudget>("llama").await
}

#[tokio::test]
async fn a_name_that_is_taken_is_told_and_holds_nothing_else_up() -> Result<()> {
    let bed = Bed::start().await?;
    bed.space
        .apply("{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: llama}, spec: {minAvailable: 1, selector: {matchLabels: {a: b}}}}")
        .await?;
    bed.space.apply(SERVING).await?;
    let told = |serving: &kthena_api::ModelServing| {
        let status = serving.status.clone().unwrap_or_default();
        let failure = kthena_api::condition::find(&status.conditions, "ReplicaFailure");
        failure.is_some_and(|it| it.message.contains("creating PodDisruptionBudget llama failed"))
    };
    bed.space.until("llama", "the failure to be told", told).await?;
    let six = |pods: &BTreeMap<String, String>| pods.len() == 6;
    bed.until_pods("llama", "its pods all the same", six).await?;
    bed.space
        .api::<PodDisruptionBudget>()
        .await?
        .delete("llama", &Default::default())
        .await?;
    let status = bed.until_settled("llama", 3).await?;
    let untold = kthena_api::condition::find(&status.conditions, "ReplicaFailure").is_none();
    assert!(untold, "{status:?}");
    until_counted(&bed, 5, 6).await
}
