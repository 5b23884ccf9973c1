//! An object's way into the cluster, for where there is no cluster.
//!
//! The file source and the CLI take objects that no API server has seen. [`admit`] does to them what an API server with
//! our webhooks would: unknown fields are refused, defaults are filled in, and every check is made, so that an object
//! that is accepted here is accepted there, and the other way round.
//!
//! ```
//! use kthena_api::{ModelRoute, admission::admit};
//!
//! let object = serde_json::json!({
//!     "apiVersion": "networking.serving.volcano.sh/v1alpha1",
//!     "kind": "ModelRoute",
//!     "metadata": { "name": "qwen" },
//!     "spec": { "modelName": "qwen", "rules": [{ "targetModels": [{ "modelServerName": "qwen" }] }] },
//! });
//! let route: ModelRoute = admit(object, None).expect("a valid route");
//! assert_eq!(route.spec.rules[0].target_models[0].weight, Some(100), "the default is filled in");
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize as _, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    AutoscalingPolicy, ExternalModelProvider, ModelBooster, ModelRoute, ModelServer, ModelServing,
    crd::Kind,
    field::{FieldError, FieldErrors, FieldPath},
    mutation::Mutate,
    name, schema,
    validation::Validate,
};

/// One of the six types.
///
/// ```
/// use kthena_api::admission::Object;
/// use kthena_api::{ModelRoute, ModelServing};
///
/// fn plural<K: Object>() -> &'static str {
///     K::KIND.plural()
/// }
///
/// assert_eq!((plural::<ModelRoute>(), plural::<ModelServing>()), ("modelroutes", "modelservings"));
/// ```
pub trait Object:
    kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Validate + Mutate
{
    /// The kind of its objects.
    const KIND: Kind;
}

impl Object for ModelServing {
    const KIND: Kind = Kind::ModelServing;
}

impl Object for ModelBooster {
    const KIND: Kind = Kind::ModelBooster;
}

impl Object for AutoscalingPolicy {
    const KIND: Kind = Kind::AutoscalingPolicy;
}

impl Object for ModelRoute {
    const KIND: Kind = Kind::ModelRoute;
}

impl Object for ModelServer {
    const KIND: Kind = Kind::ModelServer;
}

impl Object for ExternalModelProvider {
    const KIND: Kind = Kind::ExternalModelProvider;
}

/// Takes an object in, with its defaults, or says everything that is wrong with it. `old` is what the object replaces,
/// where it replaces one; some fields may not change.
pub fn admit<K: Object>(mut object: Value, old: Option<&K>) -> Result<K, Vec<FieldError>> {
    schema::integral_numbers(&mut object);
    fail(check_type::<K>(&object))?;
    fail(
        schema::unknown_fields(K::KIND, &object)
            .into_iter()
            .map(FieldError::unknown)
            .collect(),
    )?;
    schema::apply_defaults(K::KIND, &mut object);
    let mut errors = check_metadata(&object);
    errors.extend(schema::check(K::KIND, &object));
    fail(errors)?;
    let mut object = decode::<K>(object)?;
    object.complete();
    fail(object.check_rules(old))?;
    fail(object.validate())?;
    Ok(object)
}

/// Everything that is wrong with an object of any of our kinds; `None` if it is not of our kinds.
///
/// ```
/// use kthena_api::admission::review;
/// use serde_json::json;
///
/// assert_eq!(review(&json!({ "kind": "Pod" })), None);
/// let route = json!({
///     "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute",
///     "metadata": { "name": "Upper" }, "spec": { "modelName": "a", "rules": [] },
/// });
/// assert!(!review(&route).unwrap().is_empty());
/// ```
pub fn review(object: &Value) -> Option<Vec<FieldError>> {
    fn errors<K: Object>(object: &Value) -> Vec<FieldError> {
        admit::<K>(object.clone(), None).err().unwrap_or_default()
    }
    let check = match Kind::of(object)? {
        Kind::ModelServing => errors::<ModelServing>,
        Kind::ModelBooster => errors::<ModelBooster>,
        Kind::AutoscalingPolicy => errors::<AutoscalingPolicy>,
        Kind::ModelRoute => errors::<ModelRoute>,
        Kind::ModelServer => errors::<ModelServer>,
        Kind::ExternalModelProvider => errors::<ExternalModelProvider>,
    };
    Some(check(object))
}

/// Reads an object as its type. What is wrong is told with its path as far as the schema sees it, which is more than
/// the decoder says; so a webhook can answer with it.
///
/// ```
/// use kthena_api::{ModelRoute, admission};
///
/// let route = serde_json::json!({ "metadata": {}, "spec": { "rules": "none" } });
/// let errors = admission::decode::<ModelRoute>(route).unwrap_err();
/// assert!(errors.iter().any(|error| error.path.as_str() == "spec.rules"));
/// ```
pub fn decode<K: Object>(object: Value) -> Result<K, Vec<FieldError>> {
    match K::deserialize(&object) {
        Ok(object) => Ok(object),
        Err(error) => {
            let errors = schema::check(K::KIND, &object);
            Err(if errors.is_empty() {
                vec![FieldError::invalid(
                    FieldPath::root(),
                    "object",
                    error.to_string(),
                )]
            } else {
                errors
            })
        }
    }
}

fn fail(errors: Vec<FieldError>) -> Result<(), Vec<FieldError>> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn check_type<K: Object>(object: &Value) -> Vec<FieldError> {
    let mut errors = FieldErrors::new();
    for (field, wanted) in [
        ("apiVersion", K::KIND.api_version()),
        ("kind", K::KIND.name().to_owned()),
    ] {
        let found = object.get(field).cloned().unwrap_or_default();
        if found != wanted.as_str() {
            errors.invalid(FieldPath::new(field), found, format!("must be {wanted}"));
        }
    }
    errors.into_vec()
}

fn check_metadata(object: &Value) -> Vec<FieldError> {
    let mut errors = FieldErrors::new();
    let path = FieldPath::new("metadata");
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    match metadata.get("name") {
        Some(Value::String(text)) => {
            if let Err(error) = name::check_subdomain(text) {
                errors.invalid(path.child("name"), text.as_str(), error.to_string());
            }
        }
        Some(other) => errors.invalid(path.child("name"), other.clone(), "must be of type string"),
        None => errors.required(path.child("name"), "name the object"),
    }
    if let Some(namespace) = metadata.get("namespace").filter(|namespace| !namespace.is_null()) {
        let error = namespace
            .as_str()
            .map_or(Err(name::InvalidName::Label), name::check_label)
            .err();
        if let Some(error) = error {
            errors.invalid(path.child("namespace"), namespace.clone(), error.to_string());
        }
    }
    check_map(
        &metadata,
        &path,
        "labels",
        Some(name::check_label_value),
        &mut errors,
    );
    check_map(&metadata, &path, "annotations", None, &mut errors);
    errors.into_vec()
}

type Check = fn(&str) -> Result<(), name::InvalidName>;

fn check_map(
    metadata: &Value,
    path: &FieldPath,
    field: &str,
    check: Option<Check>,
    errors: &mut FieldErrors,
) {
    let Some(map) = metadata.get(field).filter(|map| !map.is_null()) else {
        return;
    };
    let path = path.child(field);
    let Ok(map) = BTreeMap::<String, String>::deserialize(map) else {
        errors.invalid(path, map.clone(), "must be a map of strings");
        return;
    };
    for (key, value) in &map {
        if let Err(error) = name::check_key(key) {
            errors.invalid(path.clone(), key.as_str(), error.to_string());
        }
        if let Some(Err(error)) = check.map(|check| check(value)) {
            errors.invalid(path.key(key), value.as_str(), error.to_string());
        }
    }
}

#[cfg(test)]
mod tests;
