//! LeaderWorkerSet of the Kubernetes SIGs, as far as a ModelServing is made from it.
//!
//! Written by hand after `leaderworkerset.x-k8s.io/v1` as of its version 0.8. Fields that are not known here are kept in `other`, so that
//! whoever reads an object can tell what it does not understand.
//!
//! ```
//! use kthena_api::external::leader_worker_set::LeaderWorkerSet;
//!
//! let set: LeaderWorkerSet = serde_json::from_value(serde_json::json!({
//!     "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
//!     "metadata": { "name": "llama" },
//!     "spec": { "replicas": 2, "leaderWorkerTemplate": { "size": 4, "workerTemplate": { "spec": { "containers": [] } } } },
//! }))?;
//! assert_eq!((set.spec.replicas, set.spec.leader_worker_template.size), (Some(2), Some(4)));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::apis::meta::v1::Condition};
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Embedded;
use crate::{int_or_string::IntOrString, string_enum::string_enum};

/// Groups of pods: one leader and its workers in each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource)]
#[kube(
    group = "leaderworkerset.x-k8s.io",
    version = "v1",
    kind = "LeaderWorkerSet",
    plural = "leaderworkersets",
    namespaced,
    status = "LeaderWorkerSetStatus",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct LeaderWorkerSetSpec {
    /// Number of groups; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// What a group consists of.
    pub leader_worker_template: LeaderWorkerTemplate,

    /// How changes reach the groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_strategy: Option<RolloutStrategy>,

    /// When workers are created; with their leader if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_policy: Option<StartupPolicy>,

    /// Host names of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<NetworkConfig>,

    /// Whatever else there is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The pods of one group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaderWorkerTemplate {
    /// The leader; the worker template if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_template: Option<PodTemplateSpec>,

    /// The workers.
    pub worker_template: PodTemplateSpec,

    /// Pods in a group, the leader included; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i32>,

    /// What is created anew when a pod fails; the group if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,

    /// Parts of a group that are placed together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_group_policy: Option<SubGroupPolicy>,

    /// Whatever else there is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a pod is made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PodTemplateSpec {
    /// Labels and annotations of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,

    /// The pod itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Embedded<PodSpec>>,
}

/// Labels and annotations of a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,

    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,

    /// Whatever else there is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How changes reach the groups.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStrategy {
    /// `RollingUpdate` is all there is.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<RolloutStrategyType>,

    /// Its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update_configuration: Option<RollingUpdateConfiguration>,

    /// Whatever else there is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Limits of a rolling update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdateConfiguration {
    /// Groups below this ordinal are not replaced; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<IntOrString>,

    /// How many groups may be unavailable: a number, or a percentage rounded down; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,

    /// How many groups there may be beyond `replicas`: a number, or a percentage rounded up; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,

    /// Whatever else there is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Host names of the pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConfig {
    /// `Shared` for one headless Service, `UniquePerReplica` for one in each group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdomain_policy: Option<String>,

    /// Whatever else there is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Parts of a group that are placed together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubGroupPolicy {
    /// Whether the leader belongs to the first of them: `LeaderWorker` or `LeaderExcluded`.
    #[serde(
        rename = "subGroupPolicyType",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub type_: Option<String>,

    /// Pods in each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_group_size: Option<i32>,

    /// Whatever else there is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a LeaderWorkerSet has come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderWorkerSetStatus {
    /// `Available`, `Progressing`, `UpdateInProgress`, and others.
    pub conditions: Vec<Condition>,

    /// Groups there are.
    pub replicas: i32,

    /// Groups all of whose pods are ready.
    pub ready_replicas: i32,

    /// Groups on the newest revision.
    pub updated_replicas: i32,

    /// Selects the leaders, for autoscalers that use the scale subresource.
    pub hpa_pod_selector: String,

    /// The `metadata.generation` that the status speaks about.
    pub observed_generation: i64,
}

string_enum! {
    /// How changes reach the groups.
    pub enum RolloutStrategyType {
        /// Some groups at a time.
        RollingUpdate = "RollingUpdate",
    }
}

string_enum! {
    /// When workers are created.
    pub enum StartupPolicy {
        /// Together with their leader.
        LeaderCreated = "LeaderCreated",
        /// Once their leader is ready.
        LeaderReady = "LeaderReady",
    }
}

string_enum! {
    /// What is created anew when a pod fails.
    pub enum RestartPolicy {
        /// The group.
        RecreateGroupOnPodRestart = "RecreateGroupOnPodRestart",
        /// The group, once all of its pods have started.
        RecreateGroupAfterStart = "RecreateGroupAfterStart",
        /// Nothing but the pod.
        None = "None",
        /// An older name of `None`.
        Default = "Default",
    }
}
