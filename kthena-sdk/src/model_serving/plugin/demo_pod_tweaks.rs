//! `demo-pod-tweaks`: a runtime class, annotations and environment variables for pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::EnvVar;
use serde::Deserialize;
use serde_json::Value;

use super::super::pod::{Place, containers, set_env};
use super::{BoxError, Plugin};

/// Its name.
pub(super) const NAME: &str = "demo-pod-tweaks";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct DemoPodTweaks {
    /// The RuntimeClass of the pods; as the template says if empty.
    runtime_class_name: String,
    /// Annotations, in place of others of their keys.
    annotations: BTreeMap<String, String>,
    /// Variables for all containers, init containers among them, in place of others of their names.
    env: Vec<Value>,
}

/// Makes the plugin.
pub(super) fn new(settings: &Value) -> Result<Box<dyn Plugin>, BoxError> {
    let tweaks = Option::<DemoPodTweaks>::deserialize(settings)?.unwrap_or_default();
    for variable in &tweaks.env {
        let variable = EnvVar::deserialize(variable)?;
        if variable.name.is_empty() {
            return Err("env: a variable has no name".into());
        }
    }
    Ok(Box::new(tweaks))
}

impl Plugin for DemoPodTweaks {
    fn on_pod_create(&self, _place: &Place<'_>, pod: &mut Value) -> Result<(), BoxError> {
        if !self.runtime_class_name.is_empty() {
            pod["spec"]["runtimeClassName"] = self.runtime_class_name.clone().into();
        }
        for (key, value) in &self.annotations {
            pod["metadata"]["annotations"][key] = value.clone().into();
        }
        for container in containers(&mut pod["spec"]) {
            set_env(container, &self.env);
        }
        Ok(())
    }
}
