//! Scaling through the scale subresource: by hand, as KEDA does, and by the HorizontalPodAutoscaler of kube-controller-manager.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kthena_api::{ModelServing, condition};
use kthena_tests::{
    cluster::{Cluster, Namespace},
    controller::Controller,
};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: node, labels: {type: kwok}}
status:
  allocatable: {cpu: '100', memory: 1Ti, pods: '100'}
  capacity: {cpu: '100', memory: 1Ti, pods: '100'}";

/// Two pods in each group, of which an autoscaler is to count one.
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
      workerReplicas: 1
      entryTemplate: &pod {spec: {nodeName: node, containers: [{name: engine, image: engine}]}}
      workerTemplate: *pod
";

/// Stands in for the server of metrics: objects that a test writes.
const METRICS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: pods.metrics.k8s.io
  annotations: {api-approved.kubernetes.io: 'unapproved, for a test'}
spec:
  group: metrics.k8s.io
  scope: Namespaced
  names: {plural: pods, kind: PodMetrics}
  versions:
  - name: v1beta1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

const AUTOSCALER: &str = "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: llama}
spec:
  scaleTargetRef: {apiVersion: workload.serving.volcano.sh/v1alpha1, kind: ModelServing, name: llama}
  minReplicas: 1
  maxReplicas: 5
  metrics: [{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 100Mi}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
";

struct Bed {
    cluster: Cluster,
    space: Namespace,
    controller: Controller,
}

impl Bed {
    async fn until_available(&self, replicas: i32) -> Result<()> {
        let is_there = |serving: &ModelServing| {
            let status = serving.status.clone().unwrap_or_default();
            serving.spec.effective_replicas() == replicas
                && status.observed_generation == serving.metadata.generation
                && (status.replicas, status.available_replicas) == (Some(replicas), Some(replicas))
                && condition::is_true(&status.conditions, "Available")
        };
        let what = format!("{replicas} groups");
        let found = self.space.until::<ModelServing>("llama", &what, is_there).await;
        found.map(drop).with_context(|| self.controller.tail())
    }

    /// The pods that an autoscaler counts.
    async fn counted(&self) -> Result<Vec<Pod>> {
        let servings: Api<ModelServing> = self.space.api().await?;
        let status = servings.get_scale("llama").await?.status.context("a status")?;
        let selector = status.selector.context("a selector")?;
        let pods = self.space.api::<Pod>().await?;
        let found = pods.list(&ListParams::default().labels(&selector)).await?.items;
        ensure!(
            found.len() == usize::try_from(status.replicas)?,
            "{selector} selects {}",
            found.len()
        );
        Ok(found)
    }

    /// What each of these pods uses.
    async fn report(&self, megabytes: u32) -> Result<()> {
        for pod in self.counted().await? {
            let metrics = json!({
                "apiVersion": "metrics.k8s.io/v1beta1",
                "kind": "PodMetrics",
                "metadata": { "name": pod.name_any(), "labels": pod.labels() },
                "timestamp": Timestamp::now().to_string(),
                "window": "10s",
                "containers": [{ "name": "engine", "usage": { "cpu": "1", "memory": format!("{megabytes}Mi") } }],
            });
            self.space.apply(&metrics.to_string()).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn groups_are_scaled_by_hand_to_zero_and_by_an_autoscaler() -> Result<()> {
    let cluster = Cluster::builder().controller_manager().kwok().start().await?;
    let own = cluster.namespace("kthena").await?;
    let controller = Controller::start(&Controller::account(&cluster, &own).await?).await?;
    let space = cluster.namespace("scale").await?;
    let bed = Bed {
        cluster,
        space,
        controller,
    };
    bed.cluster.apply(NODE).await?;
    bed.space.apply(SERVING).await?;
    bed.until_available(1).await?;

    let mut kubectl = bed.cluster.kubectl()?;
    kubectl.args([
        "scale",
        "modelserving/llama",
        "--current-replicas=1",
        "--replicas=3",
        "-n",
        bed.space.name(),
    ]);
    let output = tokio::task::spawn_blocking(move || kubectl.output()).await??;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    bed.until_available(3).await?;
    assert_eq!(bed.counted().await?.len(), 3);

    // To nothing and back.
    let servings: Api<ModelServing> = bed.space.api().await?;
    for replicas in [0, 1] {
        let mut scale = servings.get_scale("llama").await?;
        scale.spec.get_or_insert_default().replicas = Some(replicas);
        servings
            .replace_scale("llama", &PostParams::default(), &scale)
            .await?;
        bed.until_available(replicas).await?;
        assert_eq!(bed.counted().await?.len(), usize::try_from(replicas)?);
    }

    bed.cluster.apply(METRICS).await?;
    bed.report(300).await?;
    bed.space.apply(AUTOSCALER).await?;
    // Thrice as much as there should be.
    bed.until_available(3)
        .await
        .with_context(|| format!("{:?}", bed.cluster.explain(anyhow::anyhow!("no third group"))))?;
    let decided = |scaler: &HorizontalPodAutoscaler| {
        let status = scaler.status.clone().unwrap_or_default();
        let holds = |type_: &str| {
            let mut conditions = status.conditions.iter().flatten();
            conditions.any(|it| it.type_ == type_ && it.status == "True")
        };
        status.current_replicas == Some(3) && holds("AbleToScale") && holds("ScalingActive")
    };
    let _scaler: HorizontalPodAutoscaler = bed
        .space
        .until("llama", "what the autoscaler says", decided)
        .await?;
    bed.report(30).await?;
    bed.until_available(1).await?;
    assert_eq!(bed.counted().await?[0].name_any(), "llama-0-decode-0-0");
    Ok(())
}
