//! The kind: what users write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Type of the condition that says whether requests are answered.
pub const READY: &str = "Ready";
/// Reason of [`READY`]: a ModelServing of the same name belongs to somebody else.
pub const NAME_TAKEN: &str = "NameTaken";

/// What a ChatService asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "example.com",
    version = "v1",
    kind = "ChatService",
    namespaced,
    status = "ChatServiceStatus",
    derive = "PartialEq",
    doc = "A ChatService serves a model in a size.",
    printcolumn = r#"{"name": "Model", "type": "string", "jsonPath": ".spec.model"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ChatServiceSpec {
    /// The model, as the engine finds it: `Qwen/Qwen3-8B`.
    #[schemars(length(min = 1))]
    pub model: String,

    /// How much of a machine each replica takes.
    #[serde(default)]
    pub size: Size,

    /// How many replicas there are.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub replicas: i32,
}

/// How much of a machine a replica takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Size {
    /// One GPU.
    #[default]
    Small,
    /// A machine of eight GPUs.
    Large,
    /// Two machines of eight GPUs.
    Huge,
}

impl Size {
    /// GPUs of each pod.
    pub const fn gpus(self) -> u32 {
        match self {
            Self::Small => 1,
            Self::Large | Self::Huge => 8,
        }
    }

    /// Pods besides the one that takes requests.
    pub const fn workers(self) -> i32 {
        match self {
            Self::Small | Self::Large => 0,
            Self::Huge => 1,
        }
    }
}

/// How a ChatService does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatServiceStatus {
    /// The generation of the spec that this speaks about.
    pub observed_generation: Option<i64>,

    /// Replicas that answer requests.
    #[serde(default)]
    pub available_replicas: i32,

    /// `Ready`: whether all replicas answer requests, and if not, why.
    #[serde(default)]
    #[schemars(schema_with = "kthena_sdk::condition::map_list")]
    pub conditions: Vec<Condition>,
}

const fn one() -> i32 {
    1
}
