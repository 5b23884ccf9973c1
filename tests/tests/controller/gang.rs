//! Gang scheduling by the real Volcano, on nodes that KWOK plays.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kthena_api::ModelServing;
use kthena_sdk::model_serving::gang::PodGroupObject;
use kthena_tests::{
    cluster::{Cluster, Namespace},
    controller::Controller,
    wait,
};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

/// Room for one group of five CPUs, but not for two.
const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: NAME, labels: {type: kwok}}
status:
  allocatable: {cpu: '8', memory: 32Gi, pods: '20'}
  capacity: {cpu: '8', memory: 32Gi, pods: '20'}";

const SERVING: &str = "
apiVersion: workload.serving.volcano.sh/v1alpha1
kind: ModelServing
metadata: {name: gang}
spec:
  replicas: 2
  template:
    roles:
    - name: prefill
      replicas: 2
      workerReplicas: 1
      entryTemplate: &pod {spec: {containers: [{name: engine, image: engine, resources: {limits: {cpu: 1}}}]}}
      workerTemplate: *pod
    - name: decode
      entryTemplate: *pod
";

/// Groups by the phases of their pods.
async fn running(space: &Namespace) -> Result<BTreeSet<String>> {
    let pods = space.api::<Pod>().await?.list(&Default::default()).await?.items;
    let group = |pod: &Pod| pod.labels()["modelserving.volcano.sh/group-name"].clone();
    let is_running = |pod: &&Pod| {
        pod.status
            .as_ref()
            .is_some_and(|it| it.phase.as_deref() == Some("Running"))
    };
    let some: BTreeSet<String> = pods.iter().filter(is_running).map(group).collect();
    for name in &some {
        // All or nothing, but for the moment in which they start.
        let bound = pods.iter().filter(|pod| group(pod) == *name);
        let bound = bound
            .filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
            .count();
        anyhow::ensure!(bound == 5, "{bound} pods of {name} are placed");
    }
    Ok(some)
}

#[tokio::test]
async fn a_group_runs_as_a_whole_or_not_at_all() -> Result<()> {
    let cluster = Cluster::builder().volcano().kwok().start().await?;
    let space = cluster.namespace("gang").await?;
    let account = Controller::account(&cluster, &space).await?;
    let controller = Controller::start(&account).await?;
    space.apply(&NODE.replace("NAME", "first")).await?;
    space.apply(SERVING).await?;
    let one = |serving: &ModelServing| {
        let status = serving.status.clone().unwrap_or_default();
        (status.replicas, status.available_replicas) == (Some(2), Some(1))
    };
    let found = space.until("gang", "one group to run", one).await;
    let serving: ModelServing =
        found.with_context(|| format!("the controller's last lines:\n{}", controller.tail()))?;
    assert_eq!(running(&space).await?.len(), 1);
    let condition = serving.status.context("a status")?.conditions;
    let progressing = condition
        .iter()
        .find(|it| it.type_ == "Progressing")
        .context("a condition")?;
    assert!(
        progressing.message.contains("Unschedulable"),
        "{}",
        progressing.message
    );

    let group: PodGroupObject = space.api().await?.get("gang-0").await?;
    assert_eq!(group.spec.all["minMember"], 5);
    assert_eq!(group.spec.all["minResources"], json!({ "cpu": "5" }));
    assert_eq!(group.spec.all["subGroupPolicy"][0]["subGroupSize"], 2);
    assert_eq!(group.spec.all["subGroupPolicy"][0]["minSubGroups"], 2);
    let pod: Pod = space.api().await?.get("gang-1-prefill-1-1").await?;
    assert_eq!(pod.annotations()["scheduling.k8s.io/group-name"], "gang-1");
    assert_eq!(pod.annotations()["volcano.sh/task-spec"], "prefill-1");

    space.apply(&NODE.replace("NAME", "second")).await?;
    let both = |groups: &BTreeSet<String>| groups.len() == 2;
    let what = "both groups to run";
    wait::until_value(
        what,
        || async { running(&space).await.or(Ok(BTreeSet::new())) },
        both,
    )
    .await?;

    // What somebody else writes into a PodGroup does not stay, whoever owns the field.
    let foreign =
        Patch::Merge(json!({ "spec": { "networkTopology": { "mode": "soft", "highestTierAllowed": 1 } } }));
    let groups = space.api::<PodGroupObject>().await?;
    groups.patch("gang-0", &PatchParams::default(), &foreign).await?;
    let is_gone = |group: &PodGroupObject| !group.spec.all.contains_key("networkTopology");
    let _group: PodGroupObject = space.until("gang-0", "the topology to be gone", is_gone).await?;
    // A group that goes takes its PodGroup with it.
    let serving = space.api::<ModelServing>().await?;
    let one = Patch::Merge(json!({ "spec": { "replicas": 1 } }));
    serving.patch("gang", &PatchParams::default(), &one).await?;
    let left = || async { Ok(groups.list(&ListParams::default()).await?.items.len()) };
    wait::until_value("one PodGroup to be left", left, |count| *count == 1)
        .await
        .with_context(|| controller.tail())?;
    Ok(())
}
