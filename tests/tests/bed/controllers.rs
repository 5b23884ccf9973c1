//! The controllers around the control plane.

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kthena_tests::cluster::Cluster;

#[tokio::test]
async fn volcano_places_a_gang_on_nodes_that_kwok_plays() -> Result<()> {
    let cluster = Cluster::builder().volcano().kwok().without_crds().start().await?;
    let space = cluster.namespace("gang").await?;
    let pods = ["a", "b", "c"]
        .map(|name| MEMBER.replace("NAME", name))
        .join("\n---\n");
    space.apply(&format!("{NODE}\n---\n{GANG}\n---\n{pods}")).await?;
    for name in ["a", "b", "c"] {
        let running = |pod: &Pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Running");
        let pod: Pod = space.until(name, "the gang to run", running).await?;
        assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some("played"));
    }
    Ok(())
}

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: played, labels: {type: kwok}}
status:
  allocatable: {cpu: '8', memory: 32Gi, pods: '20'}
  capacity: {cpu: '8', memory: 32Gi, pods: '20'}";

const GANG: &str = "
apiVersion: scheduling.volcano.sh/v1beta1
kind: PodGroup
metadata: {name: gang}
spec: {minMember: 3, queue: default}";

const MEMBER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME, annotations: {scheduling.k8s.io/group-name: gang}}
spec:
  schedulerName: volcano
  containers: [{name: engine, image: engine, resources: {requests: {cpu: '2'}}}]";
