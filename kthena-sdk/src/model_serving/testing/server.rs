//! An API server in memory whose watches lag behind, for tests of a controller's index together with its plans.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Pod as KubePod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kthena_api::ModelServing;
use serde_json::{Value, json};

use super::super::execute::stage;
use super::super::gang::{PodGroupObject, Support};
use super::super::index::{Index, Indexed, Key};
use super::super::{Action, Plan, plan};
use crate::watch::Change;

/// Objects of a kind, and what their watch has not told yet.
#[derive(Debug)]
struct Watched<K> {
    objects: BTreeMap<String, K>,
    waiting: VecDeque<Event<K>>,
}

#[derive(Debug, Clone)]
enum Event<K> {
    Apply(K),
    Delete(K),
}

/// The API server, and the one controller that there is.
#[derive(Debug)]
pub(crate) struct Server {
    /// The ModelServing as it is stored.
    pub(crate) serving: ModelServing,
    /// As the controller knows it, with the status that it wrote itself.
    seen: ModelServing,
    index: Index,
    version: u64,
    pods: Watched<KubePod>,
    services: Watched<Service>,
    revisions: Watched<ControllerRevision>,
    pod_groups: Watched<PodGroupObject>,
    /// How often an object was made, by kind and name.
    pub(crate) made: BTreeMap<String, usize>,
    /// Requests that changed something.
    pub(crate) writes: usize,
}

/// What the controller does when it reads the answer to a request.
type Answer = Box<dyn FnOnce(&Index)>;

fn key() -> Key {
    ("ns".into(), "s".into())
}

impl Server {
    /// One with nothing but a ModelServing of this spec, and a controller that knows it.
    pub(crate) fn new(spec: Value) -> Self {
        let serving: ModelServing = serde_json::from_value(json!({
            "metadata": { "name": "s", "namespace": "ns", "uid": "owner", "generation": 1 },
            "spec": spec,
        }))
        .expect("a ModelServing");
        let mut server = Self {
            seen: serving.clone(),
            serving,
            index: Index::default(),
            version: 0,
            pods: Watched::default(),
            services: Watched::default(),
            revisions: Watched::default(),
            pod_groups: Watched::default(),
            made: BTreeMap::new(),
            writes: 0,
        };
        server.restart();
        server
    }

    /// The pods as they are.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &KubePod> {
        self.pods.objects.values()
    }

    /// Changes the spec as a user would.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut ModelServing)) {
        let before = self.serving.spec.clone();
        change(&mut self.serving);
        if self.serving.spec != before {
            let generation = self.serving.metadata.generation.unwrap_or(0);
            self.serving.metadata.generation = Some(generation + 1);
        }
    }

    /// Another controller, which knows nothing but what it lists.
    pub(crate) fn restart(&mut self) {
        self.index = Index::default();
        let support = Support { has_sub_groups: true };
        self.index.set_gang(Some(support));
        self.relist();
        self.seen = self.serving.clone();
    }

    /// The watches broke, and begin anew with lists: what they had not told is lost.
    pub(crate) fn relist(&mut self) {
        self.pods.relist(&self.index);
        self.services.relist(&self.index);
        self.revisions.relist(&self.index);
        self.pod_groups.relist(&self.index);
    }

    /// The watch of a kind tells so much of what it has not told yet; the last thing twice.
    pub(crate) fn tell(&mut self, kind: usize, events: usize) {
        match kind % 5 {
            0 => self.pods.tell(&self.index, events),
            1 => self.services.tell(&self.index, events),
            2 => self.revisions.tell(&self.index, events),
            3 => self.pod_groups.tell(&self.index, events),
            _ => {
                let status = self.seen.status.take();
                self.seen = self.serving.clone();
                self.seen.status = status;
            }
        }
    }

    /// The watches tell all.
    pub(crate) fn tell_all(&mut self) {
        (0..5).for_each(|kind| self.tell(kind, usize::MAX));
    }

    /// What the controller would do now.
    pub(crate) fn plan(&self) -> Plan {
        plan(&self.seen, &self.index.observe(&key()), Timestamp::UNIX_EPOCH)
    }

    /// The controller plans and acts. It may be killed after so many requests. While it waits for the answers to those of a stage, the watch of pods
    /// tells so much.
    pub(crate) fn step(&mut self, killed_after: Option<usize>, events: usize) -> Plan {
        let plan = self.plan();
        let mut left = killed_after.unwrap_or(usize::MAX);
        for number in 0..=6 {
            let stage: Vec<&Action> = plan
                .actions
                .iter()
                .filter(|action| stage(action) == number)
                .collect();
            let mut answers: Vec<Answer> = Vec::new();
            for action in stage {
                if left == 0 {
                    self.restart();
                    return plan;
                }
                left -= 1;
                answers.push(self.act(action));
            }
            self.tell(0, events);
            for answer in answers {
                answer(&self.index);
            }
        }
        if left == 0 && killed_after.is_some() {
            self.restart();
            return plan;
        }
        self.serving.status = Some(plan.status.clone());
        self.seen.status = Some(plan.status.clone());
        plan
    }

    /// The kubelet has ended pods that were told to go, so many of them.
    pub(crate) fn end_pods(&mut self, count: usize) {
        let going = self
            .pods
            .objects
            .values()
            .filter(|pod| pod.metadata.deletion_timestamp.is_some());
        let names: Vec<String> = going
            .filter_map(|pod| pod.metadata.name.clone())
            .take(count)
            .collect();
        for name in names {
            self.version += 1;
            self.pods.delete(&name, self.version);
        }
    }

    /// A pod is ready from now on.
    pub(crate) fn make_ready(&mut self, place: usize) {
        let count = self.pods.objects.len();
        let Some(pod) = self.pods.objects.values().nth(place % count.max(1)) else {
            return;
        };
        let mut pod = pod.clone();
        if pod.metadata.deletion_timestamp.is_some() || is_ready(&pod) {
            return;
        }
        let status = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
        pod.status = serde_json::from_value(status).expect("a status");
        self.version += 1;
        self.pods.put(pod, self.version);
    }

    /// Everything that can happen by itself happens.
    pub(crate) fn settle(&mut self) {
        self.end_pods(usize::MAX);
        (0..self.pods.objects.len()).for_each(|place| self.make_ready(place));
        self.tell_all();
    }

    /// Steps until there is nothing left to do.
    ///
    /// # Panics
    ///
    /// When it takes too many.
    pub(crate) fn converge(&mut self) {
        for _ in 0..300 {
            self.settle();
            let before = self.serving.status.clone();
            if self.step(None, 0).actions.is_empty() && before == self.serving.status {
                return;
            }
        }
        panic!("it does not come to rest: {:#?}", self.plan());
    }

    /// Ordinals of groups that are complete and ready.
    pub(crate) fn available(&self, size: usize) -> BTreeSet<u32> {
        let mut ready = BTreeMap::<u32, usize>::new();
        for pod in self
            .pods()
            .filter(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none())
        {
            let pod = super::super::Pod::of(pod).expect("a pod of ours");
            *ready.entry(pod.group).or_default() += 1;
        }
        let complete = ready.into_iter().filter(|(_, count)| *count == size);
        complete.map(|(group, _)| group).collect()
    }

    /// Does what the controller asks for.
    fn act(&mut self, action: &Action) -> Answer {
        self.writes += 1;
        match action {
            Action::CreateRevision(object) => {
                self.create(object.as_ref().clone(), |server| &mut server.revisions)
            }
            Action::CreateService(object) => {
                self.create(object.as_ref().clone(), |server| &mut server.services)
            }
            Action::CreatePod(new) => {
                let pod: KubePod = serde_json::from_value(new.pod.clone()).expect("a pod");
                self.create(pod, |server| &mut server.pods)
            }
            Action::ApplyPodGroup(object) => {
                let mut group: PodGroupObject = serde_json::from_value(object.clone()).expect("a PodGroup");
                let name = group.metadata.name.clone().unwrap_or_default();
                match self.pod_groups.objects.get(&name) {
                    Some(found) => {
                        group.metadata.uid.clone_from(&found.metadata.uid);
                        self.version += 1;
                        let group = self.pod_groups.put(group, self.version);
                        Box::new(move |index| index.made(&group))
                    }
                    None => self.create(group, |server| &mut server.pod_groups),
                }
            }
            Action::DeletePods(going) => {
                for target in &going.pods {
                    let found = self.pods.objects.get(&target.name);
                    let same = found.filter(|pod| pod.metadata.uid.as_ref() == Some(&target.uid));
                    if let Some(mut pod) = same
                        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                        .cloned()
                    {
                        pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
                        self.version += 1;
                        self.pods.put(pod, self.version);
                    }
                }
                let uids: Vec<String> = going.pods.iter().map(|pod| pod.uid.clone()).collect();
                Box::new(move |index| index.told_to_go(&key(), uids.iter().map(String::as_str)))
            }
            Action::DeleteService(target) => {
                self.delete(&target.name, Some(&target.uid), |server| &mut server.services)
            }
            Action::DeletePodGroup(target) => {
                self.delete(&target.name, Some(&target.uid), |server| &mut server.pod_groups)
            }
            Action::DeleteRevision { object } => self.delete(object, None, |server| &mut server.revisions),
            Action::RenumberRevision { object, number } => {
                let mut revision = self.revisions.objects.get(object).expect("a revision").clone();
                revision.revision = *number;
                self.version += 1;
                let revision = self.revisions.put(revision, self.version);
                Box::new(move |index| index.made(&revision))
            }
            Action::CreateBudget(_) | Action::UpdateBudget(_) | Action::DeleteBudget(_) => {
                panic!("nobody asked for a budget: {action:?}")
            }
        }
    }

    fn create<K: Indexed + Clone + 'static>(
        &mut self,
        mut object: K,
        of: impl FnOnce(&mut Self) -> &mut Watched<K>,
    ) -> Answer {
        self.version += 1;
        let version = self.version;
        let name = object.meta().name.clone().unwrap_or_default();
        object.meta_mut().uid = Some(format!("uid-{version}"));
        *self.made.entry(format!("{} {name}", K::kind(&()))).or_default() += 1;
        let all = of(self);
        assert!(!all.objects.contains_key(&name), "{name} is there already");
        let made = all.put(object, version);
        Box::new(move |index| index.made(&made))
    }

    fn delete<K: Indexed + Clone + 'static>(
        &mut self,
        name: &str,
        uid: Option<&str>,
        of: impl FnOnce(&mut Self) -> &mut Watched<K>,
    ) -> Answer {
        self.version += 1;
        let version = self.version;
        let all = of(self);
        let found = all
            .objects
            .get(name)
            .filter(|it| uid.is_none() || it.meta().uid.as_deref() == uid);
        if found.is_some() {
            all.delete(name, version);
        }
        let (name, uid) = (name.to_owned(), uid.map(str::to_owned));
        Box::new(move |index| index.removed::<K>(&key(), &name, uid.as_deref()))
    }
}

fn is_ready(pod: &KubePod) -> bool {
    let status = pod.status.as_ref();
    status.is_some_and(|status| status.phase.as_deref() == Some("Running"))
}

// === impl Watched ===

impl<K> Default for Watched<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            waiting: VecDeque::new(),
        }
    }
}

impl<K: Indexed + Clone> Watched<K> {
    fn put(&mut self, mut object: K, version: u64) -> K {
        object.meta_mut().resource_version = Some(version.to_string());
        let name = object.meta().name.clone().unwrap_or_default();
        self.objects.insert(name, object.clone());
        self.waiting.push_back(Event::Apply(object.clone()));
        object
    }

    fn delete(&mut self, name: &str, version: u64) {
        if let Some(mut object) = self.objects.remove(name) {
            object.meta_mut().resource_version = Some(version.to_string());
            self.waiting.push_back(Event::Delete(object));
        }
    }

    fn relist(&mut self, index: &Index) {
        self.waiting.clear();
        index.update(Change::Reset(self.objects.values().cloned().collect()));
    }

    fn tell(&mut self, index: &Index, events: usize) {
        let count = events.min(self.waiting.len());
        let told: Vec<Event<K>> = self.waiting.drain(..count).collect();
        let again = told.last().cloned();
        for event in told.into_iter().chain(again) {
            index.update(match event {
                Event::Apply(object) => Change::Apply(object),
                Event::Delete(object) => Change::Delete(object),
            });
        }
    }
}
