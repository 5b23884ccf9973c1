//! The objects that the snapshot is made of, as they are now. Nothing is derived here but indexes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use kthena_api::{ExternalModelProvider, ModelRoute, ModelServer};

/// `namespace` and `name`.
pub type Key = (String, String);

/// `namespace/name`.
#[must_use]
pub fn qualified((namespace, name): &Key) -> String {
    format!("{namespace}/{name}")
}

/// What the proxy keeps of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace and name.
    pub key: Key,
    /// Its UID.
    pub uid: Arc<str>,
    /// Its address, once it has one.
    pub ip: Option<IpAddr>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations that concern the proxy.
    pub annotations: BTreeMap<String, String>,
    /// Whether it serves: it runs, says so, and is not about to go.
    pub ready: bool,
    /// The node it runs on.
    pub node: Option<String>,
    /// Its phase.
    pub phase: Option<String>,
    /// When it started, RFC 3339.
    pub started: Option<String>,
}

/// A Secret's data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secret {
    /// Its namespace and name.
    pub key: Key,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its values.
    pub data: BTreeMap<String, Vec<u8>>,
}

/// Pods, found by their labels.
#[derive(Debug, Default)]
pub struct Pods {
    all: BTreeMap<Key, Arc<Pod>>,
    /// Pods of a namespace by one label.
    by_label: HashMap<(String, String, String), BTreeSet<String>>,
}

impl Pods {
    /// Adds or replaces a pod. Whether that changes anything.
    pub fn apply(&mut self, pod: Pod) -> bool {
        if self.all.get(&pod.key).is_some_and(|old| **old == pod) {
            return false;
        }
        self.delete(&pod.key);
        for (name, value) in &pod.labels {
            let label = (pod.key.0.clone(), name.clone(), value.clone());
            self.by_label.entry(label).or_default().insert(pod.key.1.clone());
        }
        self.all.insert(pod.key.clone(), Arc::new(pod));
        true
    }

    /// Removes a pod. Whether there was one.
    pub fn delete(&mut self, key: &Key) -> bool {
        let Some(pod) = self.all.remove(key) else {
            return false;
        };
        for (name, value) in &pod.labels {
            let label = (key.0.clone(), name.clone(), value.clone());
            if let Some(pods) = self.by_label.get_mut(&label) {
                pods.remove(&key.1);
                if pods.is_empty() {
                    self.by_label.remove(&label);
                }
            }
        }
        true
    }

    /// All pods, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.all.values()
    }

    /// One pod.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Pod>> {
        self.all.get(key)
    }

    /// Pods of a namespace that have all of these labels. No labels select nothing.
    ///
    /// The pods with the rarest of the labels are looked at, not all.
    pub fn select<'a>(
        &'a self,
        namespace: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Arc<Pod>> {
        let of = |(name, value): (&String, &String)| {
            self.by_label
                .get(&(namespace.to_owned(), name.clone(), value.clone()))
        };
        let rarest = labels
            .iter()
            .map(of)
            .min_by_key(|pods| pods.map_or(0, BTreeSet::len))
            .flatten();
        rarest
            .into_iter()
            .flatten()
            .filter_map(move |name| self.all.get(&(namespace.to_owned(), name.clone())))
            .filter(move |pod| {
                labels
                    .iter()
                    .all(|(name, value)| pod.labels.get(name) == Some(value))
            })
    }
}

/// Everything the proxy reads.
#[derive(Debug, Default)]
pub struct Objects {
    /// ModelRoutes.
    pub routes: BTreeMap<Key, Arc<ModelRoute>>,
    /// ModelServers.
    pub servers: BTreeMap<Key, Arc<ModelServer>>,
    /// ExternalModelProviders.
    pub providers: BTreeMap<Key, Arc<ExternalModelProvider>>,
    /// Secrets that opted in.
    pub secrets: BTreeMap<Key, Arc<Secret>>,
    /// Pods.
    pub pods: Pods,
}

/// A change of one kind of object.
#[derive(Debug)]
pub enum Event<T> {
    /// These are all there are.
    Reset(Vec<T>),
    /// Added or changed.
    Apply(T),
    /// Gone.
    Delete(Key),
}

/// A change.
#[derive(Debug)]
pub enum Update {
    /// Of a ModelRoute.
    Route(Event<ModelRoute>),
    /// Of a ModelServer.
    Server(Event<ModelServer>),
    /// Of an ExternalModelProvider.
    Provider(Event<ExternalModelProvider>),
    /// Of a Secret.
    Secret(Event<Secret>),
    /// Of a pod.
    Pod(Event<Pod>),
    /// No change: what came before is the first complete state.
    Synced,
}

/// What a change comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing is different.
    Nothing,
    /// Only what requests do not depend on: a status, a label of a route.
    Noted,
    /// The snapshot has to be made anew.
    Changed,
}

impl Objects {
    /// Applies a change.
    pub fn update(&mut self, update: Update) -> Effect {
        match update {
            Update::Route(event) => apply(
                &mut self.routes,
                event,
                same_custom(|route: &ModelRoute| (&route.metadata, &route.spec)),
            ),
            Update::Server(event) => apply(
                &mut self.servers,
                event,
                same_custom(|server: &ModelServer| (&server.metadata, &server.spec)),
            ),
            Update::Provider(event) => apply(
                &mut self.providers,
                event,
                same_custom(|provider: &ExternalModelProvider| (&provider.metadata, &provider.spec)),
            ),
            Update::Secret(event) => apply(&mut self.secrets, event, |old, new| old == new),
            // What was seen so far is to be published.
            Update::Synced => Effect::Changed,
            Update::Pod(Event::Apply(pod)) => changed_if(self.pods.apply(pod)),
            Update::Pod(Event::Delete(key)) => changed_if(self.pods.delete(&key)),
            Update::Pod(Event::Reset(all)) => {
                self.pods = Pods::default();
                for pod in all {
                    self.pods.apply(pod);
                }
                Effect::Changed
            }
        }
    }
}

fn changed_if(changed: bool) -> Effect {
    if changed { Effect::Changed } else { Effect::Nothing }
}

/// Whether two versions of an object serve the same: a status or managed fields make no difference.
fn same_custom<K, S: PartialEq>(parts: fn(&K) -> (&kube::core::ObjectMeta, &S)) -> impl Fn(&K, &K) -> bool {
    move |old, new| {
        let ((old_meta, old_spec), (new_meta, new_spec)) = (parts(old), parts(new));
        old_spec == new_spec
            && old_meta.annotations == new_meta.annotations
            && old_meta.creation_timestamp == new_meta.creation_timestamp
            && old_meta.uid == new_meta.uid
    }
}

/// An object with a namespace and a name.
trait Keyed {
    fn key(&self) -> Key;
}

impl<K: kube::Resource> Keyed for K {
    fn key(&self) -> Key {
        key_of(self.meta())
    }
}

impl Keyed for Secret {
    fn key(&self) -> Key {
        self.key.clone()
    }
}

fn apply<T: Keyed>(
    map: &mut BTreeMap<Key, Arc<T>>,
    event: Event<T>,
    same: impl Fn(&T, &T) -> bool,
) -> Effect {
    match event {
        Event::Reset(all) => {
            *map = all
                .into_iter()
                .map(|object| (object.key(), Arc::new(object)))
                .collect();
            Effect::Changed
        }
        Event::Apply(object) => {
            let is_same = map.get(&object.key()).is_some_and(|old| same(old, &object));
            map.insert(object.key(), Arc::new(object));
            if is_same { Effect::Noted } else { Effect::Changed }
        }
        Event::Delete(key) => changed_if(map.remove(&key).is_some()),
    }
}

/// Namespace and name of an object.
#[must_use]
pub fn key_of(meta: &kube::core::ObjectMeta) -> Key {
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, labels: &[(&str, &str)]) -> Pod {
        Pod {
            key: ("ns".into(), name.into()),
            uid: name.into(),
            ip: None,
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            annotations: BTreeMap::new(),
            ready: true,
            node: None,
            phase: None,
            started: None,
        }
    }

    fn selected(pods: &Pods, labels: &[(&str, &str)]) -> Vec<String> {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        pods.select("ns", &labels).map(|pod| pod.key.1.clone()).collect()
    }

    #[test]
    fn pods_are_found_by_all_of_their_labels() {
        let mut pods = Pods::default();
        pods.apply(pod("a", &[("app", "x"), ("role", "prefill")]));
        pods.apply(pod("b", &[("app", "x"), ("role", "decode")]));
        pods.apply(pod("c", &[("app", "y")]));
        assert_eq!(selected(&pods, &[("app", "x")]), ["a", "b"]);
        assert_eq!(selected(&pods, &[("app", "x"), ("role", "decode")]), ["b"]);
        assert!(selected(&pods, &[]).is_empty());
        assert!(selected(&pods, &[("app", "x"), ("nope", "1")]).is_empty());
    }

    #[test]
    fn a_relabelled_pod_leaves_its_old_labels() {
        let mut pods = Pods::default();
        pods.apply(pod("a", &[("app", "x")]));
        pods.apply(pod("a", &[("app", "y")]));
        assert!(selected(&pods, &[("app", "x")]).is_empty());
        assert_eq!(selected(&pods, &[("app", "y")]), ["a"]);
        pods.delete(&("ns".into(), "a".into()));
        assert!(selected(&pods, &[("app", "y")]).is_empty() && pods.by_label.is_empty());
    }
}
