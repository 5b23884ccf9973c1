//! The pods of a role.
//!
//! ```
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::api::model_serving::{PodTemplate, Role};
//! use kthena_sdk::model_serving::pod::{Place, count, names};
//!
//! let serving = ModelServing::new("llama", Default::default());
//! let role = Role {
//!     name: "decode".into(),
//!     worker_replicas: Some(1),
//!     worker_template: Some(PodTemplate::default()),
//!     ..Role::default()
//! };
//! assert_eq!(count(&role), 2);
//! let all: Vec<String> = names("llama", 0, &role, 0).collect();
//! assert_eq!(all, ["llama-0-decode-0-0", "llama-0-decode-0-1"]);
//!
//! let place = Place {
//!     serving: &serving, group: 0, role: &role, instance: 0, index: 0,
//!     revision: "r", role_hash: "h", in_pod_group: false, is_surge: false,
//! };
//! assert!(place.is_entry());
//! assert_eq!(place.pod()["metadata"]["name"], place.name());
//! ```

use kthena_api::ModelServing;
use kthena_api::labels;
use kthena_api::model_serving::{PodTemplate, Role};
use kthena_api::name::{Serving, role_instance};
use serde_json::{Value, json};

use super::metadata;
use crate::{leader_worker_set, owner};

/// Where in a ModelServing a pod belongs, and what it is made from.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The ModelServing.
    pub serving: &'a ModelServing,
    /// Ordinal of the ServingGroup.
    pub group: u32,
    /// The role, as it was in the pod's revision.
    pub role: &'a Role,
    /// Ordinal of the role's instance in its group.
    pub instance: u32,
    /// 0 for the entry pod, 1 and more for worker pods.
    pub index: u32,
    /// The revision.
    pub revision: &'a str,
    /// Hash of the role's templates.
    pub role_hash: &'a str,
    /// Whether the group has a PodGroup.
    pub in_pod_group: bool,
    /// Whether the group is there for the time of a rollout only.
    pub is_surge: bool,
}

/// Pods in an instance of a role.
pub fn count(role: &Role) -> u32 {
    let workers = role
        .worker_template
        .as_ref()
        .map_or(0, |_| role.effective_worker_replicas());
    1 + u32::try_from(workers).unwrap_or(0)
}

/// Names of the pods of an instance, the entry pod first.
pub fn names<'a>(
    serving: &'a str,
    group: u32,
    role: &'a Role,
    instance: u32,
) -> impl Iterator<Item = String> + 'a {
    (0..count(role)).map(move |index| Serving(serving).pod(group, &role.name, instance, index))
}

impl Place<'_> {
    fn serving_name(&self) -> &str {
        self.serving.metadata.name.as_deref().unwrap_or_default()
    }

    /// The pod's name.
    pub fn name(&self) -> String {
        Serving(self.serving_name()).pod(self.group, &self.role.name, self.instance, self.index)
    }

    /// Whether it is the entry pod.
    pub const fn is_entry(&self) -> bool {
        self.index == 0
    }

    /// The pod, as it is created before plugins have adjusted it. The template's spec stays as it was written, but for the
    /// scheduler and the environment.
    ///
    /// The controller's own labels win over those of the template: what a pod belongs to is read from them.
    pub fn pod(&self) -> Value {
        let empty = PodTemplate::default();
        let template = if self.is_entry() {
            &self.role.entry_template
        } else {
            self.role.worker_template.as_ref().unwrap_or(&empty)
        };
        let metadata = template.metadata.clone().unwrap_or_default();
        let (mut labels, mut annotations) = (metadata.labels, metadata.annotations);
        labels.remove(labels::ENTRY);
        labels.append(&mut metadata::of_instance(
            self.serving,
            self.group,
            &self.role.name,
            self.instance,
        ));
        labels.insert(labels::REVISION.into(), self.revision.into());
        labels.insert(labels::ROLE_TEMPLATE_HASH.into(), self.role_hash.into());
        if self.is_entry() {
            labels.insert(labels::ENTRY.into(), labels::TRUE.into());
        }
        if self.in_pod_group {
            let group = Serving(self.serving_name()).group(self.group);
            annotations.insert(labels::POD_GROUP_NAME.into(), group);
            let task = role_instance(&self.role.name, self.instance);
            annotations.insert(labels::VOLCANO_TASK_SPEC.into(), task);
        }
        annotations.remove(labels::SURGE);
        if self.is_surge {
            annotations.insert(labels::SURGE.into(), labels::TRUE.into());
        }
        let mut metadata = json!({
            "name": self.name(),
            "namespace": self.serving.metadata.namespace,
            "labels": labels,
            "ownerReferences": [owner::reference(self.serving)],
        });
        if !annotations.is_empty() {
            metadata["annotations"] = json!(annotations);
        }
        let mut pod =
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": self.spec(template) });
        leader_worker_set::pod::complete(self, &mut pod);
        pod
    }

    fn spec(&self, template: &PodTemplate) -> Value {
        let spec = template.spec.as_ref();
        let mut spec = Value::Object(spec.map(|spec| spec.as_object().clone()).unwrap_or_default());
        spec["schedulerName"] = self.serving.spec.effective_scheduler().into();
        let env = self.env();
        for container in containers(&mut spec) {
            set_env(container, &env);
        }
        spec
    }

    /// What every container learns of its instance.
    fn env(&self) -> [Value; 3] {
        let entry = Serving(self.serving_name()).service(self.group, &self.role.name, self.instance);
        let namespace = self.serving.metadata.namespace.as_deref().unwrap_or_default();
        [
            (
                labels::ENV_GROUP_SIZE,
                (self.role.effective_worker_replicas() + 1).to_string(),
            ),
            (labels::ENV_ENTRY_ADDRESS, format!("{entry}.{namespace}")),
            (labels::ENV_WORKER_INDEX, self.index.to_string()),
        ]
        .map(|(name, value)| json!({ "name": name, "value": value }))
    }
}

/// All containers of a pod's spec that run before or with its main ones.
pub(super) fn containers(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    let lists = spec.as_object_mut().into_iter().flatten();
    let lists = lists.filter(|(key, _)| ["initContainers", "containers"].contains(&key.as_str()));
    lists.filter_map(|(_, list)| list.as_array_mut()).flatten()
}

/// Puts variables at the end of a container's environment, in place of others of their names.
pub(super) fn set_env(container: &mut Value, variables: &[Value]) {
    let Some(container) = container.as_object_mut() else {
        return;
    };
    if variables.is_empty() {
        return;
    }
    let env = container.entry("env").or_insert_with(|| Value::Array(Vec::new()));
    if !env.is_array() {
        *env = Value::Array(Vec::new());
    }
    if let Some(env) = env.as_array_mut() {
        env.retain(|old| variables.iter().all(|new| new["name"] != old["name"]));
        env.extend(variables.iter().cloned());
    }
}

#[cfg(test)]
mod tests;
