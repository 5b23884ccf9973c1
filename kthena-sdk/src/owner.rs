//! Owner references: what belongs to an object and is collected with it.
//!
//! ```
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::k8s_openapi::api::core::v1::ConfigMap;
//! use kthena_sdk::owner;
//!
//! let mut serving = ModelServing::new("llama", Default::default());
//! serving.metadata.uid = Some("1".into());
//! let mut map = ConfigMap::default();
//! map.metadata.owner_references = Some(vec![owner::reference(&serving)]);
//! assert!(owner::controls(&serving, &map));
//! ```

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// The reference by which an object belongs to its controller and is collected with it.
///
/// It blocks the owner's deletion in the foreground until the object is gone; see [`unblocking`].
///
/// ```
/// use kthena_sdk::api::ModelServing;
/// use kthena_sdk::owner;
///
/// let mut serving = ModelServing::new("llama", Default::default());
/// serving.metadata.uid = Some("1".into());
/// assert_eq!(owner::reference(&serving).controller, Some(true));
/// ```
pub fn reference<K>(owner: &K) -> OwnerReference
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

/// The same, without a hold on the owner's deletion. The account that writes it then needs no right to the owner's finalizers.
///
/// ```
/// use kthena_sdk::api::ModelServing;
/// use kthena_sdk::owner;
///
/// let serving = ModelServing::new("llama", Default::default());
/// assert_eq!(owner::unblocking(owner::reference(&serving)).block_owner_deletion, None);
/// ```
pub fn unblocking(reference: OwnerReference) -> OwnerReference {
    OwnerReference {
        block_owner_deletion: None,
        ..reference
    }
}

/// The reference to an object's controller, where it has one.
///
/// ```
/// use kthena_sdk::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
///
/// assert_eq!(kthena_sdk::owner::controller(&ObjectMeta::default()), None);
/// ```
pub fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// Whether an object controls another one. An owner without a UID, which was never stored, controls nothing.
///
/// ```
/// use kthena_sdk::api::ModelServing;
/// use kthena_sdk::owner;
///
/// let [first, second] = ["1", "2"].map(|uid| {
///     let mut serving = ModelServing::new("llama", Default::default());
///     serving.metadata.uid = Some(uid.into());
///     serving
/// });
/// let mut owned = ModelServing::new("owned", Default::default());
/// owned.metadata.owner_references = Some(vec![owner::reference(&first)]);
/// assert!(owner::controls(&first, &owned));
/// assert!(!owner::controls(&second, &owned), "another one of the same name");
/// ```
pub fn controls<O, K>(owner: &O, object: &K) -> bool
where
    O: Resource,
    K: Resource,
{
    let uid = owner.meta().uid.as_deref();
    uid.is_some() && controller(object.meta()).map(|it| it.uid.as_str()) == uid
}
