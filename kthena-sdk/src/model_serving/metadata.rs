//! Labels and owner references of what a ModelServing owns.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kthena_api::ModelServing;
use kthena_api::labels;
use kthena_api::name::{Serving, role_instance};
use kube::Resource;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// The reference by which an object belongs to its controller and is collected with it.
///
/// It blocks the owner's deletion in the foreground until the object is gone; see [`unblocking`].
///
/// ```
/// use kthena_sdk::api::ModelServing;
/// use kthena_sdk::model_serving::metadata::owner;
///
/// let mut serving = ModelServing::new("llama", Default::default());
/// serving.metadata.uid = Some("1".into());
/// assert_eq!(owner(&serving).controller, Some(true));
/// ```
pub fn owner<K>(owner: &K) -> OwnerReference
where
    K: Resource<DynamicType = ()>,
{
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The same, without a hold on the owner's deletion.
pub fn unblocking(reference: OwnerReference) -> OwnerReference {
    OwnerReference {
        block_owner_deletion: None,
        ..reference
    }
}

/// Labels of everything that belongs to a ModelServing.
pub fn of_serving(serving: &ModelServing) -> Labels {
    let name = serving.metadata.name.clone().unwrap_or_default();
    Labels::from([(labels::MODEL_SERVING_NAME.into(), name)])
}

/// Labels of everything that belongs to a ServingGroup.
pub fn of_group(serving: &ModelServing, group: u32) -> Labels {
    let mut all = of_serving(serving);
    let name = serving.metadata.name.as_deref().unwrap_or_default();
    all.insert(labels::GROUP_NAME.into(), Serving(name).group(group));
    all
}

/// Labels of everything that belongs to an instance of a role.
pub fn of_instance(serving: &ModelServing, group: u32, role: &str, instance: u32) -> Labels {
    let mut all = of_group(serving, group);
    all.insert(labels::ROLE.into(), role.into());
    all.insert(labels::ROLE_ID.into(), role_instance(role, instance));
    all
}

/// A label selector as `kubectl get -l` takes it, terms in the order of their text.
pub fn selector(labels: &Labels) -> String {
    let mut terms: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    terms.sort_unstable();
    terms.join(",")
}

/// The ordinal at the end of a name and what is before it: `("llama-0-decode", 3)` for `llama-0-decode-3`.
///
/// ```
/// use kthena_sdk::model_serving::metadata::ordinal;
///
/// assert_eq!(ordinal("vllm-sample-0"), Some(("vllm-sample", 0)));
/// assert_eq!(ordinal("vllm"), None);
/// assert_eq!(ordinal("a-99999999999"), None, "no ordinal is that large");
/// ```
pub fn ordinal(name: &str) -> Option<(&str, u32)> {
    let (parent, digits) = name.rsplit_once('-')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits
        .parse()
        .ok()
        .filter(|number| i32::try_from(*number).is_ok());
    is_number.then_some(())?;
    Some((parent, number?))
}
