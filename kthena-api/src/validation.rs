//! The checks of the admission webhooks, as functions of the object.
//!
//! Each kind is checked in three steps, and a step that finds something ends the matter, as it does in a cluster:
//!
//! 1. the schema, by [`crate::schema::check`], where there is no API server;
//! 2. the rules of the CRD, by [`Validate::check_rules`], where there is no API server;
//! 3. what only a webhook can see, by [`Validate::validate`].
//!
//! Every step returns all problems that it finds, in an order that depends on the object alone.
//! [`crate::admission`] takes the steps together.

mod autoscaling_policy;
mod external_model_provider;
mod model_booster;
mod model_route;
mod model_server;
mod model_serving;

pub use external_model_provider::check_configuration;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    cel::CelRule,
    duration::Duration,
    field::{FieldError, FieldErrors, FieldPath},
    name,
};

/// An object that can be checked.
///
/// ```
/// use kthena_api::ModelServing;
/// use kthena_api::validation::Validate;
///
/// let serving: ModelServing = serde_json::from_value(serde_json::json!({
///     "metadata": { "name": "llama" },
///     "spec": { "replicas": -1, "template": { "roles": [] } },
/// }))?;
/// assert!(!serving.validate().is_empty());
/// # Ok::<(), serde_json::Error>(())
/// ```
pub trait Validate {
    /// Checks the rules that the CRD contains in CEL. Some of them compare an object to what it was before an update.
    fn check_rules(&self, old: Option<&Self>) -> Vec<FieldError>;

    /// Checks what an admission webhook checks.
    fn validate(&self) -> Vec<FieldError>;
}

fn spec() -> FieldPath {
    FieldPath::new("spec")
}

/// Adds what the API server says about a rule that does not hold; it shows the type in place of the value.
fn broken(errors: &mut FieldErrors, path: FieldPath, type_: &str, rule: CelRule) {
    errors.invalid(path, type_, rule.message);
}

/// Reports a duration that cannot be read.
fn check_duration(errors: &mut FieldErrors, path: FieldPath, duration: Option<&Duration>) {
    if let Some(duration) = duration
        && let Err(error) = duration.nanos()
    {
        errors.invalid(path, duration.as_str(), error.to_string());
    }
}

/// Reports labels that no object can have, once for the whole map.
fn check_labels(errors: &mut FieldErrors, path: FieldPath, labels: &BTreeMap<String, String>) {
    let mut problems = Vec::new();
    for (key, value) in labels {
        if let Err(error) = name::check_key(key) {
            problems.push(format!("key {key:?} {error}"));
        }
        if let Err(error) = name::check_label_value(value) {
            problems.push(format!("value {value:?} {error}"));
        }
    }
    if !problems.is_empty() {
        errors.invalid(path, as_json(labels), problems.join("; "));
    }
}

fn as_json(labels: &BTreeMap<String, String>) -> Value {
    labels
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect()
}
