//! A cluster in memory, for tests of what is planned: it does what plans say and plays the kubelet.

#[cfg(all(test, feature = "runtime"))]
pub(crate) mod server;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod as KubePod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kthena_api::ModelServing;
use serde_json::{Value, json};

use super::disruption::Budget;
use super::gang::PodGroup;
use super::revision::Revision;
use super::{Action, Child, Observed, Plan, Pod, PodState, plan};

/// The cluster: one ModelServing and what there is of it.
///
/// ```
/// use kthena_sdk::testing::World;
///
/// let mut world = World::new(serde_json::json!({
///     "schedulerName": "default-scheduler",
///     "replicas": 2,
///     "template": { "roles": [
///         { "name": "decode", "entryTemplate": { "spec": { "containers": [{ "name": "engine", "image": "vllm" }] } } },
///     ] },
/// }));
/// world.converge();
/// assert_eq!(world.names(), ["s-0-decode-0-0", "s-1-decode-0-0"]);
///
/// world.edit(|serving| serving.spec.replicas = Some(1));
/// world.converge();
/// assert_eq!(world.names(), ["s-0-decode-0-0"]);
/// ```
#[derive(Debug, Clone)]
pub struct World {
    /// The ModelServing.
    pub serving: ModelServing,
    /// What there is of it.
    pub observed: Observed,
    /// The time.
    pub now: Timestamp,
    /// Pods that were made, by what is in their spec.
    pub specs: BTreeMap<String, Value>,
    /// Actions that were done, the deletion and creation of each object counted.
    pub writes: usize,
    uids: u64,
}

impl World {
    /// A cluster with nothing but a ModelServing of this spec, which is called `s`.
    ///
    /// # Panics
    ///
    /// If it is not the spec of a ModelServing.
    pub fn new(spec: Value) -> Self {
        let serving = json!({
            "metadata": { "name": "s", "namespace": "ns", "uid": "owner", "generation": 1 },
            "spec": spec,
        });
        Self {
            serving: serde_json::from_value(serving).expect("a ModelServing"),
            observed: Observed::default(),
            now: "2026-01-01T00:00:00Z".parse().expect("a time"),
            specs: BTreeMap::new(),
            writes: 0,
            uids: 0,
        }
    }

    /// Changes the spec as a user would.
    pub fn edit(&mut self, change: impl FnOnce(&mut ModelServing)) {
        let before = self.serving.spec.clone();
        change(&mut self.serving);
        if self.serving.spec != before {
            let generation = self.serving.metadata.generation.unwrap_or(0);
            self.serving.metadata.generation = Some(generation + 1);
        }
    }

    /// What is to be done next.
    pub fn plan(&self) -> Plan {
        plan(&self.serving, &self.observed, self.now)
    }

    /// Plans and does it all.
    ///
    /// ```
    /// use kthena_sdk::testing::World;
    ///
    /// let mut world = World::new(serde_json::json!({
    ///     "schedulerName": "default-scheduler",
    ///     "template": { "roles": [{ "name": "decode", "entryTemplate": { "spec": { "containers": [] } } }] },
    /// }));
    /// assert_eq!(world.plan().actions.len(), 2, "a revision and a pod");
    /// world.step();
    /// world.settle_pods();
    /// assert_eq!(world.names(), ["s-0-decode-0-0"]);
    /// assert!(world.plan().actions.is_empty());
    /// ```
    pub fn step(&mut self) -> Plan {
        let plan = self.plan();
        for action in &plan.actions {
            self.apply(action);
        }
        self.serving.status = Some(plan.status.clone());
        plan
    }

    /// Plans and does so many actions, then stops without a word.
    ///
    /// ```
    /// use kthena_sdk::testing::World;
    ///
    /// let mut world = World::new(serde_json::json!({
    ///     "schedulerName": "default-scheduler",
    ///     "template": { "roles": [{ "name": "decode", "entryTemplate": { "spec": { "containers": [] } } }] },
    /// }));
    /// world.crash_after(1);
    /// assert!(world.names().is_empty(), "the revision is there, the pod is not");
    /// world.converge();
    /// assert_eq!(world.names().len(), 1);
    /// ```
    pub fn crash_after(&mut self, actions: usize) {
        for action in self.plan().actions.iter().take(actions) {
            self.apply(action);
        }
    }

    /// Lets pods that are going be gone, and all others be ready.
    pub fn settle_pods(&mut self) {
        self.observed
            .pods
            .retain(|pod| pod.state != PodState::Terminating);
        for pod in &mut self.observed.pods {
            pod.state = PodState::Ready;
            pod.cause = None;
        }
    }

    /// Steps, with pods that do as they are told, until there is nothing to do. Returns how many steps it took.
    ///
    /// # Panics
    ///
    /// When it takes too many.
    pub fn converge(&mut self) -> usize {
        for steps in 1..500 {
            self.settle_pods();
            let before = self.serving.status.clone();
            let plan = self.step();
            if plan.actions.is_empty() && before.as_ref() == Some(&plan.status) {
                return steps;
            }
        }
        panic!("it does not come to rest: {:#?}", self.plan());
    }

    /// The pod of a name.
    ///
    /// ```
    /// use kthena_sdk::testing::World;
    ///
    /// let mut world = World::new(serde_json::json!({
    ///     "schedulerName": "default-scheduler",
    ///     "template": { "roles": [{ "name": "decode", "entryTemplate": { "spec": { "containers": [] } } }] },
    /// }));
    /// use kthena_sdk::model_serving::PodState;
    ///
    /// world.converge();
    /// world.pod("s-0-decode-0-0").state = PodState::Unready;
    /// world.wait(60);
    /// assert_eq!(world.plan().status.available_replicas.unwrap_or(0), 0);
    /// for action in &world.plan().actions {
    ///     world.apply(action);
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn pod(&mut self, name: &str) -> &mut Pod {
        let all: Vec<String> = self.names();
        let found = self.observed.pods.iter_mut().find(|pod| pod.name == name);
        found.unwrap_or_else(|| panic!("no pod {name} among {all:?}"))
    }

    /// Names of all pods, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.observed.pods.iter().map(|pod| pod.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Lets so many seconds pass.
    ///
    /// # Panics
    ///
    /// At the end of time.
    pub fn wait(&mut self, seconds: i64) {
        self.now = self
            .now
            .saturating_add(SignedDuration::from_secs(seconds))
            .expect("a time");
    }

    /// Does what an action says, as the API server would.
    ///
    /// # Panics
    ///
    /// When it would refuse: a name that is taken, an object that is not there.
    pub fn apply(&mut self, action: &Action) {
        self.writes += 1;
        match action {
            Action::CreateRevision(object) => {
                let revision = self.stored(object);
                let is_new = self
                    .observed
                    .revisions
                    .iter()
                    .all(|it| it.object != revision.object);
                assert!(is_new, "{} is there already", revision.object);
                self.observed.revisions.push(revision);
            }
            Action::RenumberRevision { object, number } => {
                let mut all = self.observed.revisions.iter_mut();
                let found = all.find(|revision| revision.object == *object);
                found.expect("a revision").number = *number;
            }
            Action::DeleteRevision { object } => self.observed.revisions.retain(|it| it.object != *object),
            Action::ApplyPodGroup(object) => {
                let child = self.child(&object["metadata"]);
                let spec = object["spec"].clone();
                let mut all = self.observed.pod_groups.iter_mut();
                match all.find(|it| it.child.name == child.name) {
                    Some(found) => found.spec = spec,
                    None => self.observed.pod_groups.push(PodGroup { child, spec }),
                }
            }
            Action::CreateBudget(object) => {
                let child = self.child(&json!(object.metadata));
                let spec = object.spec.clone().expect("a spec");
                assert!(
                    self.observed.budgets.is_empty(),
                    "{} is there already",
                    child.name
                );
                self.observed.budgets.push(Budget { child, spec });
            }
            Action::UpdateBudget(object) => {
                let found = self.observed.budgets.first_mut().expect("a budget");
                found.spec = object.spec.clone().expect("a spec");
            }
            Action::DeleteBudget(target) => {
                self.observed.budgets.retain(|it| it.child.uid != target.uid);
            }
            Action::DeletePodGroup(target) => {
                self.observed.pod_groups.retain(|it| it.child.uid != target.uid);
            }
            Action::DeletePods(going) => {
                for target in &going.pods {
                    let mut all = self.observed.pods.iter_mut();
                    if let Some(pod) = all.find(|pod| pod.uid == target.uid) {
                        pod.state = PodState::Terminating;
                    }
                }
            }
            Action::DeleteService(target) => self.observed.services.retain(|it| it.uid != target.uid),
            Action::CreatePod(new) => {
                let mut pod: KubePod = serde_json::from_value(new.pod.clone()).expect("a pod");
                pod.metadata.uid = Some(self.uid());
                let pod = Pod::of(&pod).expect("a pod with its labels");
                assert!(!self.names().contains(&pod.name), "{} is there already", pod.name);
                self.specs.insert(pod.uid.clone(), new.pod["spec"].clone());
                self.observed.pods.push(pod);
            }
            Action::CreateService(service) => {
                let child = self.child(&json!(service.metadata));
                let is_new = self.observed.services.iter().all(|it| it.name != child.name);
                assert!(is_new, "{} is there already", child.name);
                self.observed.services.push(child);
            }
        }
    }

    fn stored(&mut self, object: &ControllerRevision) -> Revision {
        // As it comes back from the API server.
        let value = serde_json::to_value(object).expect("JSON");
        let object: ControllerRevision = serde_json::from_value(value).expect("a ControllerRevision");
        Revision::of(&object).expect("a revision")
    }

    fn child(&mut self, metadata: &Value) -> Child {
        let mut metadata = metadata.clone();
        metadata["uid"] = self.uid().into();
        Child::of(&serde_json::from_value(metadata).expect("metadata"))
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }
}
