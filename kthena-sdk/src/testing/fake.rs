//! The API server as tests see it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::request::Request;
use super::server::Shared;
use super::store::Place;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this HTTP status, and nothing is done.
    Refused(u16),
    /// It never arrives: the connection breaks before anything is done.
    Unreachable,
    /// It is done, and the connection breaks before the answer arrives. So it looks to a process that is killed after a write.
    Unanswered,
}

/// How long [`FakeApi::until`] waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// An API server in memory. Handles are cheap to clone and share what is stored.
///
/// See the [module](super) for what it plays and what it does not.
#[derive(Clone)]
pub struct FakeApi {
    pub(super) shared: Arc<Shared>,
}

impl FakeApi {
    /// One that stores nothing yet, and serves every kind.
    ///
    /// ```
    /// use kthena_sdk::k8s_openapi::api::core::v1::Pod;
    /// use kthena_sdk::testing::FakeApi;
    ///
    /// assert!(FakeApi::new().list::<Pod>().is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared::new()),
        }
    }

    /// A client of it, whose own namespace is `default`. To be called inside of a tokio runtime.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use kthena_sdk::k8s_openapi::api::core::v1::ConfigMap;
    /// use kthena_sdk::kube::{Api, api::PostParams};
    /// use kthena_sdk::testing::FakeApi;
    ///
    /// let api = FakeApi::new();
    /// let maps = Api::<ConfigMap>::default_namespaced(api.client());
    /// let mut map = ConfigMap::default();
    /// map.metadata.name = Some("settings".into());
    /// let made = maps.create(&PostParams::default(), &map).await?;
    /// assert_eq!(made.metadata.resource_version.as_deref(), Some("1"));
    ///
    /// let again = maps.create(&PostParams::default(), &map).await.unwrap_err();
    /// assert!(again.to_string().contains("already exists"));
    /// # Ok::<(), kthena_sdk::kube::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn client(&self) -> Client {
        let shared = self.shared.clone();
        let service = tower::service_fn(move |request| shared.clone().answer(request));
        Client::new(service, "default")
    }

    /// Puts an object there as somebody else would have made it, with its status. One that is there already is replaced.
    ///
    /// ```
    /// use kthena_sdk::testing::{FakeApi, serving};
    ///
    /// let made = FakeApi::new().add(&serving("llama").build());
    /// assert!(made.metadata.uid.is_some());
    /// ```
    ///
    /// # Panics
    ///
    /// If the object has no name, or is not JSON.
    pub fn add<K>(&self, object: &K) -> K
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let metadata = object.meta();
        let name = metadata.name.as_deref().expect("an object with a name");
        let place = place::<K>(metadata.namespace.as_deref().unwrap_or_default(), name);
        let mut value = json(object);
        let stored = self.shared.change(|state| {
            let store = &mut state.store;
            match store.get(&place).cloned() {
                Some(old) => {
                    for key in ["uid", "creationTimestamp", "generation"] {
                        value["metadata"][key] = old["metadata"][key].clone();
                    }
                }
                None => value = store.begin(&place, value.take()).expect("an object with a kind"),
            }
            store.put(&place, value)
        });
        read(&stored)
    }

    /// The object of a name, where there is one. Kinds without namespaces take an empty one.
    ///
    /// ```
    /// use kthena_sdk::api::ModelServing;
    /// use kthena_sdk::testing::{FakeApi, serving};
    ///
    /// let api = FakeApi::new();
    /// api.add(&serving("llama").build());
    /// assert!(api.get::<ModelServing>("default", "llama").is_some());
    /// assert!(api.get::<ModelServing>("default", "qwen").is_none());
    /// ```
    ///
    /// # Panics
    ///
    /// If what is stored is not of the kind.
    #[must_use]
    pub fn get<K>(&self, namespace: &str, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let place = place::<K>(namespace, name);
        let found = self.shared.state.lock().store.get(&place).cloned();
        found.map(|object| read(&object))
    }

    /// All objects of a kind, by namespace and name.
    ///
    /// ```
    /// use kthena_sdk::api::ModelServing;
    /// use kthena_sdk::testing::{FakeApi, serving};
    ///
    /// let api = FakeApi::new();
    /// for name in ["qwen", "llama"] {
    ///     api.add(&serving(name).build());
    /// }
    /// let all: Vec<_> = api.list::<ModelServing>().into_iter().map(|it| it.metadata.name.unwrap()).collect();
    /// assert_eq!(all, ["llama", "qwen"]);
    /// ```
    ///
    /// # Panics
    ///
    /// If what is stored is not of the kind.
    #[must_use]
    pub fn list<K>(&self) -> Vec<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let kind = place::<K>("", "");
        let state = self.shared.state.lock();
        let all = state.store.all();
        let all = all.filter(|(place, _)| place.group == kind.group && place.resource == kind.resource);
        all.map(|(_, object)| read(object)).collect()
    }

    /// Changes an object as somebody else would, its status as well. Returns how it is then. What the type does not know is lost.
    ///
    /// ```
    /// use kthena_sdk::api::ModelServing;
    /// use kthena_sdk::testing::{FakeApi, serving};
    ///
    /// let api = FakeApi::new();
    /// api.add(&serving("llama").build());
    /// let edited = api.edit("default", "llama", |serving: &mut ModelServing| serving.spec.replicas = Some(3));
    /// assert_eq!(edited.metadata.generation, Some(2));
    /// ```
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    pub fn edit<K>(&self, namespace: &str, name: &str, edit: impl FnOnce(&mut K)) -> K
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let place = place::<K>(namespace, name);
        let stored = self.shared.change(|state| {
            let old = state.store.get(&place).cloned();
            let old = old.unwrap_or_else(|| panic!("there are no {} {namespace}/{name}", place.resource));
            let mut object: K = read(&old);
            let before = json(&object);
            edit(&mut object);
            let mut new = json(&object);
            if new["spec"] != before["spec"] {
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
                new["metadata"]["generation"] = (generation + 1).into();
            }
            state.store.put(&place, new)
        });
        read(&stored)
    }

    /// Removes an object, whatever holds it. Returns how it last was.
    ///
    /// ```
    /// use kthena_sdk::api::ModelServing;
    /// use kthena_sdk::testing::{FakeApi, serving};
    ///
    /// let api = FakeApi::new();
    /// api.add(&serving("llama").build());
    /// assert!(api.remove::<ModelServing>("default", "llama").is_some());
    /// assert!(api.list::<ModelServing>().is_empty());
    /// ```
    ///
    /// # Panics
    ///
    /// If what was stored is not of the kind.
    pub fn remove<K>(&self, namespace: &str, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let place = place::<K>(namespace, name);
        let last = self.shared.change(|state| state.store.remove(&place));
        last.map(|object| read(&object))
    }

    /// Waits until something is there, looking whenever anything has changed.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use kthena_sdk::api::ModelServing;
    /// use kthena_sdk::testing::{FakeApi, serving};
    ///
    /// let api = FakeApi::new();
    /// let other = api.clone();
    /// tokio::spawn(async move { other.add(&serving("llama").build()) });
    /// let serving = api.until("a ModelServing", |api| api.get::<ModelServing>("default", "llama")).await;
    /// assert_eq!(serving.metadata.generation, Some(1));
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// With the requests that were made, if it is not there after 30 seconds.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let mut news = self.shared.news.subscribe();
        let wait = async {
            loop {
                news.borrow_and_update();
                if let Some(found) = look(self) {
                    return found;
                }
                // The sender is this API server's own.
                let _alive = news.changed().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_elapsed) => {
                let requests: Vec<String> = self.requests().iter().map(ToString::to_string).collect();
                panic!(
                    "there is no {what} after {PATIENCE:?}; requests:\n{}",
                    requests.join("\n")
                )
            }
        }
    }

    /// The requests that were made so far, in the order of their arrival.
    ///
    /// ```
    /// use kthena_sdk::testing::FakeApi;
    ///
    /// let api = FakeApi::new();
    /// let writes = api.requests().into_iter().filter(|request| request.verb.is_write()).count();
    /// assert_eq!(writes, 0);
    /// ```
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state.lock().requests.clone()
    }

    /// From now on, asks about each request what is to go wrong with it. The last one to be given decides alone.
    ///
    /// It is called while the server is at work, so it must not use this API server itself.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use kthena_sdk::k8s_openapi::api::core::v1::Pod;
    /// use kthena_sdk::kube::Api;
    /// use kthena_sdk::testing::{FakeApi, Fault};
    ///
    /// let api = FakeApi::new();
    /// api.on_request(|request| (request.resource == "pods").then_some(Fault::Refused(403)));
    /// let error = Api::<Pod>::all(api.client()).list(&Default::default()).await.unwrap_err();
    /// assert!(error.to_string().contains("refused"));
    /// # });
    /// ```
    pub fn on_request(&self, decide: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        self.shared.state.lock().decide = Some(Box::new(decide));
    }

    /// Lets the write of this number fail, counted from 0 and from now on, and none after it.
    ///
    /// With each number in turn this shows that an operator goes on from wherever it was interrupted.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use kthena_sdk::kube::Api;
    /// use kthena_sdk::api::ModelServing;
    /// use kthena_sdk::testing::{FakeApi, Fault, serving};
    ///
    /// let api = FakeApi::new();
    /// api.fail_write(0, Fault::Unanswered);
    /// let servings = Api::<ModelServing>::default_namespaced(api.client());
    /// let made = servings.create(&Default::default(), &serving("llama").build()).await;
    /// assert!(made.is_err(), "nobody was told");
    /// assert_eq!(api.list::<ModelServing>().len(), 1, "but it is there");
    /// # });
    /// ```
    pub fn fail_write(&self, number: usize, fault: Fault) {
        let mut count = 0;
        self.on_request(move |request| {
            let is_it = request.verb.is_write() && count == number;
            count += usize::from(request.verb.is_write());
            is_it.then_some(fault)
        });
    }

    /// Lets nothing go wrong any more.
    ///
    /// ```
    /// use kthena_sdk::testing::{FakeApi, Fault};
    ///
    /// let api = FakeApi::new();
    /// api.on_request(|_| Some(Fault::Unreachable));
    /// api.recover();
    /// ```
    pub fn recover(&self) {
        self.shared.state.lock().decide = None;
    }

    /// Ends all watches, as an API server does that restarts. Those who follow have to ask anew.
    ///
    /// ```
    /// kthena_sdk::testing::FakeApi::new().cut_watches();
    /// ```
    pub fn cut_watches(&self) {
        self.shared.change(|state| state.turn += 1);
    }

    /// Forgets how things came to be: watches that ask for more than what is to come are told that they are too late.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use kthena_sdk::api::ModelServing;
    /// use futures::StreamExt;
    /// use kthena_sdk::kube::{Api, api::{WatchEvent, WatchParams}};
    /// use kthena_sdk::testing::{FakeApi, serving};
    ///
    /// let api = FakeApi::new();
    /// api.add(&serving("llama").build());
    /// api.add(&serving("qwen").build());
    /// api.compact();
    /// let servings = Api::<ModelServing>::all(api.client());
    /// let mut events = std::pin::pin!(servings.watch(&WatchParams::default(), "1").await?);
    /// let late = events.next().await;
    /// assert!(matches!(late, Some(Ok(WatchEvent::Error(status))) if status.code == 410));
    /// # Ok::<(), kthena_sdk::kube::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn compact(&self) {
        self.shared.change(|state| state.store.compact());
    }

    /// Does the garbage collector's part: removes what has lost all its owners. Returns how many objects were told to go.
    ///
    /// ```
    /// use kthena_sdk::k8s_openapi::api::core::v1::ConfigMap;
    /// use kthena_sdk::owner;
    /// use kthena_sdk::testing::{FakeApi, serving};
    ///
    /// let api = FakeApi::new();
    /// let mut map = ConfigMap::default();
    /// map.metadata.name = Some("settings".into());
    /// map.metadata.owner_references = Some(vec![owner::reference(&serving("never-made").build())]);
    /// api.add(&map);
    /// assert_eq!(api.collect_garbage(), 1);
    /// assert!(api.list::<ConfigMap>().is_empty());
    /// ```
    pub fn collect_garbage(&self) -> usize {
        self.shared.change(|state| state.store.collect())
    }
}

impl Default for FakeApi {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FakeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("FakeApi")
            .field("version", &state.store.version)
            .field("requests", &state.requests.len())
            .finish_non_exhaustive()
    }
}

fn place<K: Resource<DynamicType = ()>>(namespace: &str, name: &str) -> Place {
    Place {
        group: K::group(&()).into_owned(),
        resource: K::plural(&()).into_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn json<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("an object is JSON")
}

fn read<K: DeserializeOwned>(object: &Value) -> K {
    serde_json::from_value(object.clone())
        .unwrap_or_else(|error| panic!("not of the kind: {error}: {object}"))
}
