//! ModelBooster: a model, its engine and its route in one object.
//!
//! ```
//! use kthena_api::model_booster::{ModelWorker, ModelWorkerType, kv_connector_type};
//! use kthena_api::model_server::KvConnectorType;
//!
//! let worker: ModelWorker = serde_json::from_value(serde_json::json!({ "image": "vllm", "pods": 1 }))?;
//! assert_eq!(worker.effective_type(), &ModelWorkerType::Server);
//! assert_eq!(kv_connector_type("NixlConnector"), Some(KvConnectorType::Nixl));
//! # Ok::<(), serde_json::Error>(())
//! ```

use k8s_openapi::{
    api::core::v1::{Affinity, EnvFromSource, ResourceRequirements, Toleration},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    condition,
    external::{self, Embedded, EnvVar},
    model_route::ModelMatch,
    model_server::KvConnectorType,
    model_serving::any_json,
    string_enum::string_enum,
};

/// What a ModelBooster asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "workload.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelBooster",
    plural = "modelboosters",
    namespaced,
    status = "ModelBoosterStatus",
    derive = "PartialEq",
    doc = "A ModelBooster deploys a model: a ModelServing, a ModelServer and a ModelRoute are generated from it.",
    printcolumn = r#"{"name": "Active", "type": "string",
        "jsonPath": ".status.conditions[?(@.type=='Active')].status",
        "description": "Whether the model serves requests"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ModelBoosterSpec {
    /// The name that requests give as their `model`: at most 64 lower case letters, digits and inner hyphens. The name
    /// of the ModelBooster if absent or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,

    /// Who is responsible for the model, for people; it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// What serves the model.
    pub backend: ModelBackend,

    /// Which requests for the model are served; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_match: Option<ModelMatch>,
}

/// The engines of a model and where they find it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelBackend {
    /// Name of the backend, which the names of the generated ModelServing and ModelServer end with. Changing it
    /// replaces both.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// How the engines are laid out.
    #[serde(rename = "type")]
    pub type_: ModelBackendType,

    /// Where the model comes from: `hf://` for Hugging Face, `ms://` for ModelScope, `s3://` or `obs://` for an object
    /// store, `pvc://` for a volume that holds it already.
    #[serde(rename = "modelURI")]
    #[schemars(regex(pattern = r"^(hf://|s3://|obs://|pvc://|ms://).+"))]
    pub model_uri: String,

    /// Where the model is kept: `hostpath://` or `pvc://`. In an empty directory of each pod if absent.
    #[serde(default, rename = "cacheURI", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(hostpath://|pvc://).+"))]
    pub cache_uri: Option<String>,

    /// Secrets and ConfigMaps whose entries the downloader and the runtime sidecar get as environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "external::env_from")]
    pub env_from: Vec<Embedded<EnvFromSource>>,

    /// Environment of the engines, each name once. Some names configure the downloader and the runtime sidecar, among
    /// them `HF_ENDPOINT` and `RUNTIME_PORT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,

    /// Number of ServingGroups, 0 to 1000000.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub replicas: i32,

    /// The engines of a ServingGroup, 1 to 1000: one of type `server` for `vLLM`, at most one each of `prefill` and
    /// `decode` for `vLLMDisaggregated`.
    #[schemars(length(min = 1, max = 1000))]
    pub workers: Vec<ModelWorker>,

    /// Scheduler of the pods; that of the ModelServing if absent, which is `volcano`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,

    /// RuntimeClass of the pods; that of the cluster if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
}

/// One kind of engine in a backend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelWorker {
    /// What the engine does; `server` if absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "server"))]
    pub type_: Option<ModelWorkerType>,

    /// Container image of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// Instances per ServingGroup, 0 to 1000000; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub replicas: Option<i32>,

    /// Pods of each instance, 0 to 1000000; 0 and 1 both mean one. Without effect for `vLLMDisaggregated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub pods: Option<i32>,

    /// Resources of the engine's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Embedded<ResourceRequirements>>,

    /// Which nodes and which neighbours the pods want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Embedded<Affinity>>,

    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "external::tolerations")]
    pub tolerations: Vec<Toleration>,

    /// Command line flags of the engine, as an object without the leading dashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_json")]
    pub config: Option<Value>,
}

string_enum! {
    /// How engines are laid out.
    pub enum ModelBackendType {
        /// vLLM, where each instance serves requests on its own.
        Vllm = "vLLM",
        /// vLLM with prefill and decode in separate pods.
        VllmDisaggregated = "vLLMDisaggregated",
    }
}

string_enum! {
    /// What an engine does.
    pub enum ModelWorkerType {
        /// Serves requests on its own.
        Server = "server",
        /// Reads prompts.
        Prefill = "prefill",
        /// Writes answers.
        Decode = "decode",
        /// Reserved; no backend type uses it.
        Controller = "controller",
        /// Reserved; no backend type uses it.
        Coordinator = "coordinator",
    }
}

/// What a ModelBooster has come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelBoosterStatus {
    /// The `metadata.generation` that the status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// ServingGroups of the generated ModelServing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// Those of them on the old revision, or all when no rollout is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_replicas: Option<i32>,

    /// Those of them on the newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_replicas: Option<i32>,

    /// Those of them all of whose pods are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_replicas: Option<i32>,

    /// `Initialized`, `Active` and `Failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::map_list")]
    pub conditions: Vec<Condition>,
}

// === impl ModelWorker ===

impl ModelWorker {
    /// What the engine does, with its default.
    pub fn effective_type(&self) -> &ModelWorkerType {
        self.type_.as_ref().unwrap_or(&ModelWorkerType::Server)
    }
}

/// The connector that a ModelServer needs for engines with this `kv_connector` in their `kv-transfer-config`.
pub fn kv_connector_type(connector: &str) -> Option<KvConnectorType> {
    match connector {
        "MooncakeConnector" | "MooncakeConnectorV1" => Some(KvConnectorType::Mooncake),
        "NixlConnector" => Some(KvConnectorType::Nixl),
        "LMCacheConnectorV1" => Some(KvConnectorType::Lmcache),
        _ => None,
    }
}
