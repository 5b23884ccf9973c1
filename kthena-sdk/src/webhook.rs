//! Admission webhooks.
//!
//! A [`Hook`] is a path and a pure function from a [`Request`] to a [`Verdict`]; [`review`] puts it between two AdmissionReviews;
//! [`serve`] answers the API server with hooks over TLS. Kthena's own hooks are [`networking`] and [`workload`]; an operator
//! adds some for its kinds:
//!
//! ```
//! use kthena_sdk::webhook::{Hook, Verdict};
//!
//! let hook = Hook::new("/validate/team", |request| {
//!     let named = request.object.pointer("/metadata/labels/team").is_some();
//!     if named { Verdict::Allowed } else { Verdict::Denied("the label team is missing".into()) }
//! });
//!
//! let object = serde_json::json!({ "metadata": { "labels": {} } });
//! let verdict = hook.decide(&kthena_sdk::webhook::Request { object, old_object: None });
//! assert!(matches!(verdict, Verdict::Denied(_)));
//! ```

use std::fmt;
use std::sync::Arc;

use kthena_api::admission::{self, Object};
use kthena_api::field::{FieldError, admission_message};
use kthena_api::{
    AutoscalingPolicy, ExternalModelProvider, ModelBooster, ModelRoute, ModelServer, ModelServing,
};
use serde_json::Value;

use crate::model_serving::plugin::Registry;

#[cfg(feature = "keeper")]
pub mod keeper;
mod review;
mod server;

pub use crate::process::Certificate;
pub use review::{Refusal, review};
pub use server::{Config, Error, Source, serve};

/// What is about to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The object as it is to be, with the defaults of its definition.
    pub object: Value,
    /// The object as it is, where it is there already.
    pub old_object: Option<Value>,
}

/// What a webhook says about a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// As it is.
    Allowed,
    /// With this JSON patch (RFC 6902) applied; an empty one changes nothing.
    Patched(Value),
    /// No, and why.
    Denied(String),
}

/// A webhook.
#[derive(Clone)]
pub struct Hook {
    path: &'static str,
    decide: Arc<dyn Fn(&Request) -> Verdict + Send + Sync>,
}

impl Hook {
    /// A webhook at a path of the server, such as `/validate/modelroute`.
    pub fn new(path: &'static str, decide: impl Fn(&Request) -> Verdict + Send + Sync + 'static) -> Self {
        Self {
            path,
            decide: Arc::new(decide),
        }
    }

    /// A webhook that refuses objects of one of Kthena's kinds in which something is wrong. All problems are told at once, each
    /// with its path.
    ///
    /// ```
    /// use kthena_sdk::api::ModelRoute;
    /// use kthena_sdk::webhook::{Hook, Request, Verdict};
    ///
    /// let hook = Hook::validating::<ModelRoute>("/validate/modelroute");
    /// let object = serde_json::json!({
    ///     "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute",
    ///     "metadata": { "name": "a" },
    ///     "spec": { "modelName": "a", "rules": [{ "targetModels": [{ "modelServerName": "a", "weight": 0 }] }] },
    /// });
    /// assert!(matches!(hook.decide(&Request { object, old_object: None }), Verdict::Denied(_)));
    /// ```
    pub fn validating<K: Object>(path: &'static str) -> Self {
        Self::validating_more::<K>(path, |_| Vec::new())
    }

    /// The same, with further checks. They see objects in which the others may have found problems.
    ///
    /// ```
    /// use kthena_sdk::api::ModelServing;
    /// use kthena_sdk::model_serving::plugin::Registry;
    /// use kthena_sdk::webhook::Hook;
    ///
    /// let plugins = Registry::built_in();
    /// let hook = Hook::validating_more("/validate/modelserving", move |serving: &ModelServing| plugins.validate(serving));
    /// assert_eq!(hook.path(), "/validate/modelserving");
    /// ```
    pub fn validating_more<K: Object>(
        path: &'static str,
        more: impl Fn(&K) -> Vec<FieldError> + Send + Sync + 'static,
    ) -> Self {
        Self::new(path, move |request| {
            let errors = match admission::decode::<K>(request.object.clone()) {
                Ok(object) => {
                    let mut errors = object.validate();
                    errors.append(&mut more(&object));
                    errors
                }
                Err(errors) => errors,
            };
            if errors.is_empty() {
                Verdict::Allowed
            } else {
                Verdict::Denied(admission_message(&errors))
            }
        })
    }

    /// A webhook that completes objects of one of Kthena's kinds.
    ///
    /// ```
    /// use kthena_sdk::api::AutoscalingPolicy;
    /// use kthena_sdk::webhook::{Hook, Request, Verdict};
    ///
    /// let hook = Hook::mutating::<AutoscalingPolicy>("/mutate/autoscalingpolicy");
    /// let verdict = hook.decide(&Request { object: serde_json::Value::Null, old_object: None });
    /// assert!(matches!(verdict, Verdict::Denied(_)), "that is no AutoscalingPolicy");
    /// ```
    pub fn mutating<K: Object>(path: &'static str) -> Self {
        Self::new(path, |request| {
            match admission::decode::<K>(request.object.clone()) {
                Ok(object) => match serde_json::to_value(object.additions()) {
                    Ok(patch) => Verdict::Patched(patch),
                    Err(error) => Verdict::Denied(error.to_string()),
                },
                Err(errors) => Verdict::Denied(admission_message(&errors)),
            }
        })
    }

    /// Where it is.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// What it says.
    pub fn decide(&self, request: &Request) -> Verdict {
        (self.decide)(request)
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The webhooks for traffic, which the router serves.
///
/// ```
/// let paths: Vec<_> = kthena_sdk::webhook::networking().iter().map(|hook| hook.path()).collect();
/// assert!(paths.contains(&"/validate/modelroute"));
/// ```
pub fn networking() -> Vec<Hook> {
    vec![
        Hook::validating::<ModelRoute>("/validate/modelroute"),
        Hook::validating::<ModelServer>("/validate/modelserver"),
        Hook::validating::<ExternalModelProvider>("/validate/externalmodelprovider"),
    ]
}

/// The webhooks for workloads, which the controller manager serves. ModelServings may use these plugins.
///
/// ```
/// use kthena_sdk::model_serving::plugin::Registry;
///
/// let hooks = kthena_sdk::webhook::workload(Registry::built_in());
/// assert!(hooks.iter().any(|hook| hook.path() == "/mutate/modelbooster"));
/// ```
pub fn workload(plugins: Registry) -> Vec<Hook> {
    vec![
        Hook::mutating::<ModelBooster>("/mutate/modelbooster"),
        Hook::mutating::<AutoscalingPolicy>("/mutate/autoscalingpolicy"),
        Hook::validating::<ModelBooster>("/validate/modelbooster"),
        Hook::validating::<AutoscalingPolicy>("/validate/autoscalingpolicy"),
        Hook::validating_more::<ModelServing>(
            "/validate-workload-ai-v1alpha1-modelserving",
            move |serving| plugins.validate(serving),
        ),
    ]
}

#[cfg(test)]
mod tests;
