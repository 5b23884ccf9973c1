//! The roles of a ServingGroup and their pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{external::Embedded, int_or_string::IntOrString};

/// One role of a ServingGroup, such as prefill. An instance of it is one entry pod and any number of worker pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Name of the role: at most 12 lower case letters, digits and inner hyphens. It becomes part of the pods' names.
    #[schemars(
        length(max = 12),
        regex(pattern = r"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")
    )]
    pub name: String,

    /// Instances of the role in each ServingGroup; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 1))]
    pub replicas: Option<i32>,

    /// Worker pods of each instance; 0 if absent. With 1 and more, `workerTemplate` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 0))]
    pub worker_replicas: Option<i32>,

    /// The entry pod of each instance, which requests are sent to.
    pub entry_template: PodTemplate,

    /// The worker pods of each instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_template: Option<PodTemplate>,

    /// With `RoleRollingUpdate`, how many instances of the role may be unavailable in each group during a rollout: a
    /// number, or a percentage of the role's `replicas` rounded down. It must come to at least 1, which is the
    /// default, and at most to `replicas`. Without effect otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 1))]
    pub max_unavailable: Option<IntOrString>,

    /// With `RoleRollingUpdate`, how many of the first instances in each group keep the old revision: a number, or a
    /// percentage of the role's `replicas` rounded up. Not possible otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<IntOrString>,
}

/// What a pod is made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodTemplateMetadata>,

    /// The pod itself, as in `kubectl explain pod.spec` of Kubernetes 1.34.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<Embedded<PodSpec>>,
}

/// Labels and annotations of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplateMetadata {
    /// Labels; they win over those that the controller sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,

    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

// === impl Role ===

impl Role {
    /// Instances per ServingGroup with their default.
    pub fn effective_replicas(&self) -> i32 {
        self.replicas.unwrap_or(1)
    }

    /// Worker pods per instance with their default.
    pub fn effective_worker_replicas(&self) -> i32 {
        self.worker_replicas.unwrap_or(0)
    }

    /// How many instances may be unavailable, with its default.
    pub fn effective_max_unavailable(&self) -> IntOrString {
        self.max_unavailable.clone().unwrap_or(IntOrString::Int(1))
    }
}

// === impl PodTemplate ===

impl PodTemplate {
    /// Images of the containers, without those of init containers; `None` for a container that has none.
    pub fn images(&self) -> impl Iterator<Item = Option<&str>> {
        let containers = self
            .spec
            .as_ref()
            .and_then(|spec| spec.as_object().get("containers"));
        let containers = containers.and_then(Value::as_array).into_iter().flatten();
        containers.map(|container| container.get("image").and_then(Value::as_str))
    }
}
