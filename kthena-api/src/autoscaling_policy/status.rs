//! What an AutoscalingPolicy has come to.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{condition, string_enum::string_enum};

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

string_enum! {
    /// The mode that a target is scaled in.
    pub enum ScalingMode {
        /// At ordinary speed.
        Stable = "Stable",
        /// Fast, because the load jumped.
        Panic = "Panic",
    }
}

fn date_time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time" })
}
