//! Types, defaults and validation of the Kthena Kubernetes API.
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
