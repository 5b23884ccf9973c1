//! Placement on a network topology by the real Volcano: what belongs together lands within one HyperNode, or waits.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kthena_api::{ModelServing, labels};
use kthena_tests::{
    cluster::{Cluster, Namespace},
    controller::Controller,
    wait,
};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Two HyperNodes of two nodes, and one above both. Each node has room for two pods of one CPU.
fn topology() -> Vec<Value> {
    let mut all = Vec::new();
    let hyper_node = |name: &str, tier: u8, kind: &str, members: [&str; 2]| {
        let members =
            members.map(|name| json!({ "type": kind, "selector": { "exactMatch": { "name": name } } }));
        json!({ "apiVersion": "topology.volcano.sh/v1alpha1", "kind": "HyperNode", "metadata": { "name": name },
            "spec": { "tier": tier, "members": members } })
    };
    for rack in ["a", "b"] {
        let nodes = [0, 1].map(|number| format!("{rack}-{number}"));
        for name in &nodes {
            let room = json!({ "cpu": "2", "memory": "32Gi", "pods": "20" });
            all.push(json!({ "apiVersion": "v1", "kind": "Node",
                "metadata": { "name": name, "labels": { "type": "kwok", "kubernetes.io/hostname": name } },
                "status": { "allocatable": room, "capacity": room } }));
        }
        all.push(hyper_node(
            &format!("rack-{rack}"),
            1,
            "Node",
            [&nodes[0], &nodes[1]],
        ));
    }
    all.push(hyper_node("spine", 2, "HyperNode", ["rack-a", "rack-b"]));
    all
}

/// A group of so many instances, each of an entry pod and so many workers.
fn serving(name: &str, instances: u8, workers: u8, topology: &Value) -> String {
    let pod = json!({ "spec": { "containers": [{ "name": "engine", "image": "engine", "resources": { "requests": { "cpu": "1" } } }] } });
    let role = json!({ "name": "decode", "replicas": instances, "workerReplicas": workers, "entryTemplate": pod, "workerTemplate": pod });
    json!({ "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelServing", "metadata": { "name": name },
        "spec": { "replicas": 1, "template": { "networkTopology": topology, "roles": [role] } } })
    .to_string()
}

fn within(tier: u8) -> Value {
    json!({ "mode": "hard", "highestTierAllowed": tier })
}

/// Racks in which pods of each instance run.
async fn racks(space: &Namespace) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let pods = space.api::<Pod>().await?.list(&Default::default()).await?.items;
    let mut racks = BTreeMap::<String, BTreeSet<String>>::new();
    for pod in pods {
        let racks = racks.entry(pod.labels()[labels::ROLE_ID].clone()).or_default();
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        racks.extend(
            node.and_then(|node| node.split_once('-'))
                .map(|(rack, _)| rack.to_owned()),
        );
    }
    Ok(racks)
}

async fn until_available(space: &Namespace, name: &str, controller: &Controller) -> Result<()> {
    let is_there = |serving: &ModelServing| {
        let status = serving.status.clone().unwrap_or_default();
        status.observed_generation == serving.metadata.generation && status.available_replicas == Some(1)
    };
    let found = space
        .until::<ModelServing>(name, "the group to run", is_there)
        .await;
    found
        .map(drop)
        .with_context(|| format!("the controller's last lines:\n{}", controller.tail()))
}

#[tokio::test]
async fn what_belongs_together_runs_in_one_rack_or_not_at_all() -> Result<()> {
    let cluster = Cluster::builder().volcano().kwok().start().await?;
    let own = cluster.namespace("kthena").await?;
    let controller = Controller::start(&Controller::account(&cluster, &own).await?).await?;
    for object in topology() {
        cluster.apply(&object.to_string()).await?;
    }

    // Two instances fill a rack, and are to be in one.
    let whole = cluster.namespace("whole").await?;
    whole
        .apply(&serving("whole", 2, 1, &json!({ "groupPolicy": within(1) })))
        .await?;
    until_available(&whole, "whole", &controller).await?;
    let taken: BTreeSet<String> = racks(&whole).await?.into_values().flatten().collect();
    assert_eq!(taken.len(), 1, "{taken:?}");

    // Three do not fit into any rack, though there is room in both: they wait, as one sees in the status.
    let large = cluster.namespace("large").await?;
    whole
        .api::<ModelServing>()
        .await?
        .delete("whole", &Default::default())
        .await?;
    let gone = |racks: &BTreeMap<String, BTreeSet<String>>| racks.is_empty();
    wait::until_value("the first group to be gone", || racks(&whole), gone).await?;
    large
        .apply(&serving("large", 3, 1, &json!({ "groupPolicy": within(1) })))
        .await?;
    let waits = |serving: &ModelServing| {
        let conditions = serving.status.clone().unwrap_or_default().conditions;
        conditions
            .iter()
            .any(|it| it.type_ == "Progressing" && it.message.contains("Unschedulable"))
    };
    let _serving: ModelServing = large.until("large", "the cause in the status", waits).await?;
    assert!(racks(&large).await?.values().all(BTreeSet::is_empty));

    // With a wider limit they run; the change makes no pod anew.
    let uids = async || -> Result<BTreeSet<Option<String>>> {
        let pods = large.api::<Pod>().await?.list(&Default::default()).await?.items;
        Ok(pods.iter().map(ResourceExt::uid).collect())
    };
    let before = uids().await?;
    let patch =
        Patch::Merge(json!({ "spec": { "template": { "networkTopology": { "groupPolicy": within(2) } } } }));
    large
        .api::<ModelServing>()
        .await?
        .patch("large", &PatchParams::default(), &patch)
        .await?;
    until_available(&large, "large", &controller).await?;
    assert_eq!(uids().await?, before);
    let taken: BTreeSet<String> = racks(&large).await?.into_values().flatten().collect();
    assert_eq!(taken.len(), 2, "{taken:?}");
    large
        .api::<ModelServing>()
        .await?
        .delete("large", &Default::default())
        .await?;
    wait::until_value("the second group to be gone", || racks(&large), gone).await?;

    // Each instance in one rack, the group across both. By room alone, one instance would fill what the other leaves.
    let parts = cluster.namespace("parts").await?;
    let topology = json!({ "groupPolicy": within(2), "rolePolicy": within(1) });
    parts.apply(&serving("parts", 2, 2, &topology)).await?;
    until_available(&parts, "parts", &controller).await?;
    let racks = racks(&parts).await?;
    assert!(
        racks.len() == 2 && racks.values().all(|racks| racks.len() == 1),
        "{racks:?}"
    );
    Ok(())
}
