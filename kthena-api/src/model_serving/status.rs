//! What a ModelServing has come to.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition;

/// What a ModelServing has come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelServingStatus {
    /// The `metadata.generation` that the status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// ServingGroups there are, including those that start or end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// ServingGroups on the old revision, or all of them when no rollout is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_replicas: Option<i32>,

    /// ServingGroups on the newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_replicas: Option<i32>,

    /// ServingGroups all of whose pods are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_replicas: Option<i32>,

    /// The revision that ServingGroups are moving away from; `updateRevision` when no rollout is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<String>,

    /// The revision of the template as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_revision: Option<String>,

    /// Selects one entry pod of each ServingGroup, for autoscalers that use the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<String>,

    /// With the recovery policy `ServingGroupRecreate`, the ServingGroups all of whose pods have been there: if one of
    /// those pods is missing, it was lost, and the group is created anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub established_groups: Vec<EstablishedGroups>,

    /// `Available`, `Progressing` and `UpdateInProgress`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::atomic_list")]
    pub conditions: Vec<Condition>,
}

/// ServingGroups that have had the same numbers of instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EstablishedGroups {
    /// Ordinals of the groups, such as `0-3,5`.
    pub groups: String,

    /// Instances of each role, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, i32>,
}
