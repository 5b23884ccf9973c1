//! ModelServer: a group of engines that serve one model, and how to talk to them.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use kthena_api::model_server::{Endpoint, KvConnectorType, ModelServerSpec, PdRole, Protocol};
//!
//! let spec: ModelServerSpec = serde_json::from_value(serde_json::json!({
//!     "inferenceEngine": "vLLM",
//!     "workloadPort": { "port": 8000 },
//!     "kvConnector": { "type": "nixl" },
//!     "workloadSelector": {
//!         "matchLabels": { "app": "qwen" },
//!         "pdGroup": { "groupKey": "group", "prefillLabels": { "role": "p" }, "decodeLabels": { "role": "d" } },
//!     },
//! }))?;
//! assert_eq!(spec.kv_connector_type(), Some(&KvConnectorType::Nixl));
//! assert_eq!(spec.match_labels().map(BTreeMap::len), Some(1));
//! assert_eq!(spec.workload_port.effective_protocol(), &Protocol::Http);
//! assert_eq!(Endpoint::default().effective_port(&spec.workload_port), 8000);
//!
//! let labels = [("role", "p"), ("group", "a")].map(|(key, value)| (key.to_owned(), value.to_owned()));
//! let (labels, pairs) = (BTreeMap::from(labels), spec.pd_group().unwrap());
//! assert_eq!((pairs.role(&labels), pairs.group(&labels)), (Some(PdRole::Prefill), Some("a")));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{cel, condition, duration::Duration, string_enum::string_enum};

/// What a ModelServer asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "networking.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelServer",
    plural = "modelservers",
    namespaced,
    status = "ModelServerStatus",
    derive = "PartialEq",
    doc = "A ModelServer names the engines that serve one model, selected as pods or listed by address, and tells how requests reach them.",
    printcolumn = r#"{"name": "Engine", "type": "string", "jsonPath": ".spec.inferenceEngine",
        "description": "Inference engine that serves the model"}"#,
    printcolumn = r#"{"name": "Port", "type": "integer", "jsonPath": ".spec.workloadPort.port",
        "description": "Port of the engines"}"#,
    printcolumn = r#"{"name": "Protocol", "type": "string", "jsonPath": ".spec.workloadPort.protocol",
        "description": "Protocol the engines speak"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[schemars(extend("x-kubernetes-validations" = [cel::ENGINES_ARE_NAMED, cel::ENGINES_ARE_NAMED_ONCE]))]
#[serde(rename_all = "camelCase")]
pub struct ModelServerSpec {
    /// The model that the engines know. A request that names another one is rewritten to it, except where it asks for
    /// a LoRA adapter. If absent, requests keep their `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub model: Option<String>,

    /// The kind of engine.
    pub inference_engine: InferenceEngine,

    /// Which pods of the ModelServer's namespace the engines are. Required unless `endpoints` lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<WorkloadSelector>,

    /// Engines listed by address, for those outside the cluster and for use without a cluster; at most 1024.
    /// Exclusive with `workloadSelector.matchLabels`; `workloadSelector.pdGroup` selects among them by their labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "atomic"))]
    pub endpoints: Vec<Endpoint>,

    /// Where the engines listen.
    pub workload_port: WorkloadPort,

    /// Time limits and retries of requests to the engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<TrafficPolicy>,

    /// How the KV cache travels from a prefill to a decode engine. If absent, it is inferred from the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_connector: Option<KvConnector>,
}

/// Selects engines by their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels that every engine's pod has. Required, and not empty, unless `endpoints` lists the engines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,

    /// Splits the engines into prefill and decode. If absent, each engine serves requests on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pd_group: Option<PdGroup>,
}

/// Tells prefill from decode engines, and which of them belong together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PdGroup {
    /// Key of the label whose value prefill and decode engines must share to serve a request together.
    pub group_key: String,

    /// Labels of prefill engines.
    pub prefill_labels: BTreeMap<String, String>,

    /// Labels of decode engines. An engine with these and `prefillLabels` both counts as decode.
    pub decode_labels: BTreeMap<String, String>,
}

/// An engine listed by address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// IPv4 or IPv6 address, or DNS name. IPv6 addresses are written without brackets.
    #[schemars(length(min = 1, max = 253))]
    pub address: String,

    /// Port of this engine, 1 to 65535; `workloadPort.port` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,

    /// What pod labels are for a pod: `pdGroup` selects by them, and the annotations that a pod may carry to override
    /// those of its ModelServer are given here as labels of the same key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Where engines listen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadPort {
    /// Port number, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// `http` or `https`; `http` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "http"))]
    pub protocol: Option<Protocol>,
}

/// Time limits and retries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// How long the engine may take until its response begins; the response itself may take longer. No limit if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,

    /// What happens when an engine fails before its response begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// Retries of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How many times a request is sent again after the first attempt. Zero and less mean never; if absent, the proxy
    /// decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,

    /// Pause before each retry; `100ms` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "100ms"))]
    pub retry_interval: Option<Duration>,
}

/// How the KV cache travels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KvConnector {
    /// The protocol between prefill and decode; `http` if absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "http"))]
    pub type_: Option<KvConnectorType>,
}

string_enum! {
    /// The kinds of engines.
    pub enum InferenceEngine {
        /// vLLM, and vLLM Ascend.
        Vllm = "vLLM",
        /// SGLang.
        Sglang = "SGLang",
    }
}

string_enum! {
    /// What engines speak.
    pub enum Protocol {
        /// HTTP without TLS.
        Http = "http",
        /// HTTP over TLS.
        Https = "https",
    }
}

string_enum! {
    /// The protocols between prefill and decode engines.
    pub enum KvConnectorType {
        /// The engines find each other; the proxy sends the prompt to prefill first.
        Http = "http",
        /// LMCache; the proxy does the same as for `http`.
        Lmcache = "lmcache",
        /// NIXL: what prefill returns is passed on to decode.
        Nixl = "nixl",
        /// Mooncake.
        Mooncake = "mooncake",
    }
}

/// What was found out about a ModelServer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelServerStatus {
    /// The `metadata.generation` that the status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Accepted` tells whether the ModelServer is valid and in use, `ResolvedRefs` whether the Secrets that it names
    /// exist and can be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::map_list")]
    pub conditions: Vec<Condition>,

    /// All engines, whatever their role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<EndpointCount>,

    /// Prefill engines among them; absent without `pdGroup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<EndpointCount>,

    /// Decode engines among them; absent without `pdGroup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<EndpointCount>,
}

/// How many engines there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCount {
    /// Those selected or listed.
    pub total: i32,

    /// Those that requests are sent to.
    pub ready: i32,
}

// === impl ModelServerSpec ===

impl ModelServerSpec {
    /// How prefill and decode engines are told apart, where they are.
    pub fn pd_group(&self) -> Option<&PdGroup> {
        self.workload_selector.as_ref()?.pd_group.as_ref()
    }

    /// Labels that engines' pods have; empty where engines are listed by address.
    pub fn match_labels(&self) -> Option<&BTreeMap<String, String>> {
        self.workload_selector
            .as_ref()
            .map(|selector| &selector.match_labels)
            .filter(|labels| !labels.is_empty())
    }

    /// The connector that is configured; `None` leaves the choice to the engine. A connector without a type is `http`.
    pub fn kv_connector_type(&self) -> Option<&KvConnectorType> {
        self.kv_connector
            .as_ref()
            .map(|connector| connector.type_.as_ref().unwrap_or(&KvConnectorType::Http))
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// The port with its default from the ModelServer.
    pub fn effective_port(&self, workload_port: &WorkloadPort) -> i32 {
        self.port.unwrap_or(workload_port.port)
    }
}

// === impl WorkloadPort ===

impl WorkloadPort {
    /// The protocol with its default.
    pub fn effective_protocol(&self) -> &Protocol {
        self.protocol.as_ref().unwrap_or(&Protocol::Http)
    }
}

// === impl PdGroup ===

/// What an engine does for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PdRole {
    /// It reads the prompt.
    Prefill,
    /// It writes the answer.
    Decode,
}

impl PdGroup {
    /// The role of an engine with these labels; decode where both fit, `None` where neither does.
    pub fn role(&self, labels: &BTreeMap<String, String>) -> Option<PdRole> {
        let has_all = |wanted: &BTreeMap<String, String>| {
            wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        if has_all(&self.decode_labels) {
            Some(PdRole::Decode)
        } else if has_all(&self.prefill_labels) {
            Some(PdRole::Prefill)
        } else {
            None
        }
    }

    /// The group an engine with these labels belongs to, where it has the group's label.
    pub fn group<'a>(&self, labels: &'a BTreeMap<String, String>) -> Option<&'a str> {
        labels.get(&self.group_key).map(String::as_str)
    }
}
