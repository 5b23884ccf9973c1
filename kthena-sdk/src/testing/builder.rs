//! Objects as tests need them: complete enough to be worked with, and no more.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kthena_api::ModelServing;
use kthena_api::labels;
use kthena_api::model_serving::Role;
use kthena_api::name::Serving;
use serde_json::{Value, json};

use super::kubelet::{make_failed, make_ready};
use crate::model_serving::metadata;
use crate::owner;

/// Begins a ModelServing in the namespace `default`, with one group of whatever roles it gets; without any, it gets one that is called
/// `decode`.
///
/// ```
/// use kthena_sdk::testing::{role, serving};
///
/// let serving = serving("llama").replicas(2).role(role("prefill")).role(role("decode").workers(1)).build();
/// assert_eq!(serving.spec.effective_replicas(), 2);
/// assert_eq!(serving.spec.template.roles.len(), 2);
/// ```
#[must_use]
pub fn serving(name: &str) -> ServingBuilder {
    ServingBuilder {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        replicas: 1,
        roles: Vec::new(),
    }
}

/// Begins a role with one instance of one pod.
///
/// ```
/// use kthena_sdk::testing::role;
///
/// let role = role("decode").replicas(2).workers(3).image("vllm:2").build();
/// assert_eq!(role.effective_replicas(), 2);
/// assert_eq!(role.effective_worker_replicas(), 3);
/// ```
#[must_use]
pub fn role(name: &str) -> RoleBuilder {
    RoleBuilder {
        name: name.to_owned(),
        replicas: 1,
        workers: 0,
        image: "engine:1".to_owned(),
    }
}

/// Begins a pod as the controller would have made it for an instance of a role, which waits for a node. An index of 0 is the entry pod.
///
/// ```
/// use kthena_sdk::model_serving::{Pod, PodState};
/// use kthena_sdk::testing::{pod, serving};
///
/// let serving = serving("llama").build();
/// let made = pod(&serving, 0, "decode", 1, 0).revision("abc").ready().build();
/// let seen = Pod::of(&made).unwrap();
/// assert_eq!((seen.name.as_str(), seen.instance), ("llama-0-decode-1-0", 1));
/// assert_eq!((seen.revision.as_str(), seen.state), ("abc", PodState::Ready));
/// ```
#[must_use]
pub fn pod(serving: &ModelServing, group: u32, role: &str, instance: u32, index: u32) -> PodBuilder {
    let owner = owner::reference(serving);
    let name = Serving(&owner.name).pod(group, role, instance, index);
    let pod = json!({
        "metadata": {
            "name": name,
            "namespace": serving.metadata.namespace.as_deref().unwrap_or("default"),
            "labels": metadata::of_instance(serving, group, role, instance),
            "ownerReferences": [owner],
        },
        "spec": { "containers": [{ "name": "engine", "image": "engine:1" }] },
        "status": { "phase": "Pending" },
    });
    let mut pod: Pod = serde_json::from_value(pod).expect("a pod");
    if index == 0 {
        let all = pod.metadata.labels.get_or_insert_default();
        all.insert(labels::ENTRY.into(), labels::TRUE.into());
    }
    PodBuilder { pod }
}

/// A ModelServing that is being put together. See [`serving`].
///
/// ```
/// let builder = kthena_sdk::testing::serving("llama").namespace("models");
/// assert_eq!(builder.build().metadata.namespace.as_deref(), Some("models"));
/// ```
#[derive(Debug, Clone)]
pub struct ServingBuilder {
    name: String,
    namespace: String,
    replicas: i32,
    roles: Vec<RoleBuilder>,
}

impl ServingBuilder {
    /// In this namespace.
    #[must_use]
    pub fn namespace(self, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        Self { namespace, ..self }
    }

    /// So many groups.
    #[must_use]
    pub fn replicas(self, replicas: i32) -> Self {
        Self { replicas, ..self }
    }

    /// With this role besides those it has.
    #[must_use]
    pub fn role(mut self, role: RoleBuilder) -> Self {
        self.roles.push(role);
        self
    }

    /// The ModelServing. It has no UID yet: [`FakeApi::add`](super::FakeApi::add) or a client gives it one.
    ///
    /// # Panics
    ///
    /// Never, as long as roles are what the API takes them for.
    #[must_use]
    pub fn build(self) -> ModelServing {
        let mut roles: Vec<Value> = self.roles.iter().map(RoleBuilder::json).collect();
        if roles.is_empty() {
            roles.push(role("decode").json());
        }
        let serving = json!({
            "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": {
                "schedulerName": "default-scheduler",
                "replicas": self.replicas,
                "template": { "roles": roles },
            },
        });
        serde_json::from_value(serving).expect("a ModelServing")
    }
}

/// A role that is being put together. See [`role`].
///
/// ```
/// assert_eq!(kthena_sdk::testing::role("decode").build().name, "decode");
/// ```
#[derive(Debug, Clone)]
pub struct RoleBuilder {
    name: String,
    replicas: i32,
    workers: i32,
    image: String,
}

impl RoleBuilder {
    /// So many instances in each group.
    #[must_use]
    pub fn replicas(self, replicas: i32) -> Self {
        Self { replicas, ..self }
    }

    /// So many worker pods in each instance.
    #[must_use]
    pub fn workers(self, workers: i32) -> Self {
        Self { workers, ..self }
    }

    /// With this image in all of its pods. Another one makes another revision.
    #[must_use]
    pub fn image(self, image: &str) -> Self {
        let image = image.to_owned();
        Self { image, ..self }
    }

    /// The role.
    ///
    /// # Panics
    ///
    /// Never, as long as a role is what the API takes it for.
    #[must_use]
    pub fn build(&self) -> Role {
        serde_json::from_value(self.json()).expect("a role")
    }

    fn json(&self) -> Value {
        let template = json!({ "spec": { "containers": [{ "name": "engine", "image": self.image }] } });
        let mut role = json!({ "name": self.name, "replicas": self.replicas, "entryTemplate": template });
        if self.workers > 0 {
            role["workerReplicas"] = self.workers.into();
            role["workerTemplate"] = template;
        }
        role
    }
}

/// A pod that is being put together. See [`pod`].
///
/// ```
/// use kthena_sdk::testing::{pod, serving};
///
/// let pod = pod(&serving("llama").build(), 0, "decode", 0, 0).failed().build();
/// assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Failed"));
/// ```
#[derive(Debug, Clone)]
pub struct PodBuilder {
    pod: Pod,
}

impl PodBuilder {
    /// Made from this revision.
    #[must_use]
    pub fn revision(self, revision: &str) -> Self {
        self.label(labels::REVISION, revision)
    }

    /// With this label.
    ///
    /// ```
    /// use kthena_sdk::model_serving::{Pod, PodState};
    /// use kthena_sdk::testing::{pod, serving};
    ///
    /// let pod = pod(&serving("llama").build(), 0, "decode", 0, 0).label("zone", "a").terminating().build();
    /// assert_eq!(pod.metadata.labels.as_ref().unwrap()["zone"], "a");
    /// assert_eq!(Pod::of(&pod).unwrap().state, PodState::Terminating);
    /// ```
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        let all = self.pod.metadata.labels.get_or_insert_default();
        all.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Running and ready.
    #[must_use]
    pub fn ready(mut self) -> Self {
        make_ready(&mut self.pod);
        self
    }

    /// Failed for good.
    #[must_use]
    pub fn failed(mut self) -> Self {
        make_failed(&mut self.pod);
        self
    }

    /// Told to go.
    #[must_use]
    pub fn terminating(mut self) -> Self {
        let metadata = &mut self.pod.metadata;
        metadata.deletion_timestamp = Some(Time(Timestamp::now()));
        metadata.deletion_grace_period_seconds = Some(30);
        self
    }

    /// The pod.
    #[must_use]
    pub fn build(self) -> Pod {
        self.pod
    }
}
