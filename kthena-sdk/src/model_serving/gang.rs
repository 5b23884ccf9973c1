//! PodGroups: the pods of a ServingGroup are scheduled together or not at all.
//!
//! A PodGroup is Volcano's (`scheduling.volcano.sh/v1beta1`). There is one for each ServingGroup where the scheduler is `volcano` and the
//! cluster knows the kind.
//!
//! ```
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::model_serving::gang::{PodGroup, PodGroupObject, PodGroupSpec, Support, is_wanted};
//!
//! let serving = ModelServing::new("llama", Default::default());
//! assert!(is_wanted(&serving), "Volcano is the default");
//!
//! let object = PodGroupObject::new("llama-0", PodGroupSpec { all: Default::default() });
//! assert_eq!(PodGroup::of(&object).child.name, "llama-0");
//!
//! let definition = serde_json::from_value(serde_json::json!({
//!     "metadata": {},
//!     "spec": { "group": "g", "scope": "Namespaced", "names": { "kind": "PodGroup", "plural": "podgroups" }, "versions": [] },
//! }))?;
//! assert_eq!(Support::of(&definition), Support { has_sub_groups: false });
//! # Ok::<(), serde_json::Error>(())
//! ```

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use kthena_api::model_serving::{NetworkTopologyPolicy, Role};
use kthena_api::name::Serving;
use kthena_api::quantity::Quantity;
use kthena_api::{ModelServing, labels};
use serde_json::{Map, Value, json};

use super::group::Frame;
use super::observe::Child;
use super::resource::{self, Amounts};
use super::{metadata, pod};
use crate::owner;

/// What the cluster's PodGroups can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// Whether they know `subGroupPolicy`, as from Volcano 1.14.
    pub has_sub_groups: bool,
}

/// A PodGroup as Volcano defines it. What is in its spec depends on the version.
#[derive(kube::CustomResource, Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[kube(
    group = "scheduling.volcano.sh",
    version = "v1beta1",
    kind = "PodGroup",
    root = "PodGroupObject",
    plural = "podgroups",
    namespaced,
    schema = "disabled"
)]
pub struct PodGroupSpec {
    /// All of it.
    #[serde(flatten)]
    pub all: Map<String, Value>,
}

/// A PodGroup that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct PodGroup {
    /// Its identity.
    pub child: Child,
    /// Its spec.
    pub spec: Value,
}

impl Support {
    /// Reads the definition of PodGroups.
    pub fn of(definition: &CustomResourceDefinition) -> Self {
        let has = |version: &CustomResourceDefinitionVersion| {
            let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
            let spec = schema.properties.as_ref()?.get("spec")?;
            Some(spec.properties.as_ref()?.contains_key("subGroupPolicy"))
        };
        Self {
            has_sub_groups: (definition.spec.versions.iter()).any(|version| has(version).unwrap_or(false)),
        }
    }
}

impl PodGroup {
    /// Reads a PodGroup.
    pub fn of(object: &PodGroupObject) -> Self {
        Self {
            child: Child::of(&object.metadata),
            spec: Value::Object(object.spec.all.clone()),
        }
    }
}

/// Whether the scheduler is the one that PodGroups are for.
pub fn is_wanted(serving: &ModelServing) -> bool {
    serving.spec.effective_scheduler() == labels::DEFAULT_SCHEDULER
}

/// The PodGroup of a ServingGroup.
pub(super) fn pod_group(serving: &ModelServing, group: u32, frame: &Frame<'_>, support: Support) -> Value {
    let serving_name = serving.metadata.name.as_deref().unwrap_or_default();
    let name = Serving(serving_name).group(group);
    let owner = owner::unblocking(owner::reference(serving));
    json!({
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "PodGroup",
        "metadata": {
            "name": name,
            "namespace": serving.metadata.namespace,
            "labels": metadata::of_group(serving, group),
            "annotations": { labels::POD_GROUP_NAME: name },
            "ownerReferences": [owner],
        },
        "spec": spec(serving, frame, support),
    })
}

fn spec(serving: &ModelServing, frame: &Frame<'_>, support: Support) -> Value {
    let topology = serving.spec.template.network_topology.clone().unwrap_or_default();
    let mut members = 0_u32;
    let mut resources = Amounts::default();
    let mut sub_groups = Vec::new();
    for (role, replicas) in &frame.roles {
        let least = least(serving, &role.name, *replicas);
        members = members.saturating_add(least.saturating_mul(pod::count(role)));
        resources += &of_instance(role).times(least);
        sub_groups.push(sub_group(serving, role, least, topology.role_policy.as_ref()));
    }
    let mut spec = json!({ "minMember": members, "minResources": resources.to_text() });
    let annotations = serving.metadata.annotations.as_ref();
    if let Some(queue) = annotations
        .and_then(|all| all.get(labels::QUEUE_NAME))
        .filter(|queue| !queue.is_empty())
    {
        spec["queue"] = queue.as_str().into();
    }
    if let Some(class) = priority_class(frame) {
        spec["priorityClassName"] = class.into();
    }
    if let Some(policy) = &topology.group_policy {
        spec["networkTopology"] = json!(policy);
    }
    if support.has_sub_groups {
        spec["subGroupPolicy"] = sub_groups.into();
    }
    spec
}

/// How many instances of a role must fit before any pod is scheduled.
fn least(serving: &ModelServing, role: &str, replicas: u32) -> u32 {
    let policy = serving.spec.template.gang_policy.as_ref();
    let named = policy
        .and_then(|policy| policy.min_role_replicas.as_ref())
        .and_then(|least| least.get(role));
    named.map_or(replicas, |least| u32::try_from(*least).unwrap_or(0).min(replicas))
}

/// What the pods of an instance request together.
fn of_instance(role: &Role) -> Amounts {
    let of = |template: Option<&kthena_api::model_serving::PodTemplate>| {
        let spec = template.and_then(|template| template.spec.as_ref()?.parse().ok());
        spec.as_ref().map(resource::of_pod).unwrap_or_default()
    };
    let mut all = of(Some(&role.entry_template));
    all += &of(role.worker_template.as_ref()).times(pod::count(role) - 1);
    all
}

fn sub_group(
    serving: &ModelServing,
    role: &Role,
    least: u32,
    policy: Option<&NetworkTopologyPolicy>,
) -> Value {
    let mut entry = json!({
        "name": role.name,
        "labelSelector": { "matchLabels": {
            labels::MODEL_SERVING_NAME: serving.metadata.name,
            labels::ROLE: role.name,
        } },
        "matchLabelKeys": [labels::ROLE_ID],
        "subGroupSize": pod::count(role),
        "minSubGroups": least,
    });
    if let Some(policy) = policy {
        entry["networkTopology"] = json!(policy);
    }
    entry
}

/// The priority class that the entry pods name, if they agree: the group waits in the queue as its pods would.
fn priority_class(frame: &Frame<'_>) -> Option<String> {
    let class = |role: &Role| {
        let spec = role.entry_template.spec.as_ref()?.as_object();
        spec.get("priorityClassName")?.as_str().map(str::to_owned)
    };
    let mut classes = frame.roles.iter().map(|(role, _)| class(role));
    let first = classes.next()??;
    classes
        .all(|other| other.as_deref() == Some(first.as_str()))
        .then_some(first)
}

/// Whether a PodGroup is as it should be. What others have added to it does not matter, nor how an amount is written.
pub(super) fn is_current(wanted: &Value, found: &PodGroup) -> bool {
    essence(&wanted["spec"]) == essence(&found.spec)
}

/// What a merge patch takes away from a PodGroup so that it is as it should be; `None` if it is. Applying alone leaves what others own, such
/// as the controller that was here before.
#[cfg(any(test, feature = "runtime"))]
pub(super) fn surplus(wanted: &Value, found: &PodGroup) -> Option<Value> {
    (!is_current(wanted, found)).then(|| json!({ "spec": beyond(&wanted["spec"], &found.spec) }))
}

/// The members of an object that another lacks, each as null.
#[cfg(any(test, feature = "runtime"))]
fn beyond(wanted: &Value, found: &Value) -> Value {
    let mut all = Map::new();
    for (name, member) in found.as_object().into_iter().flatten() {
        match &wanted[name] {
            Value::Null => drop(all.insert(name.clone(), Value::Null)),
            other if other.is_object() => drop(all.insert(name.clone(), beyond(other, member))),
            _ => {}
        }
    }
    Value::Object(all)
}

fn essence(spec: &Value) -> Value {
    let amounts: Map<String, Value> = spec["minResources"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, amount)| (name.clone(), number(amount)))
        .collect();
    let sub_groups: Vec<Value> = spec["subGroupPolicy"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            json!([
                entry["name"],
                entry["labelSelector"]["matchLabels"],
                entry["matchLabelKeys"],
                entry["subGroupSize"],
                entry["minSubGroups"],
                topology(&entry["networkTopology"]),
            ])
        })
        .collect();
    let queue = spec["queue"]
        .as_str()
        .filter(|queue| !queue.is_empty())
        .unwrap_or("default");
    let class = spec["priorityClassName"].as_str().unwrap_or_default();
    json!([
        spec["minMember"],
        amounts,
        queue,
        class,
        topology(&spec["networkTopology"]),
        sub_groups
    ])
}

fn number(amount: &Value) -> Value {
    let quantity: Option<Quantity> = serde_json::from_value(amount.clone()).ok();
    let number = quantity.and_then(|quantity| quantity.to_f64().ok());
    number.map_or_else(|| amount.clone(), Value::from)
}

/// A requirement on the network, with the default mode.
fn topology(policy: &Value) -> Value {
    if !policy.is_object() {
        return Value::Null;
    }
    json!([
        policy["mode"].as_str().unwrap_or("hard"),
        policy["highestTierAllowed"],
        policy["highestTierName"].as_str().unwrap_or_default(),
    ])
}

#[cfg(test)]
mod tests;
