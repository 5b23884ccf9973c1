//! Types, defaults and validation of the Kthena Kubernetes API.
//!
//! Kthena serves large language models on Kubernetes. Users describe what they want in six kinds of objects:
//!
//! | Kind | Group | What it is |
//! |---|---|---|
//! | [`ModelServing`] | `workload.serving.volcano.sh` | pods that serve a model together, in groups and roles |
//! | [`ModelBooster`] | `workload.serving.volcano.sh` | a model in one object; the other kinds are generated from it |
//! | [`AutoscalingPolicy`] | `workload.serving.volcano.sh` | how many replicas there should be |
//! | [`ModelServer`] | `networking.serving.volcano.sh` | engines that serve one model, and how to reach them |
//! | [`ModelRoute`] | `networking.serving.volcano.sh` | which requests go to which ModelServers |
//! | [`ExternalModelProvider`] | `networking.serving.volcano.sh` | a model that somebody else serves |
//!
//! ```text
//!  ModelBooster ──generates──▶ ModelServing ◀──scales── AutoscalingPolicy
//!        │                        │ pods
//!        ├──────generates──▶ ModelServer ◀──┐
//!        └──────generates──▶ ModelRoute ────┴─targets──▶ ExternalModelProvider
//! ```
//!
//! Terms: a *ServingGroup* is one replica of a ModelServing. It has *roles*, such as prefill and decode; a role has
//! *instances*; an instance is an *entry pod*, which requests go to, and its *worker pods*. An *engine* is a process that
//! speaks the OpenAI protocol, such as vLLM.
//!
//! # What is here
//!
//! - the types, with a [`kube::Resource`] for each kind, and their CRDs in [`crd`];
//! - what admission does to objects, as pure functions: [`schema`] (defaults, unknown fields, bounds), [`mutation`] (what
//!   a mutating webhook fills in), [`validation`] (what it refuses), and all of it together in [`admission`];
//! - what components agree on: [`labels`], [`annotation`], [`condition`], [`name`];
//! - values as users write them: [`duration`], [`quantity`], [`int_or_string`], [`pattern`], [`external`].
//!
//! There is no client, no TLS and no runtime here, so that anything can depend on it. The types never refuse what the
//! API server has stored: a duration that cannot be read or a value that is not known stays as it is and is reported by
//! validation.
//!
//! ```
//! use kthena_api::{ModelRoute, admission, field::admission_message};
//!
//! let written = serde_json::json!({
//!     "apiVersion": "networking.serving.volcano.sh/v1alpha1",
//!     "kind": "ModelRoute",
//!     "metadata": { "name": "qwen" },
//!     "spec": {
//!         "modelName": "qwen",
//!         "rules": [{ "targetModels": [{ "modelServerName": "qwen", "weight": 0 }] }],
//!     },
//! });
//! let errors = admission::admit::<ModelRoute>(written, None).unwrap_err();
//! assert_eq!(
//!     admission_message(&errors),
//!     "validation failed:\n  - spec.rules[0].targetModels: Invalid value: 0: \
//!      at least one target must have a weight above zero"
//! );
//! ```
//!
//! The version of Kubernetes that k8s-openapi speaks is the choice of the binary: enable one of its `v1_xx` features
//! there.
#![warn(missing_docs)]

pub mod admission;
pub mod annotation;
pub mod autoscaling_policy;
pub mod cel;
pub mod condition;
pub mod crd;
pub mod duration;
pub mod external;
pub mod external_model_provider;
pub mod field;
pub mod int_or_string;
pub mod labels;
pub mod model_booster;
pub mod model_route;
pub mod model_server;
pub mod model_serving;
pub mod mutation;
pub mod name;
pub mod pattern;
pub mod quantity;
pub mod schema;
mod string_enum;
#[cfg(test)]
mod testing;
pub mod url;
pub mod validation;
#[cfg(any(feature = "yaml", test))]
pub mod yaml;

pub use autoscaling_policy::{AutoscalingPolicy, AutoscalingPolicySpec, AutoscalingPolicyStatus};
pub use external_model_provider::{
    ExternalModelProvider, ExternalModelProviderSpec, ExternalModelProviderStatus,
};
pub use model_booster::{ModelBooster, ModelBoosterSpec, ModelBoosterStatus};
pub use model_route::{ModelRoute, ModelRouteSpec, ModelRouteStatus};
pub use model_server::{ModelServer, ModelServerSpec, ModelServerStatus};
pub use model_serving::{ModelServing, ModelServingSpec, ModelServingStatus};

/// The front page of the crate, whose example is to hold.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
