//! ServingGroups as they are, put together from pods and what goes with them.

use std::collections::BTreeMap;

use kthena_api::model_serving::Role;

use super::observe::{Child, Pod, PodState};
use super::pod;
use super::revision::Revisions;

/// A ServingGroup.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group<'a> {
    /// Its ordinal.
    pub(crate) ordinal: u32,
    /// Instances by role and ordinal.
    pub(crate) roles: BTreeMap<&'a str, BTreeMap<u32, Instance<'a>>>,
    /// Its PodGroup.
    pub(crate) pod_group: Option<&'a Child>,
}

/// An instance of a role.
#[derive(Debug, Clone, Default)]
pub(crate) struct Instance<'a> {
    /// Its pods, by index.
    pub(crate) pods: Vec<&'a Pod>,
    /// Its Service. It is made once all pods are there, so it is the proof that they have been.
    pub(crate) service: Option<&'a Child>,
}

/// How a ServingGroup or an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Status {
    /// It has all its pods and they are ready.
    Running,
    /// Pods are missing or not ready.
    Creating,
    /// Instances of roles are missing or too many, in a group.
    Scaling,
    /// All its pods are being deleted.
    Deleting,
}

/// Which instances a ServingGroup is to have.
#[derive(Debug, Clone)]
pub(crate) struct Frame<'a> {
    /// The revision of pods that are missing.
    pub(crate) revision: String,
    /// The roles and how many instances of each.
    pub(crate) roles: Vec<(&'a Role, u32)>,
}

impl Frame<'_> {
    /// Whether the group is to have no pods at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.roles.iter().all(|(_, instances)| *instances == 0)
    }
}

/// Sorts pods and what goes with them into groups. Only those with the owner's UID belong to it.
pub(crate) fn groups<'a>(
    owner: &str,
    pods: &'a [Pod],
    services: &'a [Child],
    pod_groups: impl IntoIterator<Item = &'a Child>,
) -> BTreeMap<u32, Group<'a>> {
    let mut all = BTreeMap::<u32, Group<'a>>::new();
    for pod in pods.iter().filter(|pod| pod.owner.as_deref() == Some(owner)) {
        let instance = instance(&mut all, pod.group, &pod.role, pod.instance);
        instance.pods.push(pod);
    }
    let ours = |child: &&Child| child.owner.as_deref() == Some(owner);
    for service in services.iter().filter(ours) {
        if let Some((group, (role, ordinal))) = service.group.zip(service.role.as_ref()) {
            instance(&mut all, group, role, *ordinal).service = Some(service);
        }
    }
    for pod_group in pod_groups.into_iter().filter(ours) {
        if let Some(ordinal) = pod_group.group {
            group(&mut all, ordinal).pod_group = Some(pod_group);
        }
    }
    let instances = all.values_mut().flat_map(|group| group.roles.values_mut());
    for instance in instances.flat_map(BTreeMap::values_mut) {
        instance.pods.sort_by_key(|pod| pod.index);
    }
    all
}

fn group<'m, 'a>(all: &'m mut BTreeMap<u32, Group<'a>>, ordinal: u32) -> &'m mut Group<'a> {
    all.entry(ordinal).or_insert_with(|| Group {
        ordinal,
        ..Group::default()
    })
}

fn instance<'m, 'a>(
    all: &'m mut BTreeMap<u32, Group<'a>>,
    ordinal: u32,
    role: &'a str,
    instance: u32,
) -> &'m mut Instance<'a> {
    let group = group(all, ordinal);
    group.roles.entry(role).or_default().entry(instance).or_default()
}

// === impl Group ===

impl<'a> Group<'a> {
    /// All instances, with their roles and ordinals.
    pub(crate) fn instances(&self) -> impl Iterator<Item = (&'a str, u32, &Instance<'a>)> {
        self.roles
            .iter()
            .flat_map(|(role, all)| all.iter().map(|(ordinal, instance)| (*role, *ordinal, instance)))
    }

    /// The instances of a role.
    pub(crate) fn of_role(&self, role: &str) -> impl Iterator<Item = (u32, &Instance<'a>)> {
        let all = self.roles.get(role).into_iter().flatten();
        all.map(|(ordinal, instance)| (*ordinal, instance))
    }

    /// All pods.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &'a Pod> {
        self.instances()
            .flat_map(|(_, _, instance)| instance.pods.iter().copied())
    }

    /// How many instances of a role have all their pods, none of which is being deleted.
    pub(crate) fn whole_instances(&self, role: &Role, revisions: &Revisions<'_>) -> usize {
        let all = self.of_role(&role.name);
        all.filter(|(_, instance)| instance.is_whole(role, revisions))
            .count()
    }

    /// Pods that are not being deleted.
    pub(crate) fn live_pods(&self) -> impl Iterator<Item = &'a Pod> {
        self.pods().filter(|pod| pod.state != PodState::Terminating)
    }

    /// Whether something of it is being deleted, so that its names are not free.
    pub(crate) fn is_terminating(&self) -> bool {
        self.pods().any(|pod| pod.state == PodState::Terminating)
            || self.pod_group.is_some_and(|it| it.is_terminating)
            || self
                .instances()
                .any(|(_, _, instance)| instance.service.is_some_and(|it| it.is_terminating))
    }

    /// Whether it counts as being there: it has pods, or what it had is not gone yet.
    pub(crate) fn exists(&self) -> bool {
        self.pods().next().is_some() || self.is_terminating()
    }

    /// Whether it is on its way out: it has no pods but such that are being deleted.
    pub(crate) fn is_deleting(&self) -> bool {
        self.exists() && self.live_pods().next().is_none()
    }

    /// How it does, measured by what it is to have.
    pub(crate) fn status(&self, frame: &Frame<'_>, revisions: &Revisions<'_>) -> Status {
        if self.is_deleting() {
            return Status::Deleting;
        }
        let mut worst = Status::Running;
        for (role, replicas) in &frame.roles {
            let live: Vec<Status> = self
                .of_role(&role.name)
                .map(|(_, instance)| instance.status(role, revisions))
                .filter(|status| *status != Status::Deleting)
                .collect();
            if live.len() != *replicas as usize {
                return Status::Scaling;
            }
            worst = live.into_iter().chain([worst]).max().unwrap_or(worst);
        }
        worst
    }

    /// Its revision: the target if all its pods are of it, else that of a pod which is not, the oldest first. Where roles are replaced one
    /// by one, a pod is of the target if the target makes it just so, whatever revision it was made from.
    pub(crate) fn revision(&self, revisions: &Revisions<'_>, by_role: bool) -> String {
        let is_current = |pod: &Pod| {
            if by_role {
                revisions.is_current(pod).unwrap_or(true)
            } else {
                pod.revision == revisions.target()
            }
        };
        let has_live = self.live_pods().next().is_some();
        let outdated = self
            .pods()
            .filter(|pod| !has_live || pod.state != PodState::Terminating)
            .filter(|pod| !is_current(pod))
            .map(|pod| (revisions.number(&pod.revision), pod.revision.as_str()))
            .min();
        outdated.map_or(revisions.target(), |(_, name)| name).to_owned()
    }

    /// Whether it was made for the time of a rollout only.
    pub(crate) fn is_surge(&self) -> bool {
        self.pods().any(|pod| pod.is_surge)
    }

    /// What removing it costs.
    pub(crate) fn deletion_cost(&self) -> i64 {
        self.pods()
            .fold(0, |sum: i64, pod| sum.saturating_add(pod.deletion_cost))
    }
}

// === impl Instance ===

impl<'a> Instance<'a> {
    /// Pods that are not being deleted.
    pub(crate) fn live(&self) -> impl Iterator<Item = &'a Pod> {
        let pods = self.pods.iter().copied();
        pods.filter(|pod| pod.state != PodState::Terminating)
    }

    /// Whether it is on its way out.
    pub(crate) fn is_deleting(&self) -> bool {
        let has_pods = !self.pods.is_empty();
        self.live().next().is_none() && (has_pods || self.service.is_some_and(|it| it.is_terminating))
    }

    /// Whether nothing of it is there but perhaps a Service of its own, which no pod needs.
    pub(crate) fn is_empty(&self) -> bool {
        self.pods.is_empty() && !self.is_deleting()
    }

    /// The revision of its pods.
    pub(crate) fn revision(&self) -> Option<&'a str> {
        let first = self.live().next().or_else(|| self.pods.first().copied());
        first.map(|pod| pod.revision.as_str())
    }

    /// Whether one of its pods is being deleted.
    pub(crate) fn is_losing_pods(&self) -> bool {
        self.live().count() < self.pods.len()
    }

    /// Whether it has all its pods, none of which is being deleted.
    pub(crate) fn is_whole(&self, role: &Role, revisions: &Revisions<'_>) -> bool {
        !self.is_losing_pods() && self.pods.len() == self.size(role, revisions) as usize
    }

    /// How many pods it is to have, by the role as it was when they were made.
    pub(crate) fn size(&self, role: &Role, revisions: &Revisions<'_>) -> u32 {
        let own = self
            .revision()
            .and_then(|revision| revisions.template(revision)?.role(&role.name));
        pod::count(own.unwrap_or(role))
    }

    /// How it does.
    pub(crate) fn status(&self, role: &Role, revisions: &Revisions<'_>) -> Status {
        if self.is_deleting() {
            return Status::Deleting;
        }
        let ready = self.live().filter(|pod| pod.state == PodState::Ready).count();
        let all = self.pods.len();
        if ready == all && all == self.size(role, revisions) as usize {
            Status::Running
        } else {
            Status::Creating
        }
    }

    /// What removing it costs.
    pub(crate) fn deletion_cost(&self) -> i64 {
        self.pods
            .iter()
            .fold(0, |sum: i64, pod| sum.saturating_add(pod.deletion_cost))
    }
}
