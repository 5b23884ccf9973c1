//! Parts of Kubernetes' own types that the kinds embed.
//!
//! They are kept as they were written, in [`Embedded`], and read as types of k8s-openapi where somebody needs to look
//! inside. So nothing is lost on the way from a ModelServing to its pods: neither an integer written where
//! k8s-openapi expects a string, nor a field newer than the version of Kubernetes that a binary was built for.
//!
//! Their schemas come from a real API server, see `kubernetes.schemas.json` and `cargo xtask codegen`.
//!
//! Kinds of other projects have a module each.
//!
//! ```
//! use k8s_openapi::api::core::v1::PodSpec;
//! use kthena_api::external::{self, Embedded, EnvVar, ExternalType, SecretKeySelector};
//!
//! let mut spec: Embedded<PodSpec> = Embedded::new(&PodSpec::default())?;
//! spec.as_object_mut().insert("newerThanThisVersion".into(), true.into());
//! assert!(spec.as_object().contains_key("newerThanThisVersion"));
//! assert_eq!(spec.parse()?.containers.len(), 0);
//!
//! assert!(external::schema(PodSpec::NAME).is_some());
//! assert!(external::kubernetes_version().starts_with("v1."));
//!
//! let variable = EnvVar { name: "HF_HOME".into(), value: Some("/models".into()), value_from: None };
//! assert_eq!(serde_json::to_value(variable)?["name"], "HF_HOME");
//! assert_eq!(SecretKeySelector { key: "token".into(), ..SecretKeySelector::default() }.name(), "");
//! # Ok::<(), serde_json::Error>(())
//! ```

pub mod leader_worker_set;

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData, sync::LazyLock};

use k8s_openapi::api::core::v1::{Affinity, EnvFromSource, EnvVarSource, PodSpec, ResourceRequirements};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value};

/// An object of a Kubernetes type, kept as it was written.
///
/// ```
/// use k8s_openapi::api::core::v1::PodSpec;
/// use kthena_api::external::Embedded;
///
/// let written = r#"{"containers":[{"name":"engine","resources":{"requests":{"cpu":125}}}]}"#;
/// let spec: Embedded<PodSpec> = serde_json::from_str(written)?;
/// let requests = spec.parse()?.containers[0].resources.clone().unwrap().requests.unwrap();
/// assert_eq!(requests["cpu"].0, "125");
/// assert_eq!(serde_json::to_string(&spec)?, written);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub struct Embedded<T> {
    object: Map<String, Value>,
    type_: PhantomData<fn() -> T>,
}

/// A type of Kubernetes whose schema is in `kubernetes.schemas.json`.
pub trait ExternalType: Serialize + DeserializeOwned {
    /// Its name there.
    const NAME: &'static str;
}

/// An environment variable of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name of the variable.
    pub name: String,

    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,

    /// Where its value comes from instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<Embedded<EnvVarSource>>,
}

/// A key of a Secret in the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretKeySelector {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = ""))]
    pub name: Option<String>,

    /// Key in the Secret.
    pub key: String,

    /// Whether the Secret or the key may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

#[derive(Deserialize)]
struct Document {
    kubernetes: String,
    schemas: BTreeMap<String, Value>,
}

static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    serde_json::from_str(include_str!("external/kubernetes.schemas.json"))
        .expect("a file of this crate, read by its tests")
});

/// The version of Kubernetes that the embedded types are from, such as `v1.34`.
pub fn kubernetes_version() -> &'static str {
    &DOCUMENT.kubernetes
}

/// The schema of an embedded type, without references.
///
/// `None` for a type that no kind embeds.
pub fn schema(name: &str) -> Option<Value> {
    let mut schema = DOCUMENT.schemas.get(name)?.clone();
    inline(&mut schema);
    Some(schema)
}

fn inline(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(target) = object.get("$ref").and_then(Value::as_str).and_then(self::schema) {
                *schema = target;
            } else {
                object.values_mut().for_each(inline);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(inline),
        _ => {}
    }
}

/// As [`schema`], for schemars.
pub(crate) fn embed(name: &str) -> Schema {
    schema(name)
        .and_then(|schema| Schema::try_from(schema).ok())
        .unwrap_or_default()
}

/// A list that is replaced as a whole.
fn atomic_list(name: &str) -> Schema {
    schemars::json_schema!({ "type": "array", "items": embed(name), "x-kubernetes-list-type": "atomic" })
}

pub(crate) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    atomic_list("Toleration")
}

pub(crate) fn env_from(_: &mut SchemaGenerator) -> Schema {
    atomic_list("EnvFromSource")
}

pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    embed("LabelSelector")
}

pub(crate) fn object_reference(_: &mut SchemaGenerator) -> Schema {
    embed("ObjectReference")
}

// === impl ExternalType ===

impl ExternalType for PodSpec {
    const NAME: &'static str = "PodSpec";
}

impl ExternalType for ResourceRequirements {
    const NAME: &'static str = "ResourceRequirements";
}

impl ExternalType for Affinity {
    const NAME: &'static str = "Affinity";
}

impl ExternalType for EnvVarSource {
    const NAME: &'static str = "EnvVarSource";
}

impl ExternalType for EnvFromSource {
    const NAME: &'static str = "EnvFromSource";
}

// === impl Embedded ===

impl<T> Embedded<T> {
    /// The members as they were written.
    pub fn as_object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// The members, to change them.
    pub fn as_object_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.object
    }
}

impl<T: ExternalType> Embedded<T> {
    /// Keeps an object of the type.
    pub fn new(object: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_value(object).and_then(serde_json::from_value)
    }

    /// Reads the object as its type. Quantities that were written as numbers become the strings that k8s-openapi
    /// expects; fields that it does not know are left out.
    pub fn parse(&self) -> Result<T, serde_json::Error> {
        let mut value = Value::Object(self.object.clone());
        if let Some(schema) = DOCUMENT.schemas.get(T::NAME) {
            quantities_to_text(schema, &mut value);
        }
        serde_json::from_value(value)
    }
}

/// Only quantities have both a pattern and the int-or-string mark.
fn quantities_to_text(schema: &Value, value: &mut Value) {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        if let Some(schema) = DOCUMENT.schemas.get(target) {
            quantities_to_text(schema, value);
        }
        return;
    }
    match value {
        Value::Number(number) if schema.get("pattern").is_some() => {
            *value = Value::String(number.to_string());
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| quantities_to_text(schema, item));
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let property = schema
                    .get("properties")
                    .and_then(|properties| properties.get(name));
                if let Some(schema) = property.or_else(|| schema.get("additionalProperties")) {
                    quantities_to_text(schema, member);
                }
            }
        }
        _ => {}
    }
}

impl<T> Clone for Embedded<T> {
    fn clone(&self) -> Self {
        Self {
            object: self.object.clone(),
            type_: PhantomData,
        }
    }
}

impl<T> Default for Embedded<T> {
    fn default() -> Self {
        Self {
            object: Map::new(),
            type_: PhantomData,
        }
    }
}

impl<T> PartialEq for Embedded<T> {
    fn eq(&self, other: &Self) -> bool {
        self.object == other.object
    }
}

impl<T> fmt::Debug for Embedded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.fmt(f)
    }
}

impl<T> Serialize for Embedded<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Embedded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self {
            object: Map::deserialize(deserializer)?,
            type_: PhantomData,
        })
    }
}

impl<T: ExternalType> JsonSchema for Embedded<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        embed(T::NAME)
    }
}

// === impl SecretKeySelector ===

impl SecretKeySelector {
    /// The name, empty where it is absent.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
