//! What the pods of a LeaderWorkerSet find about themselves, besides the labels that the plugin gives them.
//!
//! ```
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::api::model_serving::Role;
//! use kthena_sdk::leader_worker_set::pod::{complete, is_concerned};
//! use kthena_sdk::model_serving::pod::Place;
//!
//! let serving = ModelServing::new("llama", Default::default());
//! assert!(!is_concerned(&serving), "it belongs to no LeaderWorkerSet");
//! let role = Role { name: "decode".into(), ..Role::default() };
//! let place = Place {
//!     serving: &serving, group: 0, role: &role, instance: 0, index: 0,
//!     revision: "r", role_hash: "h", in_pod_group: false, is_surge: false,
//! };
//! let mut pod = serde_json::json!({});
//! complete(&place, &mut pod);
//! assert_eq!(pod, serde_json::json!({}));
//! ```

use kthena_api::external::leader_worker_set::LeaderWorkerSet;
use kthena_api::{ModelServing, labels};
use kube::Resource;
use serde_json::{Value, json};

use crate::model_serving::pod::{self, Place};
use crate::owner::controller;

/// Whether a ModelServing belongs to a LeaderWorkerSet.
pub fn is_concerned(serving: &ModelServing) -> bool {
    let owner = controller(&serving.metadata);
    owner.is_some_and(|it| it.kind == LeaderWorkerSet::kind(&()) && it.api_version == api_version())
}

fn api_version() -> String {
    LeaderWorkerSet::api_version(&()).into_owned()
}

/// Gives a pod of a ModelServing that belongs to a LeaderWorkerSet the environment and the annotations which its containers know from there.
/// They are not part of the template, so that pods which are there already stay as they are.
///
/// The variables come first, because others may refer to them.
pub fn complete(place: &Place<'_>, pod: &mut Value) {
    if !is_concerned(place.serving) {
        return;
    }
    let size = pod::count(place.role).to_string();
    let leader = Place { index: 0, ..*place }.name();
    let namespace = place.serving.metadata.namespace.as_deref().unwrap_or_default();
    let environment = [
        (labels::ENV_LWS_LEADER_ADDRESS, format!("{leader}.{namespace}")),
        (labels::ENV_LWS_GROUP_SIZE, size.clone()),
        (labels::ENV_LWS_WORKER_INDEX, place.index.to_string()),
    ];
    for kind in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(kind).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            prepend(container, &environment);
        }
    }
    let annotations = &mut pod["metadata"]["annotations"];
    annotations[labels::LWS_SIZE] = size.into();
    if !place.is_entry() {
        annotations[labels::LWS_LEADER_NAME] = leader.into();
    }
}

/// Puts variables in front of a container's environment, in place of others of their names.
fn prepend(container: &mut Value, variables: &[(&'static str, String)]) {
    let is_ours = |name: &Value| variables.iter().any(|(ours, _)| name == ours);
    let others = container["env"].as_array().into_iter().flatten();
    let others = others.filter(|it| !is_ours(&it["name"])).cloned();
    let ours = variables
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }));
    let all: Vec<Value> = ours.chain(others).collect();
    if let Some(container) = container.as_object_mut() {
        container.insert("env".into(), all.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn serving(owner: &str) -> ModelServing {
        serde_json::from_value(json!({
            "apiVersion": "workload.serving.volcano.sh/v1alpha1",
            "kind": "ModelServing",
            "metadata": { "name": "vllm", "namespace": "ns", "uid": "1", "ownerReferences": [
                { "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": owner, "name": "vllm", "uid": "2", "controller": true },
            ] },
            "spec": { "template": { "roles": [{
                "name": "default",
                "workerReplicas": 3,
                "entryTemplate": { "spec": { "containers": [{ "name": "engine" }] } },
                "workerTemplate": { "spec": {
                    "initContainers": [{ "name": "wait" }],
                    "containers": [{ "name": "engine", "env": [
                        { "name": "LWS_GROUP_SIZE", "value": "7" },
                        { "name": "RAY", "value": "$(LWS_LEADER_ADDRESS):6379" },
                    ] }],
                } },
            }] } },
        }))
        .unwrap()
    }

    fn pod(serving: &ModelServing, index: u32) -> Value {
        Place {
            serving,
            group: 2,
            role: &serving.spec.template.roles[0],
            instance: 0,
            index,
            revision: "r",
            role_hash: "h",
            in_pod_group: false,
            is_surge: false,
        }
        .pod()
    }

    fn env(container: &Value) -> Vec<(&str, &str)> {
        let all = container["env"].as_array().unwrap().iter();
        all.map(|it| (it["name"].as_str().unwrap(), it["value"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn variables_of_a_leader_worker_set_come_first_and_those_of_a_model_serving_last() {
        let serving = serving("LeaderWorkerSet");
        let pod = pod(&serving, 3);
        let ours = [
            ("LWS_LEADER_ADDRESS", "vllm-2-default-0-0.ns"),
            ("LWS_GROUP_SIZE", "4"),
            ("LWS_WORKER_INDEX", "3"),
        ];
        let last = [
            ("GROUP_SIZE", "4"),
            ("ENTRY_ADDRESS", "vllm-2-default-0-0.ns"),
            ("WORKER_INDEX", "3"),
        ];
        let own = [("RAY", "$(LWS_LEADER_ADDRESS):6379")];
        assert_eq!(
            env(&pod["spec"]["containers"][0]),
            [&ours[..], &own, &last].concat()
        );
        assert_eq!(
            env(&pod["spec"]["initContainers"][0]),
            [&ours[..], &last].concat()
        );
        assert_eq!(
            pod["metadata"]["annotations"],
            json!({
                "leaderworkerset.sigs.k8s.io/size": "4",
                "leaderworkerset.sigs.k8s.io/leader-name": "vllm-2-default-0-0",
            })
        );
    }

    #[test]
    fn a_leader_has_no_leader() {
        let pod = pod(&serving("LeaderWorkerSet"), 0);
        let annotations = json!({ "leaderworkerset.sigs.k8s.io/size": "4" });
        assert_eq!(pod["metadata"]["annotations"], annotations);
        assert!(env(&pod["spec"]["containers"][0]).contains(&("LWS_WORKER_INDEX", "0")));
    }

    #[test]
    fn pods_of_others_stay_as_they_are() {
        let pod = pod(&serving("Something"), 0);
        assert_eq!(pod["metadata"]["annotations"], Value::Null);
        assert_eq!(env(&pod["spec"]["containers"][0])[0].0, "GROUP_SIZE");
    }
}
