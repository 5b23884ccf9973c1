//! ModelServing: groups of pods that serve a model together.
//!
//! ```
//! use kthena_api::int_or_string::IntOrString;
//! use kthena_api::model_serving::{
//!     ModelServingSpec, PodTemplate, RecoveryPolicy, Role, RolloutStrategyType, ServingGroup,
//! };
//!
//! let spec: ModelServingSpec = serde_json::from_value(serde_json::json!({
//!     "template": { "roles": [{
//!         "name": "decode",
//!         "entryTemplate": { "spec": { "containers": [{ "name": "engine", "image": "vllm" }] } },
//!     }] },
//! }))?;
//! assert_eq!((spec.effective_replicas(), spec.effective_scheduler()), (1, "volcano"));
//! assert_eq!(spec.effective_recovery_policy(), &RecoveryPolicy::RoleRecreate);
//! assert_eq!(spec.effective_rollout_type(), &RolloutStrategyType::ServingGroupRollingUpdate);
//!
//! let ServingGroup { roles, .. } = &spec.template;
//! let role: &Role = &roles[0];
//! assert_eq!((role.effective_replicas(), role.effective_worker_replicas()), (1, 0));
//! assert_eq!(role.effective_max_unavailable(), IntOrString::Int(1));
//! let entry: &PodTemplate = &role.entry_template;
//! assert_eq!(entry.images().collect::<Vec<_>>(), [Some("vllm")]);
//! # Ok::<(), serde_json::Error>(())
//! ```

mod role;
mod status;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{
    role::{PodTemplate, PodTemplateMetadata, Role},
    status::{EstablishedGroups, ModelServingStatus},
};
use crate::{cel, int_or_string::IntOrString, labels::DEFAULT_SCHEDULER, string_enum::string_enum};

/// What a ModelServing asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "workload.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelServing",
    plural = "modelservings",
    namespaced,
    status = "ModelServingStatus",
    derive = "PartialEq",
    doc = "A ModelServing runs ServingGroups, each of which is a set of pods that serve a model together: one or more roles, such as prefill and decode, with one or more instances each.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.labelSelector"
    ),
    printcolumn = r#"{"name": "Replicas", "type": "integer", "jsonPath": ".status.replicas",
        "description": "ServingGroups there are"}"#,
    printcolumn = r#"{"name": "Available", "type": "integer", "jsonPath": ".status.availableReplicas",
        "description": "ServingGroups that are ready"}"#,
    printcolumn = r#"{"name": "Updated", "type": "integer", "jsonPath": ".status.updatedReplicas",
        "description": "ServingGroups on the newest revision"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ModelServingSpec {
    /// Number of ServingGroups; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 1))]
    pub replicas: Option<i32>,

    /// Scheduler of every pod, whatever the pod templates say; `volcano` if absent. Gang scheduling needs `volcano`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = DEFAULT_SCHEDULER))]
    pub scheduler_name: Option<String>,

    /// Plugins that adjust pods before they are created, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<Plugin>,

    /// What is created anew when a pod fails; `RoleRecreate` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "RoleRecreate"))]
    pub recovery_policy: Option<RecoveryPolicy>,

    /// How a change of the template reaches the pods. If absent, one ServingGroup at a time is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_strategy: Option<RolloutStrategy>,

    /// What each ServingGroup consists of.
    pub template: ServingGroup,
}

/// One step of the adjustment of pods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// Which plugin it is: `demo-pod-tweaks` or `lws-standard-labels`.
    pub name: String,

    /// Where the plugin comes from; `BuiltIn` is all there is, and the default.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(required, extend("default" = "BuiltIn"))]
    pub type_: Option<PluginType>,

    /// Settings of the plugin, in a form that the plugin defines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_json")]
    pub config: Option<Value>,

    /// Which pods the plugin adjusts; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<PluginScope>,
}

/// Restricts a plugin to some pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginScope {
    /// Names of the roles whose pods are adjusted; all roles if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,

    /// `Entry` for entry pods, `Worker` for worker pods, `All` for both; both if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub target: Option<PluginTarget>,
}

/// How changes of the template are rolled out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStrategy {
    /// What is replaced at a time: whole ServingGroups, or instances of a role within each group.
    /// `ServingGroupRollingUpdate` if absent. `RoleRollingUpdate` does not go with the recovery policy
    /// `ServingGroupRecreate`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(required, extend("default" = "ServingGroupRollingUpdate"))]
    pub type_: Option<RolloutStrategyType>,

    /// How many ServingGroups are replaced at a time, and which are not replaced. Not possible with
    /// `RoleRollingUpdate`, where each role has its own limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update_configuration: Option<RollingUpdateConfiguration>,

    /// Holds the rollout where it is: nothing is replaced, while scaling and recovery go on. What is created meanwhile
    /// is of the new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// Limits on the replacement of ServingGroups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdateConfiguration {
    /// How many ServingGroups may be unavailable during a rollout: a number, or a percentage of `replicas` rounded
    /// down. It must come to at least 1, which is the default, unless `maxSurge` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 1))]
    pub max_unavailable: Option<IntOrString>,

    /// How many ServingGroups there may be beyond `replicas` during a rollout: a number, or a percentage of `replicas`
    /// rounded up. None if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,

    /// How many of the first ServingGroups keep the old revision: a number, or a percentage of `replicas` rounded up.
    /// None if absent; more than there are keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<IntOrString>,
}

/// The pods of one ServingGroup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [cel::GANG_POLICY_STAYS]))]
pub struct ServingGroup {
    /// Seconds between the failure of a pod and the recreation of what the recovery policy names. Zero and less, which
    /// is the default, recreate at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 0))]
    pub restart_grace_period_seconds: Option<i64>,

    /// Makes the pods of a group be scheduled together or not at all. Once set it cannot be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang_policy: Option<GangPolicy>,

    /// How close to each other in the network the pods must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_topology: Option<NetworkTopology>,

    /// The roles of a group, one to four, each with a name of its own.
    #[schemars(
        length(min = 1, max = 4),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"],
            "x-kubernetes-validations" = [cel::ROLE_NAMES_ARE_UNIQUE]
        )
    )]
    pub roles: Vec<Role>,
}

/// What must fit before any pod of a group is scheduled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GangPolicy {
    /// Instances that must fit, by name of the role; a role that is not named needs all of its replicas. It cannot be
    /// changed once it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [cel::MIN_ROLE_REPLICAS_IS_IMMUTABLE]))]
    pub min_role_replicas: Option<BTreeMap<String, i32>>,
}

/// Requirements on the network between pods; they need the scheduler `volcano`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkTopology {
    /// For all pods of a ServingGroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_policy: Option<NetworkTopologyPolicy>,

    /// For the pods of each role within a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_policy: Option<NetworkTopologyPolicy>,
}

/// How far apart pods may be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkTopologyPolicy {
    /// `hard` leaves pods pending that do not fit, `soft` prefers; `hard` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "hard"))]
    pub mode: Option<NetworkTopologyMode>,

    /// The highest tier of the network that the pods may span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "tier")]
    pub highest_tier_allowed: Option<i64>,

    /// The same by the name of the tier. Use one of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub highest_tier_name: Option<String>,
}

string_enum! {
    /// Where plugins come from.
    pub enum PluginType {
        /// Part of the controller.
        BuiltIn = "BuiltIn",
    }
}

string_enum! {
    /// Which pods of a role a plugin adjusts.
    pub enum PluginTarget {
        /// Entry and worker pods.
        All = "All",
        /// Entry pods.
        Entry = "Entry",
        /// Worker pods.
        Worker = "Worker",
    }
}

string_enum! {
    /// What is created anew when a pod fails.
    pub enum RecoveryPolicy {
        /// The whole ServingGroup.
        ServingGroupRecreate = "ServingGroupRecreate",
        /// The instance of the role that the pod belongs to.
        RoleRecreate = "RoleRecreate",
        /// Nothing; the kubelet restarts containers as the pod's restart policy says.
        None = "None",
    }
}

string_enum! {
    /// What is replaced at a time during a rollout.
    pub enum RolloutStrategyType {
        /// A ServingGroup.
        ServingGroupRollingUpdate = "ServingGroupRollingUpdate",
        /// An instance of a role, in each ServingGroup.
        RoleRollingUpdate = "RoleRollingUpdate",
    }
}

string_enum! {
    /// How binding a requirement on the network is.
    pub enum NetworkTopologyMode {
        /// Pods that do not fit stay pending.
        Hard = "hard",
        /// Pods that do not fit go elsewhere.
        Soft = "soft",
    }
}

/// Any JSON at all.
pub(crate) fn any_json(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}

fn tier(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 0 })
}

// === impl ModelServingSpec ===

impl ModelServingSpec {
    /// The number of ServingGroups with its default.
    pub fn effective_replicas(&self) -> i32 {
        self.replicas.unwrap_or(1)
    }

    /// The scheduler with its default.
    pub fn effective_scheduler(&self) -> &str {
        self.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER)
    }

    /// The recovery policy with its default; an empty one counts as absent.
    pub fn effective_recovery_policy(&self) -> &RecoveryPolicy {
        self.recovery_policy
            .as_ref()
            .filter(|it| !it.as_str().is_empty())
            .unwrap_or(&RecoveryPolicy::RoleRecreate)
    }

    /// What is replaced at a time, with its default; an empty type counts as absent.
    pub fn effective_rollout_type(&self) -> &RolloutStrategyType {
        self.rollout_strategy
            .as_ref()
            .and_then(|strategy| strategy.type_.as_ref())
            .filter(|it| !it.as_str().is_empty())
            .unwrap_or(&RolloutStrategyType::ServingGroupRollingUpdate)
    }
}
