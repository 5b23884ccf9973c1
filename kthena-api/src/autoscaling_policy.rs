//! AutoscalingPolicy: how many replicas a ModelServing, or its roles, should have.
//!
//! ```
//! use kthena_api::autoscaling_policy::{AutoscalingPolicySpec, RoleScaling};
//!
//! let spec: AutoscalingPolicySpec = serde_json::from_value(serde_json::json!({
//!     "metrics": [{ "name": "vllm:num_requests_waiting", "targetValue": "10" }],
//! }))?;
//! assert_eq!(spec.metrics.len(), 1);
//!
//! let role: RoleScaling =
//!     serde_json::from_value(serde_json::json!({ "minReplicas": 2, "maxReplicas": 2 }))?;
//! assert!(role.is_fixed());
//! # Ok::<(), serde_json::Error>(())
//! ```

mod status;
mod target;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    status::{AutoscalingPolicyStatus, DisaggregatedStatus, RatioStatus, ScalingMode, TargetScalingStatus},
    target::{
        DisaggregatedTarget, HeterogeneousParam, HeterogeneousTarget, HomogeneousTarget, MetricSource,
        PodMetricSource, PrometheusAuth, PrometheusMetricSource, RatioConstraint, RoleScaling, ScalingTarget,
    },
};
use crate::{duration::Duration, quantity::Quantity, string_enum::string_enum};

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

string_enum! {
    /// Which of two limits counts.
    pub enum SelectPolicy {
        /// The more generous one.
        Or = "Or",
        /// The stricter one.
        And = "And",
    }
}
