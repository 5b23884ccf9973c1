//! What there is of a ModelServing, reduced to what decisions need.

use k8s_openapi::api::core::v1::Pod as KubePod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kthena_api::labels;

use super::failure::{self, Cause};
use super::metadata::ordinal;
use crate::owner::controller;

/// A pod that carries the labels of a ModelServing's pods.
///
/// ```
/// use kthena_sdk::model_serving::{Pod, PodState};
///
/// let pod = Pod::of(&serde_json::from_value(serde_json::json!({
///     "metadata": { "name": "llama-1-decode-0-2", "labels": {
///         "modelserving.volcano.sh/group-name": "llama-1",
///         "modelserving.volcano.sh/role": "decode", "modelserving.volcano.sh/role-id": "decode-0",
///     } },
///     "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
/// }))?).expect("its labels say where it belongs");
/// assert_eq!((pod.group, pod.instance, pod.index), (1, 0, 2));
/// assert_eq!(pod.state, PodState::Ready);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// UID of the object that controls it.
    pub owner: Option<String>,
    /// Ordinal of its ServingGroup.
    pub group: u32,
    /// Its role.
    pub role: String,
    /// Ordinal of its instance of the role.
    pub instance: u32,
    /// 0 for the entry pod.
    pub index: u32,
    /// The revision that it was made from.
    pub revision: String,
    /// Hash of the role's templates that it was made from, by whoever made it.
    pub role_hash: Option<String>,
    /// Whether its group is there for the time of a rollout only.
    pub is_surge: bool,
    /// What removing it costs; pods of a lower cost go first.
    pub deletion_cost: i64,
    /// How it does.
    pub state: PodState,
    /// Why it is not ready, where that can be told.
    pub cause: Option<Cause>,
}

/// How a pod does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodState {
    /// It runs and is ready.
    Ready,
    /// It has not started yet, or is not ready yet, or no longer.
    Unready,
    /// It ended well.
    Succeeded,
    /// It failed, or a container of it has ended and it is not ready again.
    Failed {
        /// Since when.
        since: Timestamp,
    },
    /// It is being deleted.
    Terminating,
}

/// A Service or PodGroup that carries the labels of a ModelServing's.
///
/// ```
/// use kthena_sdk::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
/// use kthena_sdk::model_serving::Child;
///
/// let metadata = ObjectMeta { name: Some("llama-0-decode-0-0".into()), ..ObjectMeta::default() };
/// let child = Child::of(&metadata);
/// assert_eq!((child.name.as_str(), child.owner), ("llama-0-decode-0-0", None));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// UID of the object that controls it.
    pub owner: Option<String>,
    /// Ordinal of the ServingGroup that it belongs to.
    pub group: Option<u32>,
    /// Role and ordinal of the instance that it belongs to.
    pub role: Option<(String, u32)>,
    /// Whether it is being deleted.
    pub is_terminating: bool,
}

impl Pod {
    /// Reads a pod. `None` for one that lacks labels which every pod of a ModelServing has, or whose labels make no sense.
    pub fn of(pod: &KubePod) -> Option<Self> {
        let metadata = &pod.metadata;
        let label = |key: &str| Some(metadata.labels.as_ref()?.get(key)?.as_str());
        let (_, group) = ordinal(label(labels::GROUP_NAME)?)?;
        let role = label(labels::ROLE)?;
        let (parent, instance) = ordinal(label(labels::ROLE_ID)?)?;
        let name = metadata.name.clone()?;
        let (_, index) = ordinal(&name)?;
        let state = failure::state(pod);
        Some(Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            owner: controller(metadata).map(|owner| owner.uid.clone()),
            group,
            role: (parent == role).then(|| role.to_owned())?,
            instance,
            index,
            revision: label(labels::REVISION).unwrap_or_default().to_owned(),
            role_hash: label(labels::ROLE_TEMPLATE_HASH)
                .filter(|hash| !hash.is_empty())
                .map(str::to_owned),
            is_surge: metadata
                .annotations
                .as_ref()
                .is_some_and(|all| all.get(labels::SURGE).is_some_and(|it| it == labels::TRUE)),
            deletion_cost: deletion_cost(metadata),
            cause: failure::cause(pod, state),
            state,
            name,
        })
    }
}

impl Child {
    /// Reads an object's metadata.
    pub fn of(metadata: &ObjectMeta) -> Self {
        let label = |key: &str| Some(metadata.labels.as_ref()?.get(key)?.as_str());
        let role = label(labels::ROLE_ID).and_then(ordinal);
        Self {
            group: label(labels::GROUP_NAME)
                .and_then(ordinal)
                .map(|(_, group)| group),
            role: role.map(|(role, instance)| (role.to_owned(), instance)),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            owner: controller(metadata).map(|owner| owner.uid.clone()),
            is_terminating: metadata.deletion_timestamp.is_some(),
        }
    }
}

/// What removing a pod costs; 0 where nobody said, or said something else than a number.
fn deletion_cost(metadata: &ObjectMeta) -> i64 {
    let annotations = metadata.annotations.as_ref();
    let cost = annotations.and_then(|all| all.get(labels::POD_DELETION_COST)?.parse().ok());
    cost.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(labels: serde_json::Value, cost: &str) -> Option<Pod> {
        let pod = json!({ "metadata": { "name": "s-1-prefill-2-3", "uid": "u", "labels": labels,
            "annotations": { "controller.kubernetes.io/pod-deletion-cost": cost } } });
        Pod::of(&serde_json::from_value(pod).unwrap())
    }

    fn all() -> serde_json::Value {
        json!({ "modelserving.volcano.sh/group-name": "s-1", "modelserving.volcano.sh/role": "prefill",
            "modelserving.volcano.sh/role-id": "prefill-2", "modelserving.volcano.sh/revision": "r" })
    }

    #[test]
    fn the_place_of_a_pod_is_in_its_labels() {
        let pod = pod(all(), "7").unwrap();
        assert_eq!(
            (pod.group, pod.role.as_str(), pod.instance, pod.index),
            (1, "prefill", 2, 3)
        );
        assert_eq!(
            (pod.revision.as_str(), pod.role_hash, pod.owner),
            ("r", None, None)
        );
    }

    #[test]
    fn a_pod_without_its_labels_is_none_of_ours() {
        for key in [
            "modelserving.volcano.sh/group-name",
            "modelserving.volcano.sh/role",
            "modelserving.volcano.sh/role-id",
        ] {
            let mut labels = all();
            labels.as_object_mut().unwrap().remove(key);
            assert_eq!(pod(labels, "0"), None, "{key}");
        }
        let mut labels = all();
        labels["modelserving.volcano.sh/role"] = "decode".into();
        assert_eq!(pod(labels, "0"), None);
    }

    #[test]
    fn costs_that_are_no_numbers_are_none() {
        for (text, cost) in [
            ("100", 100),
            ("-50", -50),
            ("0", 0),
            ("+7", 7),
            ("invalid", 0),
            ("", 0),
        ] {
            assert_eq!(pod(all(), text).unwrap().deletion_cost, cost, "{text}");
        }
    }
}
