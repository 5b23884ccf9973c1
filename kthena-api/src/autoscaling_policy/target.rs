//! What an AutoscalingPolicy scales.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::LabelSelector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Metric;
use crate::{cel, external, quantity::Quantity};

/// One ModelServing that is scaled as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HomogeneousTarget {
    /// What is scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ScalingTarget>,

    /// The least number of ServingGroups, 0 to 1000000.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_replicas: i32,

    /// The largest number of ServingGroups, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_replicas: i32,
}

/// Several ModelServings that share the load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeterogeneousTarget {
    /// The ModelServings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub params: Vec<HeterogeneousParam>,

    /// How fast the cost may grow from one step of capacity to the next, in percent; 200 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("default" = 200))]
    pub cost_expansion_rate_percent: Option<i32>,
}

/// One of several ModelServings that share the load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeterogeneousParam {
    /// What is scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ScalingTarget>,

    /// Cost of one ServingGroup relative to those of the other ModelServings; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cost: Option<i32>,

    /// The least number of ServingGroups, 0 to 1000000.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_replicas: i32,

    /// The largest number of ServingGroups, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_replicas: i32,
}

/// A ModelServing and where its metrics are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingTarget {
    /// The ModelServing; `kind` may be left out, `namespace` is that of the policy if absent.
    #[schemars(schema_with = "external::object_reference")]
    pub target_ref: ObjectReference,

    /// Where metrics are, by name of the metric.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metric_sources: BTreeMap<String, MetricSource>,
}

/// The roles of one ModelServing, scaled each on its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [cel::RATIO_NEEDS_TWO_ROLES]))]
pub struct DisaggregatedTarget {
    /// The ModelServing; `kind` may be left out, `namespace` is that of the policy if absent.
    #[schemars(schema_with = "external::object_reference")]
    pub target_ref: ObjectReference,

    /// How each role is scaled, by name of the role; one or two roles.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 2))]
    pub roles: BTreeMap<String, RoleScaling>,

    /// Keeps the numbers of two roles in proportion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_constraint: Option<RatioConstraint>,
}

/// How one role is scaled. A role whose bounds are equal stays at that number and needs no metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleScaling {
    /// The least number of instances, 0 to 1000000.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_replicas: i32,

    /// The largest number of instances, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_replicas: i32,

    /// Metrics of this role, in place of those of the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub metrics: Vec<Metric>,

    /// Where metrics are, by name of the metric. Of the pods, those of this role are asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metric_sources: BTreeMap<String, MetricSource>,
}

/// Bounds on the instances of one role divided by those of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [cel::RATIO_ROLES_DIFFER]))]
pub struct RatioConstraint {
    /// The role above the line.
    pub numerator_role: String,

    /// The role below the line.
    pub denominator_role: String,

    /// The least ratio; zero or more.
    pub min_ratio: Quantity,

    /// The largest ratio; above zero.
    pub max_ratio: Quantity,
}

/// Where a metric is: in the pods or in a Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [cel::METRIC_SOURCE_IS_SET, cel::METRIC_SOURCE_IS_SET_ONCE]))]
pub struct MetricSource {
    /// Asks every ready entry pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodMetricSource>,

    /// Asks a Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusMetricSource>,
}

/// A metric that pods publish.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMetricSource {
    /// What the pods call the metric; as the policy does if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// Path of the metrics page, with a leading slash; `/metrics` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^/"), extend("default" = "/metrics"))]
    pub uri: Option<String>,

    /// Port of the metrics page, 1 to 65535; 8100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535), extend("default" = 8100))]
    pub port: Option<i32>,

    /// Which of the entry pods are asked; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "external::label_selector")]
    pub label_selector: Option<LabelSelector>,
}

/// A metric that a Prometheus knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusMetricSource {
    /// URL of the Prometheus.
    #[serde(rename = "serverURL")]
    #[schemars(length(min = 1), extend("format" = "uri"))]
    pub server_url: String,

    /// An instant query with a single value as its answer.
    #[schemars(length(min = 1))]
    pub query: String,

    /// Reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<PrometheusAuth>,
}

/// Reserved for credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrometheusAuth {}

// === impl RoleScaling ===

impl RoleScaling {
    /// Whether the role stays at one number, which then needs no metrics.
    pub fn is_fixed(&self) -> bool {
        self.max_replicas > 0 && self.min_replicas == self.max_replicas
    }
}
