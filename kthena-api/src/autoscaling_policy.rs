//! AutoscalingPolicy: how many replicas a ModelServing, or its roles, should have.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time},
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{cel, condition, duration::Duration, external, quantity::Quantity, string_enum::string_enum};

/// What an AutoscalingPolicy asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "workload.serving.volcano.sh",
    version = "v1alpha1",
    kind = "AutoscalingPolicy",
    plural = "autoscalingpolicies",
    namespaced,
    status = "AutoscalingPolicyStatus",
    derive = "PartialEq",
    doc = "An AutoscalingPolicy scales ModelServings, or the roles of one, by metrics. It names exactly one of homogeneousTarget, heterogeneousTarget and disaggregatedTarget.",
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalingPolicySpec {
    /// How far, in percent of the current replicas, the wanted number may be off before anything is scaled: 0 to 100,
    /// 10 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100), extend("default" = 10))]
    pub tolerance_percent: Option<i32>,

    /// What to measure and the value per instance to aim at. Required except with `disaggregatedTarget`, whose roles
    /// may have metrics of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,

    /// How fast to scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<Behavior>,

    /// Scales one ModelServing as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homogeneous_target: Option<HomogeneousTarget>,

    /// Divides the load among several ModelServings of different cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heterogeneous_target: Option<HeterogeneousTarget>,

    /// Scales the roles of one ModelServing each on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disaggregated_target: Option<DisaggregatedTarget>,
}

/// A metric and its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Name of the metric; each name once per list.
    #[schemars(length(min = 1))]
    pub name: String,

    /// The value per instance to aim at; above zero.
    pub target_value: Quantity,
}

/// Limits on the speed of scaling.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Behavior {
    /// How replicas are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<StablePolicy>,

    /// How replicas are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<ScaleUp>,
}

/// How replicas are added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleUp {
    /// At ordinary times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_policy: Option<StablePolicy>,

    /// When the load jumps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic_policy: Option<PanicPolicy>,
}

/// Limits per period.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StablePolicy {
    /// Instances that may change per period; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("default" = 1))]
    pub instances: Option<i32>,

    /// Percentage of the instances that may change per period: 0 to 1000, 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000), extend("default" = 100))]
    pub percent: Option<i32>,

    /// The period that both limits refer to, up to 30 minutes; `15s` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "15s"))]
    pub period: Option<Duration>,

    /// `Or` scales as far as the more generous limit allows, `And` as far as both do; `Or` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Or"))]
    pub select_policy: Option<SelectPolicy>,

    /// How far back recommendations are considered, up to 30 minutes; if absent, `5m` to remove and `0s` to add
    /// replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stabilization_window: Option<Duration>,
}

/// Faster limits for when the load jumps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PanicPolicy {
    /// Percentage of the instances that may be added per period: 0 to 1000, 1000 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000), extend("default" = 1000))]
    pub percent: Option<i32>,

    /// The period that the limit refers to, up to 30 minutes.
    pub period: Duration,

    /// How many percent of the current replicas must be wanted for panic mode to begin: 110 to 1000, 200 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 110, max = 1000), extend("default" = 200))]
    pub panic_threshold_percent: Option<i32>,

    /// How long panic mode lasts, up to 30 minutes; `60s` if absent. Zero turns panic mode off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "60s"))]
    pub panic_mode_hold: Option<Duration>,
}

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

string_enum! {
    /// Which of two limits counts.
    pub enum SelectPolicy {
        /// The more generous one.
        Or = "Or",
        /// The stricter one.
        And = "And",
    }
}

string_enum! {
    /// The mode that a target is scaled in.
    pub enum ScalingMode {
        /// At ordinary speed.
        Stable = "Stable",
        /// Fast, because the load jumped.
        Panic = "Panic",
    }
}

/// What an AutoscalingPolicy has come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalingPolicyStatus {
    /// The `metadata.generation` that the status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`, `TargetFound` and `RatioConstraintViolated`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::map_list")]
    pub conditions: Vec<Condition>,

    /// The target of `homogeneousTarget`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homogeneous_status: Option<TargetScalingStatus>,

    /// The targets of `heterogeneousTarget`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heterogeneous_status: Vec<TargetScalingStatus>,

    /// The roles of `disaggregatedTarget`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disaggregated_status: Option<DisaggregatedStatus>,
}

/// The last scaling cycle of one target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetScalingStatus {
    /// Name of the ModelServing or of the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// Replicas before the cycle.
    pub current_replicas: i32,

    /// Replicas that the metrics ask for, before any limit.
    pub desired_replicas: i32,

    /// `Stable` or `Panic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub mode: Option<ScalingMode>,

    /// When the number of replicas was changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub last_scale_time: Option<Time>,
}

/// The last scaling cycle of the roles of a ModelServing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisaggregatedStatus {
    /// The roles by name.
    pub roles: Vec<TargetScalingStatus>,

    /// What came of the ratio constraint; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_status: Option<RatioStatus>,

    /// Whether the ratio constraint changed what the metrics asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_adjusted: Option<bool>,
}

/// What came of a ratio constraint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RatioStatus {
    /// The role above the line.
    pub numerator_role: String,

    /// The role below the line.
    pub denominator_role: String,

    /// The ratio as a short decimal number; empty while both roles are at zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_ratio: Option<String>,
}

fn date_time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}

// === impl RoleScaling ===

impl RoleScaling {
    /// Whether the role stays at one number, which then needs no metrics.
    pub fn is_fixed(&self) -> bool {
        self.max_replicas > 0 && self.min_replicas == self.max_replicas
    }
}
