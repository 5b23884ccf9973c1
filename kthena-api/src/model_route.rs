//! ModelRoute: which requests go to which models.
//!
//! ```
//! use kthena_api::model_route::{
//!     ModelRouteSpec, ParentReference, RateLimit, RateLimitUnit, RouteRule, StringMatch, Target, TargetModel,
//! };
//!
//! let spec: ModelRouteSpec = serde_json::from_value(serde_json::json!({
//!     "modelName": "qwen",
//!     "rules": [{ "targetModels": [{ "modelServerName": "qwen-8b" }] }],
//! }))?;
//! let RouteRule { target_models, .. } = &spec.rules[0];
//! let target: &TargetModel = &target_models[0];
//! assert_eq!(target.target(), Some(Target::ModelServer("qwen-8b")));
//! assert_eq!(target.effective_weight(), 100);
//!
//! let condition = StringMatch { prefix: Some("gpt-".into()), ..StringMatch::default() };
//! assert!(condition.matcher().is_ok_and(|matcher| matcher.matches("gpt-4")));
//!
//! let limit = RateLimit { unit: Some(RateLimitUnit::Minute), ..RateLimit::default() };
//! assert_eq!(limit.period(), Some(std::time::Duration::from_secs(60)));
//!
//! let parent = ParentReference::default();
//! assert_eq!((parent.effective_group(), parent.effective_kind()), ("gateway.networking.k8s.io", "Gateway"));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    cel, condition,
    pattern::{InvalidPattern, StringMatcher},
    string_enum::string_enum,
};

/// What a ModelRoute asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "networking.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ModelRoute",
    plural = "modelroutes",
    namespaced,
    status = "ModelRouteStatus",
    derive = "PartialEq",
    doc = "A ModelRoute sends requests for a model, or for LoRA adapters, to ModelServers and ExternalModelProviders.",
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[schemars(extend("x-kubernetes-validations" = [cel::ROUTE_MATCHES_SOMETHING]))]
#[serde(rename_all = "camelCase")]
pub struct ModelRouteSpec {
    /// The `model` that requests name. It need not exist anywhere: a route may offer a model under a name of its own.
    /// It cannot be changed once it is set. Without it, `loraAdapters` must not be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [cel::MODEL_NAME_IS_IMMUTABLE]))]
    pub model_name: Option<String>,

    /// Names of LoRA adapters that requests may give as their `model`; at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub lora_adapters: Vec<String>,

    /// Gateways whose traffic this route serves. A route with parents serves no other traffic. A route without any
    /// serves the traffic that came through no Gateway, and that of the Gateways in its own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentReference>,

    /// Rules in the order in which they are tried; the first that matches decides. At most sixteen. A request that
    /// none matches is answered with status 404.
    #[schemars(length(max = 16))]
    pub rules: Vec<RouteRule>,

    /// Limits on the tokens that requests of this route may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// A Gateway that a route belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// API group of the parent; `gateway.networking.k8s.io` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
        extend("default" = "gateway.networking.k8s.io")
    )]
    pub group: Option<String>,

    /// Kind of the parent; `Gateway` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"),
        extend("default" = "Gateway")
    )]
    pub kind: Option<String>,

    /// Name of the parent.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Namespace of the parent; that of the route if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub namespace: Option<String>,

    /// Port of the parent. It is accepted and does not take part in matching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,

    /// Name of the one listener of the parent that the route belongs to; every listener if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub section_name: Option<String>,
}

/// One rule of a route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteRule {
    /// A name for people; it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,

    /// What a request must look like; all of it must hold. Every request matches if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_match: Option<ModelMatch>,

    /// Where matching requests go, divided by weight; one to sixteen targets.
    #[schemars(length(min = 1, max = 16))]
    pub target_models: Vec<TargetModel>,
}

/// Conditions on a request, all of which must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelMatch {
    /// Conditions on headers, by name of the header.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, StringMatch>,

    /// Condition on the path of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<StringMatch>,

    /// Conditions on the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyMatch>,
}

/// A condition on a text. Of several the first of `exact`, `prefix` and `regex` counts; with none, anything matches. A
/// header that is missing is an empty text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StringMatch {
    /// The text is exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,

    /// The text begins with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,

    /// This expression, in RE2 syntax, matches somewhere in the text; use `^` and `$` to match all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

/// Conditions on the body of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BodyMatch {
    /// The request names exactly this `model`; any model if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// One target of a rule: a ModelServer or an ExternalModelProvider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [cel::ONE_TARGET]))]
#[serde(rename_all = "camelCase")]
pub struct TargetModel {
    /// Name of a ModelServer in the route's namespace. Exclusive with `externalModelProviderName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_server_name: Option<String>,

    /// Name of an ExternalModelProvider in the route's namespace. Exclusive with `modelServerName`, and not possible
    /// on a route with `loraAdapters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_model_provider_name: Option<String>,

    /// Share of the requests, relative to the other targets of the rule: 0 to 100, 100 if absent. A target of weight
    /// 0 gets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100), extend("default" = 100))]
    pub weight: Option<i32>,
}

/// Limits on tokens per unit of time. A limit that is absent does not limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// The unit of time that the limits refer to; `second` if absent, `month` is 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, extend("default" = "second"))]
    pub unit: Option<RateLimitUnit>,

    /// Tokens of prompts per unit of time; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub input_tokens_per_unit: Option<i32>,

    /// Generated tokens per unit of time; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub output_tokens_per_unit: Option<i32>,

    /// Counts across all proxies. Without it, or without `redis` in it, each proxy counts for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<GlobalRateLimit>,
}

/// Where limits that span proxies are counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GlobalRateLimit {
    /// The Redis that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
}

/// A Redis server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redis {
    /// Its address as `host:port`.
    pub address: String,
}

string_enum! {
    /// The unit of time of a rate limit.
    pub enum RateLimitUnit {
        /// One second.
        Second = "second",
        /// Sixty seconds.
        Minute = "minute",
        /// Sixty minutes.
        Hour = "hour",
        /// Twenty-four hours.
        Day = "day",
        /// Thirty days.
        Month = "month",
    }
}

/// What was found out about a ModelRoute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelRouteStatus {
    /// The `metadata.generation` that the status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Accepted` tells whether the route is valid and in use, `ResolvedRefs` whether all its targets exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::map_list")]
    pub conditions: Vec<Condition>,
}

/// What a target refers to, as names in the route's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target<'a> {
    /// A ModelServer.
    ModelServer(&'a str),
    /// An ExternalModelProvider.
    ExternalModelProvider(&'a str),
}

// === impl ParentReference ===

impl ParentReference {
    /// API group of the parent, with its default.
    pub fn effective_group(&self) -> &str {
        self.group.as_deref().unwrap_or("gateway.networking.k8s.io")
    }

    /// Kind of the parent, with its default.
    pub fn effective_kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Gateway")
    }
}

// === impl StringMatch ===

impl StringMatch {
    /// Compiles the condition; fails where the expression is not valid and nothing of precedence stands in front of it.
    pub fn matcher(&self) -> Result<StringMatcher, InvalidPattern> {
        StringMatcher::new(self)
    }
}

// === impl TargetModel ===

impl TargetModel {
    /// What the target refers to; `None` unless exactly one name is set. An empty name counts as none.
    pub fn target(&self) -> Option<Target<'_>> {
        let server = self.model_server_name.as_deref().filter(|name| !name.is_empty());
        let provider = self
            .external_model_provider_name
            .as_deref()
            .filter(|name| !name.is_empty());
        match (server, provider) {
            (Some(name), None) => Some(Target::ModelServer(name)),
            (None, Some(name)) => Some(Target::ExternalModelProvider(name)),
            (None, None) | (Some(_), Some(_)) => None,
        }
    }

    /// The weight with its default; negative ones, which the API server refuses, count as 0.
    pub fn effective_weight(&self) -> u32 {
        self.weight
            .map_or(100, |weight| u32::try_from(weight).unwrap_or(0))
    }
}

// === impl RateLimit ===

impl RateLimit {
    /// The unit of time as a duration, with its default; `None` for a unit this version does not know.
    pub fn period(&self) -> Option<std::time::Duration> {
        let seconds = match self.unit.as_ref().unwrap_or(&RateLimitUnit::Second) {
            RateLimitUnit::Second => 1,
            RateLimitUnit::Minute => 60,
            RateLimitUnit::Hour => 3_600,
            RateLimitUnit::Day => 86_400,
            RateLimitUnit::Month => 30 * 86_400,
            RateLimitUnit::Unknown(_) => return None,
        };
        Some(std::time::Duration::from_secs(seconds))
    }
}
