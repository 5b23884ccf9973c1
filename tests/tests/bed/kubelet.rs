//! The kubelet: real API server, real engine processes.

use std::{collections::HashSet, time::Duration};

use anyhow::Result;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ContainerStatus, Node, Pod},
};
use kthena_tests::{
    cluster::{Cluster, Namespace},
    kubelet::{Kubelet, Readiness},
    stopwatch::Stopwatch,
    wait,
};
use kube::{Api, api::DeleteParams};

fn engine(name: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: engine}}}}, spec: {{{more}
         containers: [{{name: engine, image: kthena-sim, args: [--model, tiny], ports: [{{containerPort: 8000}}]}}]}}}}"
    )
}

async fn start(name: &str) -> Result<(Namespace, Kubelet)> {
    let cluster = Cluster::shared().await?;
    let space = cluster.namespace(name).await?;
    let kubelet = Kubelet::on(cluster, &space).start().await?;
    Ok((space, kubelet))
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn is_ready(pod: &Pod) -> bool {
    container(pod).is_some_and(|status| status.ready)
}

#[tokio::test]
async fn pods_with_the_same_port_run_at_addresses_of_their_own() -> Result<()> {
    let (space, kubelet) = start("addresses").await?;
    for name in ["a", "b", "c"] {
        space.apply(&engine(name, "")).await?;
    }
    let pods = kubelet.until_all_ready(&space, "app=engine", 3).await?;
    assert_eq!(pods.iter().map(|pod| pod.ip).collect::<HashSet<_>>().len(), 3);
    for pod in &pods {
        assert_eq!(pod.port, 8000);
        assert!(pod.answers().await, "{}", pod.url());
    }
    let nodes: Api<Node> = Api::all(space.client().await?);
    let node = nodes.get(kubelet.name()).await?;
    assert!(node.spec.unwrap_or_default().taints.is_none());
    Ok(())
}

#[tokio::test]
async fn a_deleted_pod_ends_politely_and_leaves() -> Result<()> {
    let (space, kubelet) = start("deletion").await?;
    space.apply(&engine("a", "")).await?;
    let pod = kubelet.until_ready(&space, "a").await?;
    let clock = Stopwatch::start();
    space
        .api::<Pod>()
        .await?
        .delete("a", &DeleteParams::default())
        .await?;
    space.until_gone::<Pod>("a").await?;
    assert!(
        clock.elapsed() < Duration::from_secs(20),
        "it took its whole grace period"
    );
    assert!(!pod.answers().await);
    Ok(())
}

#[tokio::test]
async fn a_pod_that_does_not_end_is_killed_after_its_grace() -> Result<()> {
    let (space, kubelet) = start("grace").await?;
    space
        .apply(&engine("a", "terminationGracePeriodSeconds: 2,"))
        .await?;
    let pod = kubelet.until_ready(&space, "a").await?;
    kubelet.freeze(&space, "a").await?; // a stopped process takes no SIGTERM
    let clock = Stopwatch::start();
    space
        .api::<Pod>()
        .await?
        .delete("a", &DeleteParams::default())
        .await?;
    space.until_gone::<Pod>("a").await?;
    let took = clock.elapsed();
    assert!(
        (Duration::from_millis(1900)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
    assert!(!pod.answers().await);
    Ok(())
}

#[tokio::test]
async fn a_pre_stop_pause_comes_before_the_signal() -> Result<()> {
    let (space, kubelet) = start("pause").await?;
    let pause = "lifecycle: {preStop: {sleep: {seconds: 10}}}, ports";
    space.apply(&engine("a", "").replace("ports", pause)).await?;
    let pod = kubelet.until_ready(&space, "a").await?;
    space
        .api::<Pod>()
        .await?
        .delete("a", &DeleteParams::default())
        .await?;
    let deleted = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    let deleted: Pod = space.until("a", "its deletion date", deleted).await?;
    assert!(is_ready(&deleted), "the probe still passes");
    assert!(pod.answers().await, "it serves during the pause");
    space.until_gone::<Pod>("a").await
}

#[tokio::test]
async fn a_crashed_engine_comes_back_at_the_same_address() -> Result<()> {
    let (space, kubelet) = start("crash").await?;
    space.apply(&engine("a", "")).await?;
    let before = kubelet.until_ready(&space, "a").await?;
    kubelet.crash(&space, "a").await?;
    let restarted =
        |pod: &Pod| container(pod).is_some_and(|status| status.restart_count == 1 && status.ready);
    let pod: Pod = space.until("a", "its restart", restarted).await?;
    let last = container(&pod)
        .unwrap()
        .last_state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!(last.exit_code, 128 + 9);
    let after = kubelet.until_ready(&space, "a").await?;
    assert_eq!((after.ip, &after.uid), (before.ip, &before.uid));
    assert!(after.answers().await);
    Ok(())
}

#[tokio::test]
async fn a_pod_that_must_not_restart_fails() -> Result<()> {
    let (space, kubelet) = start("never").await?;
    space.apply(&engine("a", "restartPolicy: Never,")).await?;
    kubelet.until_ready(&space, "a").await?;
    kubelet.crash(&space, "a").await?;
    let failed = |pod: &Pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Failed");
    let pod: Pod = space.until("a", "its failure", failed).await?;
    assert!(!is_ready(&pod));
    Ok(())
}

#[tokio::test]
async fn a_lost_sandbox_means_another_address() -> Result<()> {
    let (space, kubelet) = start("sandbox").await?;
    space.apply(&engine("a", "")).await?;
    let before = kubelet.until_ready(&space, "a").await?;
    kubelet.readdress(&space, "a").await?;
    let old = before.ip.to_string();
    let moved = |pod: &Pod| is_ready(pod) && pod.status.as_ref().unwrap().pod_ip.as_deref() != Some(&old);
    let pod: Pod = space.until("a", "its new address", moved).await?;
    assert_eq!(pod.status.unwrap().pod_ips.unwrap().len(), 1);
    assert!(kubelet.until_ready(&space, "a").await?.answers().await);
    assert!(!before.answers().await);
    Ok(())
}

#[tokio::test]
async fn readiness_follows_the_engine_and_can_be_overruled() -> Result<()> {
    let (space, kubelet) = start("readiness").await?;
    space.apply(&engine("a", "")).await?;
    let pod = kubelet.until_ready(&space, "a").await?;
    let unready = |pod: &Pod| !is_ready(pod);

    kubelet.freeze(&space, "a").await?;
    space.until("a", "the probe to fail", unready).await?;
    kubelet.thaw(&space, "a").await?;
    kubelet.until_ready(&space, "a").await?;

    kubelet.set_ready(&space, "a", Readiness::Never).await?;
    space.until("a", "the order to show", unready).await?;
    assert!(pod.answers().await);
    kubelet.set_ready(&space, "a", Readiness::Probed).await?;
    kubelet.until_ready(&space, "a").await?;
    Ok(())
}

#[tokio::test]
async fn a_lost_node_leaves_pods_that_only_look_ready() -> Result<()> {
    let (space, kubelet) = start("lost").await?;
    space.apply(&engine("a", "")).await?;
    let pod = kubelet.until_ready(&space, "a").await?;
    kubelet.vanish().await?;
    assert!(!pod.answers().await);
    assert!(is_ready(&space.api::<Pod>().await?.get("a").await?));
    Ok(())
}

#[tokio::test]
async fn pods_in_the_hosts_network_share_its_address() -> Result<()> {
    let (space, kubelet) = start("host").await?;
    for (name, port) in [("a", "8001"), ("b", "8002")] {
        space
            .apply(&engine(name, "hostNetwork: true,").replace("8000", port))
            .await?;
    }
    let pods = kubelet.until_all_ready(&space, "app=engine", 2).await?;
    assert!(pods.iter().all(|pod| pod.ip == kubelet.address()));
    assert_eq!(
        pods.iter().map(|pod| pod.port).collect::<HashSet<_>>(),
        HashSet::from([8001, 8002])
    );
    for pod in pods {
        assert!(pod.answers().await);
    }
    Ok(())
}

#[tokio::test]
async fn what_happens_while_the_api_server_is_away_is_told_afterwards() -> Result<()> {
    let cluster = Cluster::builder().without_crds().start().await?;
    let space = cluster.namespace("outage").await?;
    let kubelet = Kubelet::on(&cluster, &space).start().await?;
    space.apply(&engine("a", "")).await?;
    let before = kubelet.until_ready(&space, "a").await?;
    cluster.stop_api_server().await?;
    assert!(before.answers().await);
    kubelet.crash(&space, "a").await?;
    wait::until("the engine to answer again", || async {
        Ok(before.answers().await.then_some(()))
    })
    .await?;
    cluster.start_api_server().await?;
    let told = |pod: &Pod| container(pod).is_some_and(|status| status.restart_count == 1 && status.ready);
    space.until("a", "its restart", told).await?;
    space.apply(&engine("b", "")).await?;
    kubelet.until_ready(&space, "b").await?;
    Ok(())
}

#[tokio::test]
async fn a_deployment_is_scheduled_and_rolled() -> Result<()> {
    let cluster = Cluster::builder()
        .controller_manager()
        .scheduler()
        .without_crds()
        .start()
        .await?;
    let space = cluster.namespace("rollout").await?;
    let kubelet = Kubelet::node(&cluster, "worker").start().await?;
    space.apply(DEPLOYMENT).await?;
    let first = kubelet.until_all_ready(&space, "app=engine", 2).await?;
    space.apply(&DEPLOYMENT.replace("tiny", "small")).await?;
    let rolled = |deployment: &Deployment| {
        let status = deployment.status.clone().unwrap_or_default();
        status.observed_generation == deployment.metadata.generation
            && (status.updated_replicas, status.ready_replicas, status.replicas)
                == (Some(2), Some(2), Some(2))
    };
    space.until("engine", "the rollout", rolled).await?;
    let second = kubelet.until_all_ready(&space, "app=engine", 2).await?;
    let addresses: HashSet<_> = first.iter().chain(&second).map(|pod| pod.ip).collect();
    assert_eq!(addresses.len(), 4, "no address is used twice");
    Ok(())
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: engine}
spec:
  replicas: 2
  selector: {matchLabels: {app: engine}}
  template:
    metadata: {labels: {app: engine}}
    spec:
      containers:
      - {name: engine, image: kthena-sim, args: [--model, tiny], ports: [{containerPort: 8000}]}
";
