//! Everything that ModelServings have, as the watches tell it.
//!
//! ```
//! use kthena_sdk::k8s_openapi::api::core::v1::Pod;
//! use kthena_sdk::model_serving::index::{Index, Indexed};
//! use kthena_sdk::watch::Change;
//!
//! /// Tells the index what a watch of some kind says.
//! fn tell<K: Indexed>(index: &Index, change: Change<K>) {
//!     for (namespace, name) in index.update(change) {
//!         println!("{namespace}/{name} has to be looked at");
//!     }
//! }
//!
//! let index = Index::default();
//! let pod: Pod = serde_json::from_value(serde_json::json!({ "metadata": {
//!     "name": "llama-0-decode-0-0", "namespace": "default", "uid": "1",
//!     "labels": {
//!         "modelserving.volcano.sh/name": "llama", "modelserving.volcano.sh/group-name": "llama-0",
//!         "modelserving.volcano.sh/role": "decode", "modelserving.volcano.sh/role-id": "decode-0",
//!     },
//! } }))?;
//! tell(&index, Change::Reset(vec![pod.clone()]));
//! let key = ("default".to_owned(), "llama".to_owned());
//! assert_eq!(index.observe(&key).pods.len(), 1);
//!
//! // What was just done is put there too, before a watch tells of it.
//! index.told_to_go(&key, ["1"]);
//! index.removed::<Pod>(&key, "llama-0-decode-0-0", None);
//! assert!(index.observe(&key).pods.is_empty());
//! index.made(&pod);
//! assert_eq!(index.observe(&key).pods.len(), 1);
//! assert!(index.set_gang(None).is_empty(), "that is no news");
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::collections::{HashMap, HashSet, VecDeque};

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Pod as KubePod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kthena_api::labels;
use parking_lot::Mutex;

use super::disruption::Budget;
use super::gang::{PodGroup, PodGroupObject, Support};
use super::revision::Revision;
use super::{Child, Observed, Pod, PodState};
use crate::watch::Change;

/// Namespace and name of a ModelServing.
pub type Key = (String, String);

/// UIDs of objects that are gone which are remembered, so that a late answer to their creation does not bring them back.
const GONE: usize = 4096;

/// What there is, by ModelServing. Watches write it, and so does whoever makes or removes something, so that a plan knows what was
/// done a moment ago.
#[derive(Debug, Default)]
pub struct Index {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: HashMap<Key, Children>,
    gang: Option<Support>,
    gone: Gone,
}

/// UIDs of objects that are gone, or were told to go: the latest of them.
#[derive(Debug, Default)]
struct Gone {
    all: HashSet<String>,
    order: VecDeque<String>,
}

/// What a ModelServing has, by name.
#[derive(Debug, Default)]
struct Children {
    pods: HashMap<String, Kept<Pod>>,
    services: HashMap<String, Kept<Child>>,
    pod_groups: HashMap<String, Kept<PodGroup>>,
    revisions: HashMap<String, Kept<Revision>>,
    budgets: HashMap<String, Kept<Budget>>,
    /// UIDs of pods that the API server was told to remove.
    going: HashSet<String>,
}

/// An object as of one version of it.
#[derive(Debug)]
struct Kept<V> {
    version: Option<u64>,
    view: V,
}

/// Something of a ModelServing, in the form in which it is kept.
#[derive(Debug, Clone, PartialEq)]
enum View {
    Pod(Pod),
    Service(Child),
    PodGroup(PodGroup),
    Revision(Revision),
    Budget(Budget),
}

/// An object that may belong to a ModelServing.
#[expect(
    private_interfaces,
    reason = "what is kept of an object is the index's own business"
)]
pub trait Indexed: kube::Resource<DynamicType = ()> {
    /// What is kept of it; `None` if it makes no sense.
    fn view(&self) -> Option<View>;
    /// The version of the one that is kept by this name.
    fn kept_version(children: &Children, name: &str) -> Option<u64>;
    /// Forgets one of this name.
    fn remove(children: &mut Children, name: &str);
    /// Forgets all.
    fn clear(children: &mut Children);
}

macro_rules! indexed {
    ($object:ty, $view:ident, $place:ident, $of:expr) => {
        #[expect(
            private_interfaces,
            reason = "what is kept of an object is the index's own business"
        )]
        impl Indexed for $object {
            fn view(&self) -> Option<View> {
                let of: fn(&Self) -> Option<_> = $of;
                of(self).map(View::$view)
            }

            fn kept_version(children: &Children, name: &str) -> Option<u64> {
                children.$place.get(name)?.version
            }

            fn remove(children: &mut Children, name: &str) {
                children.$place.remove(name);
            }

            fn clear(children: &mut Children) {
                children.$place.clear();
            }
        }
    };
}

indexed!(KubePod, Pod, pods, Pod::of);
indexed!(super::lean::LeanPod, Pod, pods, |pod| Pod::of(&pod.0));
indexed!(Service, Service, services, |service| Some(Child::of(
    &service.metadata
)));
indexed!(PodGroupObject, PodGroup, pod_groups, |object| Some(PodGroup::of(
    object
)));
indexed!(PodDisruptionBudget, Budget, budgets, |object| Some(Budget::of(
    object
)));
indexed!(ControllerRevision, Revision, revisions, |object| {
    let revision = Revision::of(object);
    if let Err(error) = &revision {
        tracing::warn!(name = ?object.metadata.name, %error, "the ControllerRevision is not used");
    }
    revision.ok()
});

impl Index {
    /// What there is of a ModelServing.
    pub fn observe(&self, key: &Key) -> Observed {
        let state = self.state.lock();
        let Some(children) = state.all.get(key) else {
            return Observed {
                gang: state.gang,
                ..Observed::default()
            };
        };
        let mut pods: Vec<Pod> = views(&children.pods);
        for pod in &mut pods {
            if children.going.contains(&pod.uid) {
                pod.state = PodState::Terminating;
            }
        }
        Observed {
            pods,
            services: views(&children.services),
            pod_groups: views(&children.pod_groups),
            revisions: views(&children.revisions),
            budgets: views(&children.budgets),
            gang: state.gang,
        }
    }

    /// Takes what a watch says. Returns the ModelServings that it concerns.
    pub fn update<K: Indexed>(&self, change: Change<K>) -> Vec<Key> {
        let mut state = self.state.lock();
        match change {
            Change::Reset(all) => {
                let mut keys: HashSet<Key> = HashSet::new();
                for (key, children) in &mut state.all {
                    K::clear(children);
                    keys.insert(key.clone());
                }
                keys.extend(all.iter().filter_map(|object| state.put(object)));
                state.all.retain(|_, children| !children.is_empty());
                keys.into_iter().collect()
            }
            Change::Apply(object) => state.put(&object).into_iter().collect(),
            Change::Delete(object) => {
                let metadata = object.meta();
                state.gone.insert(metadata.uid.clone().unwrap_or_default());
                if state.is_old::<K>(metadata) {
                    // One of the same name has been made meanwhile.
                    return Vec::new();
                }
                state.remove::<K>(metadata).into_iter().collect()
            }
            Change::Undecodable { .. } | Change::Interrupted(_) => Vec::new(),
        }
    }

    /// Takes an object that was made or changed just now. The watch may have told of it, and of what has become of it since, before the answer
    /// is read.
    pub fn made<K: Indexed>(&self, object: &K) {
        self.state.lock().put(object);
    }

    /// Takes note that pods were told to go.
    pub fn told_to_go<'u>(&self, key: &Key, uids: impl IntoIterator<Item = &'u str>) {
        if let Some(children) = self.state.lock().all.get_mut(key) {
            children.going.extend(uids.into_iter().map(str::to_owned));
        }
    }

    /// Takes note that an object which is not watched to its end is gone, or as good as.
    pub fn removed<K: Indexed>(&self, key: &Key, name: &str, uid: Option<&str>) {
        let mut state = self.state.lock();
        if let Some(uid) = uid {
            state.gone.insert(uid.to_owned());
        }
        if let Some(children) = state.all.get_mut(key) {
            K::remove(children, name);
        }
    }

    /// What PodGroups can do from now on. Returns all ModelServings, if that is news.
    pub fn set_gang(&self, gang: Option<Support>) -> Vec<Key> {
        let mut state = self.state.lock();
        if state.gang == gang {
            return Vec::new();
        }
        state.gang = gang;
        state.all.keys().cloned().collect()
    }
}

impl State {
    fn put<K: Indexed>(&mut self, object: &K) -> Option<Key> {
        let metadata = object.meta();
        let key = key(metadata)?;
        let name = metadata.name.clone()?;
        if self.is_old::<K>(metadata) || self.is_gone(metadata) {
            return None;
        }
        let Some(view) = object.view() else {
            return self.remove::<K>(metadata);
        };
        let children = self.all.entry(key.clone()).or_default();
        let version = version(metadata);
        match view {
            View::Pod(view) => drop(children.pods.insert(name, Kept { version, view })),
            View::Service(view) => drop(children.services.insert(name, Kept { version, view })),
            View::PodGroup(view) => drop(children.pod_groups.insert(name, Kept { version, view })),
            View::Budget(view) => drop(children.budgets.insert(name, Kept { version, view })),
            View::Revision(view) => drop(children.revisions.insert(name, Kept { version, view })),
        }
        Some(key)
    }

    /// Whether a later version is kept already.
    fn is_old<K: Indexed>(&self, metadata: &ObjectMeta) -> bool {
        let children = key(metadata).and_then(|key| self.all.get(&key));
        let kept = children.zip(metadata.name.as_deref());
        let kept = kept.and_then(|(children, name)| K::kept_version(children, name));
        kept.zip(version(metadata))
            .is_some_and(|(kept, version)| version < kept)
    }

    /// Whether it is gone, or was told to go, and this version of it does not know that yet.
    fn is_gone(&self, metadata: &ObjectMeta) -> bool {
        let uid = metadata.uid.as_deref().unwrap_or_default();
        metadata.deletion_timestamp.is_none() && self.gone.all.contains(uid)
    }

    fn remove<K: Indexed>(&mut self, metadata: &ObjectMeta) -> Option<Key> {
        let key = key(metadata)?;
        let children = self.all.get_mut(&key)?;
        K::remove(children, metadata.name.as_deref()?);
        children.going.remove(metadata.uid.as_deref().unwrap_or_default());
        if children.is_empty() {
            self.all.remove(&key);
        }
        Some(key)
    }
}

impl Gone {
    fn insert(&mut self, uid: String) {
        if !self.all.insert(uid.clone()) {
            return;
        }
        self.order.push_back(uid);
        if self.order.len() > GONE {
            let oldest = self.order.pop_front();
            oldest.map(|uid| self.all.remove(&uid));
        }
    }
}

impl Children {
    fn is_empty(&self) -> bool {
        self.pods.is_empty()
            && self.services.is_empty()
            && self.pod_groups.is_empty()
            && self.revisions.is_empty()
            && self.budgets.is_empty()
    }
}

fn views<V: Clone>(all: &HashMap<String, Kept<V>>) -> Vec<V> {
    all.values().map(|kept| kept.view.clone()).collect()
}

/// Versions of one kind are comparable numbers.
fn version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_deref()?.parse().ok()
}

/// The ModelServing that an object belongs to by its label.
fn key(metadata: &ObjectMeta) -> Option<Key> {
    let name = metadata.labels.as_ref()?.get(labels::MODEL_SERVING_NAME)?;
    Some((metadata.namespace.clone()?, name.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, uid: &str) -> KubePod {
        serde_json::from_value(
            json!({ "metadata": { "name": name, "namespace": "ns", "uid": uid, "labels": {
            "modelserving.volcano.sh/name": "s", "modelserving.volcano.sh/group-name": "s-0",
            "modelserving.volcano.sh/role": "decode", "modelserving.volcano.sh/role-id": "decode-0",
        } } }),
        )
        .unwrap()
    }

    fn service(name: &str) -> Service {
        let labels = json!({ "modelserving.volcano.sh/name": "s" });
        serde_json::from_value(
            json!({ "metadata": { "name": name, "namespace": "ns", "uid": name, "labels": labels } }),
        )
        .unwrap()
    }

    fn key() -> Key {
        ("ns".into(), "s".into())
    }

    fn uids(index: &Index) -> Vec<String> {
        let mut uids: Vec<String> = index
            .observe(&key())
            .pods
            .into_iter()
            .map(|pod| pod.uid)
            .collect();
        uids.sort_unstable();
        uids
    }

    #[test]
    fn what_was_made_is_there_before_the_watch_says_so_and_not_after_it_is_gone() {
        let index = Index::default();
        let pod = pod("s-0-decode-0-0", "1");
        index.made(&pod);
        assert_eq!(uids(&index), ["1"]);
        assert_eq!(index.update(Change::Apply(pod.clone())), [key()]);
        assert_eq!(index.update(Change::Delete(pod.clone())), [key()]);
        index.made(&pod);
        assert_eq!(uids(&index), [""; 0]);
    }

    #[test]
    fn an_answer_that_is_read_late_does_not_hide_what_has_happened_since() {
        let index = Index::default();
        let at = |version: &str, phase: &str| {
            let mut pod = pod("s-0-decode-0-0", "1");
            pod.metadata.resource_version = Some(version.to_owned());
            pod.status = serde_json::from_value(json!({ "phase": phase, "conditions": [
                { "type": "Ready", "status": if phase == "Running" { "True" } else { "False" } } ] }))
            .unwrap();
            pod
        };
        let state = || index.observe(&key()).pods[0].state;
        index.update(Change::Apply(at("9", "Pending")));
        index.update(Change::Apply(at("10", "Running")));
        index.made(&at("9", "Pending"));
        assert_eq!(state(), PodState::Ready);
        assert_eq!(index.update(Change::Apply(at("11", "Pending"))), [key()]);
        assert_eq!(state(), PodState::Unready);
        // Versions count for one name: another one has its own.
        let mut other = pod("s-0-decode-0-1", "2");
        other.metadata.resource_version = Some("8".into());
        index.made(&other);
        assert_eq!(uids(&index), ["1", "2"]);
    }

    #[test]
    fn what_was_removed_is_not_brought_back_by_an_older_event() {
        let index = Index::default();
        let at = |uid: &str, version: &str| {
            let mut service = service("a");
            service.metadata.uid = Some(uid.to_owned());
            service.metadata.resource_version = Some(version.to_owned());
            service
        };
        index.made(&at("1", "9"));
        index.removed::<Service>(&key(), "a", Some("1"));
        assert_eq!(index.update(Change::Apply(at("1", "9"))), []);
        assert_eq!(index.observe(&key()).services.len(), 0);
        // Another of its name has been made when the watch tells of its end.
        index.made(&at("2", "11"));
        assert_eq!(index.update(Change::Delete(at("1", "10"))), []);
        assert_eq!(index.observe(&key()).services[0].uid, "2");
        // It takes its time to go.
        let mut going = at("2", "12");
        going.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        index.removed::<Service>(&key(), "a", Some("2"));
        assert_eq!(index.update(Change::Apply(going)), [key()]);
        assert!(index.observe(&key()).services[0].is_terminating);
    }

    #[test]
    fn what_was_told_to_go_is_going_whatever_an_older_event_says() {
        let index = Index::default();
        let pod = pod("s-0-decode-0-0", "1");
        index.made(&pod);
        index.told_to_go(&key(), ["1"]);
        index.update(Change::Apply(pod));
        assert_eq!(index.observe(&key()).pods[0].state, PodState::Terminating);
        index.update(Change::Apply(self::pod("s-0-decode-0-0", "2")));
        assert_eq!(index.observe(&key()).pods[0].state, PodState::Unready);
    }

    #[test]
    fn a_list_replaces_all_of_its_kind_and_nothing_else() {
        let index = Index::default();
        index.update(Change::Reset(vec![
            pod("s-0-decode-0-0", "1"),
            pod("s-0-decode-0-1", "2"),
        ]));
        index.update(Change::Reset(vec![service("a")]));
        assert_eq!(
            index.update(Change::Reset(vec![pod("s-0-decode-0-1", "3")])),
            [key()]
        );
        let observed = index.observe(&key());
        assert_eq!((uids(&index), observed.services.len()), (vec!["3".to_owned()], 1));
        index.update(Change::<KubePod>::Reset(Vec::new()));
        assert_eq!(index.update(Change::<Service>::Reset(Vec::new())), [key()]);
        assert!(index.state.lock().all.is_empty());
    }

    #[test]
    fn what_pod_groups_can_do_concerns_everybody_once() {
        let index = Index::default();
        index.made(&service("a"));
        let support = Some(Support { has_sub_groups: true });
        assert_eq!(index.set_gang(support), [key()]);
        assert_eq!(index.set_gang(support), []);
        assert_eq!(index.observe(&key()).gang, support);
        assert_eq!(index.observe(&("ns".into(), "other".into())).gang, support);
    }
}
