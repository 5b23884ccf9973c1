//! What the controllers are given to do.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kthena_api::ModelServing;
use kthena_tests::cluster::Namespace;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use serde::Serialize;
use serde_json::{Value, json};

/// Roles of a group.
const ROLES: [&str; 2] = ["prefill", "decode"];
/// Pods of a role in a group.
const INSTANCES: usize = 2;
/// Pods of a group.
pub(crate) const PODS: usize = ROLES.len() * INSTANCES;

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Size {
    /// ModelServings.
    pub servings: usize,
    /// ServingGroups of each.
    pub groups: usize,
}

impl Size {
    /// ServingGroups in all.
    pub(crate) const fn all_groups(self) -> usize {
        self.servings * self.groups
    }

    /// Pods in all.
    pub(crate) const fn pods(self) -> usize {
        self.all_groups() * PODS
    }
}

/// A ModelServing whose pods need no Service: none has workers.
fn serving(number: usize, groups: usize) -> Value {
    let pod = json!({ "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "engine",
            "image": "engine",
            "args": ["--model", "/models/llama", "--tensor-parallel-size", "8"],
            "ports": [{ "containerPort": 8000 }],
            "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
        }],
    } });
    let roles = ROLES.map(|name| json!({ "name": name, "replicas": INSTANCES, "entryTemplate": pod }));
    json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelServing",
        "metadata": { "name": format!("model-{number}") },
        "spec": { "replicas": groups, "schedulerName": "default-scheduler", "template": { "roles": roles } },
    })
}

/// Creates the ModelServings of these numbers.
pub(crate) async fn create(space: &Namespace, numbers: std::ops::Range<usize>, groups: usize) -> Result<()> {
    let api = space.api::<ModelServing>().await?;
    for number in numbers {
        let object = serde_json::from_value(serving(number, groups)).context("making a ModelServing")?;
        let created = api.create(&PostParams::default(), &object).await;
        created.with_context(|| format!("creating ModelServing {number}"))?;
    }
    Ok(())
}

/// Whether so many ModelServings say that all of their groups are available.
pub(crate) async fn is_available(space: &Namespace, size: Size) -> Result<bool> {
    let all = space.api::<ModelServing>().await?;
    let all = all.list(&ListParams::default()).await?.items;
    let groups = i32::try_from(size.groups)?;
    Ok(all.len() == size.servings && all.iter().all(|serving| has_available(serving, groups)))
}

fn has_available(serving: &ModelServing, groups: i32) -> bool {
    let status = serving.status.as_ref();
    status.is_some_and(|status| {
        let counts = [
            status.replicas,
            status.available_replicas,
            status.updated_replicas,
        ];
        status.observed_generation == serving.metadata.generation && counts == [Some(groups); 3]
    })
}

/// Names of all pods, in order, and how many of them are ready.
pub(crate) async fn pods(space: &Namespace) -> Result<(Vec<String>, usize)> {
    let pods = space.api::<Pod>().await?;
    let pods = pods.list(&ListParams::default()).await?.items;
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let mut names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
    names.sort_unstable();
    Ok((names, ready))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_a_model_serving_for_each_number() {
        let object: ModelServing = serde_json::from_value(serving(7, 4)).unwrap();
        assert_eq!(object.name_any(), "model-7");
        let size = Size {
            servings: 60,
            groups: 4,
        };
        assert_eq!((size.all_groups(), size.pods()), (240, 960));
    }

    #[test]
    fn what_the_status_says_of_an_earlier_generation_does_not_count() {
        let mut object = serving(1, 2);
        object["metadata"]["generation"] = 2.into();
        object["status"] =
            json!({ "observedGeneration": 2, "replicas": 2, "availableReplicas": 2, "updatedReplicas": 2 });
        let available = |object: &Value| has_available(&serde_json::from_value(object.clone()).unwrap(), 2);
        assert!(available(&object));
        object["status"]["observedGeneration"] = 1.into();
        assert!(!available(&object));
        object["status"] =
            json!({ "observedGeneration": 2, "replicas": 2, "availableReplicas": 1, "updatedReplicas": 2 });
        assert!(!available(&object));
    }
}
