//! A plan while it is being made: what there is, what is about to go, what is to come.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use kthena_api::ModelServing;
use kthena_api::model_serving::Role;

use super::action::Action;
use super::disruption::Budget;
use super::established;
use super::gang::{self, PodGroup};
use super::group::{self, Frame, Group, Status};
use super::limit::{self, Limits, Recovery};
use super::observe::{Child, Pod, PodState};
use super::plugin::{self, Chain};
use super::revision::{Revision, Revisions};

mod make;
mod remove;

pub(super) use remove::target;

/// What there is of a ModelServing: everything that carries its label, whoever owns it.
///
/// ```
/// use kthena_sdk::model_serving::Observed;
///
/// let nothing = Observed::default();
/// assert!(nothing.pods.is_empty() && nothing.gang.is_none());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Pods.
    pub pods: Vec<Pod>,
    /// Services.
    pub services: Vec<Child>,
    /// PodGroups.
    pub pod_groups: Vec<PodGroup>,
    /// PodDisruptionBudgets.
    pub budgets: Vec<Budget>,
    /// ControllerRevisions.
    pub revisions: Vec<Revision>,
    /// What PodGroups can do; `None` in a cluster that does not know them.
    pub gang: Option<gang::Support>,
}

/// A plan while it is being made.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) serving: &'a ModelServing,
    pub(super) name: &'a str,
    pub(super) observed: &'a Observed,
    pub(super) limits: Limits,
    pub(super) revisions: &'a Revisions<'a>,
    pub(super) groups: BTreeMap<u32, Group<'a>>,
    pub(super) established: established::Record,
    pub(super) now: Timestamp,
    /// Groups that are about to go.
    pub(super) doomed: BTreeSet<u32>,
    /// Instances that are about to go, in groups that stay.
    pub(super) doomed_instances: BTreeSet<(u32, String, u32)>,
    /// Groups that are about to come, with their frames.
    pub(super) coming: BTreeMap<u32, Frame<'a>>,
    /// Groups that are missing and come with a later plan.
    pub(super) postponed: BTreeSet<u32>,
    pub(super) deletions: Vec<Action>,
    pub(super) creations: Vec<Action>,
    /// When to look again although nothing has changed.
    pub(super) wake_at: Option<Timestamp>,
    /// What keeps pods from being made, in words.
    pub(super) problems: BTreeSet<String>,
    plugins: Option<Chain<'a>>,
    taken: BTreeSet<&'a str>,
    taken_services: BTreeSet<&'a str>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        serving: &'a ModelServing,
        observed: &'a Observed,
        revisions: &'a Revisions<'a>,
        plugins: &plugin::Registry,
        now: Timestamp,
    ) -> Self {
        let mut limits = Limits::of(serving);
        let mut problems = BTreeSet::new();
        let plugins = match plugins.chain(&serving.spec.plugins) {
            Ok(chain) => Some(chain),
            Err(error) => {
                problems.insert(error.to_string());
                // Nothing could take the place of what a rollout removes.
                limits.paused = true;
                None
            }
        };
        let uid = serving.metadata.uid.as_deref().unwrap_or_default();
        let pod_groups = observed.pod_groups.iter().map(|it| &it.child);
        Self {
            serving,
            name: serving.metadata.name.as_deref().unwrap_or_default(),
            observed,
            limits,
            revisions,
            groups: group::groups(uid, &observed.pods, &observed.services, pod_groups),
            established: established::Record::of(serving),
            now,
            doomed: BTreeSet::new(),
            doomed_instances: BTreeSet::new(),
            coming: BTreeMap::new(),
            postponed: BTreeSet::new(),
            deletions: Vec::new(),
            creations: Vec::new(),
            wake_at: None,
            problems,
            plugins,
            taken: observed.pods.iter().map(|pod| pod.name.as_str()).collect(),
            taken_services: observed.services.iter().map(|it| it.name.as_str()).collect(),
        }
    }

    /// Whether groups have PodGroups.
    pub(super) fn in_pod_groups(&self) -> bool {
        self.observed.gang.is_some() && gang::is_wanted(self.serving)
    }

    /// Whether a group keeps its revision.
    pub(super) const fn is_protected(&self, group: u32) -> bool {
        group < self.limits.partition
    }

    /// Whether a group is, or will be, there for the time of a rollout only. One whose ordinal is asked for by now stays.
    pub(super) fn is_surge(&self, ordinal: u32) -> bool {
        let made_so = self
            .groups
            .get(&ordinal)
            .filter(|group| group.exists())
            .map(Group::is_surge);
        ordinal >= self.limits.replicas && made_so.unwrap_or(true)
    }

    /// The revision of a group.
    pub(super) fn revision_of(&self, group: &Group<'_>) -> String {
        group.revision(self.revisions, self.limits.by_role)
    }

    /// Whether a group is of another revision than the one that is asked for.
    pub(super) fn is_outdated(&self, group: &Group<'_>) -> bool {
        self.revision_of(group) != self.revisions.target() || self.has_removed_roles(group)
    }

    fn has_removed_roles(&self, group: &Group<'_>) -> bool {
        let target = self.revisions.target_template();
        let mut roles = group.roles.iter().filter(|(role, _)| target.role(role).is_none());
        roles.any(|(_, all)| all.values().any(|instance| instance.live().next().is_some()))
    }

    /// What a group is to have; that of a missing one where there is none.
    pub(super) fn frame(&self, ordinal: u32) -> Frame<'a> {
        if let Some(frame) = self.coming.get(&ordinal) {
            return frame.clone();
        }
        let group = self.groups.get(&ordinal).filter(|group| group.exists());
        let target = || Frame {
            revision: self.revisions.target().to_owned(),
            roles: counted(&self.serving.spec.template.roles),
        };
        if self.is_protected(ordinal) {
            let current = self
                .serving
                .status
                .as_ref()
                .and_then(|status| status.current_revision.clone());
            let revision = group
                .map(|group| self.revision_of(group))
                .or(current)
                .unwrap_or_default();
            return match self.revisions.stored_template(&revision) {
                Some(template) => Frame {
                    roles: counted(&template.0),
                    revision,
                },
                None => target(),
            };
        }
        let Some(group) = group.filter(|_| !self.limits.by_role) else {
            return target();
        };
        let revision = self.revision_of(group);
        let template = self
            .revisions
            .stored_template(&revision)
            .filter(|_| revision != self.revisions.target());
        let Some(template) = template else {
            return target();
        };
        // How many there are is the present number; what they are is as it was.
        let wanted = &self.serving.spec.template.roles;
        let count = |role: &Role| {
            let present = wanted.iter().find(|wanted| wanted.name == role.name);
            limit::instances(present.unwrap_or(role))
        };
        Frame {
            roles: template.0.iter().map(|role| (role, count(role))).collect(),
            revision,
        }
    }

    /// How a group does, or will do once what is planned has been done.
    pub(super) fn status(&self, group: &Group<'_>) -> Status {
        if self.doomed.contains(&group.ordinal) {
            return Status::Deleting;
        }
        group.status(&self.frame(group.ordinal), self.revisions)
    }

    /// Groups that are there and stay.
    pub(super) fn staying(&self) -> impl Iterator<Item = &Group<'a>> {
        self.groups
            .values()
            .filter(|group| group.exists() && !group.is_deleting() && !self.doomed.contains(&group.ordinal))
    }

    /// How many protected groups are to have no pods, so that nothing is seen of them: they are available all the same.
    pub(super) fn without_pods(&self) -> usize {
        let protected = self.limits.partition.min(self.limits.replicas);
        let there = |ordinal: &u32| self.groups.get(ordinal).is_some_and(Group::exists);
        let missing = (0..protected).find(|ordinal| !there(ordinal));
        if !missing.is_some_and(|ordinal| self.frame(ordinal).is_empty()) {
            return 0;
        }
        let there = self.groups.range(..protected).filter(|(_, group)| group.exists());
        (protected as usize).saturating_sub(there.count())
    }

    /// Looks again at this time, or earlier.
    pub(super) fn wake_at(&mut self, time: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(time, |earlier| earlier.min(time)));
    }

    /// Whether an instance is about to go.
    pub(super) fn is_doomed(&self, group: u32, role: &str, instance: u32) -> bool {
        self.doomed.contains(&group)
            || self
                .doomed_instances
                .contains(&(group, role.to_owned(), instance))
    }

    /// How a group does once what is planned has been done: one of whose instances some are to go is no longer whole.
    pub(super) fn status_after(&self, group: &Group<'_>) -> Status {
        let status = self.status(group);
        let loses = self
            .doomed_instances
            .iter()
            .any(|(of, _, _)| *of == group.ordinal);
        match status {
            Status::Running if loses => Status::Scaling,
            status => status,
        }
    }

    /// Whether pods are made anew as a whole when one of them is lost.
    pub(super) fn recovers(&self, recovery: Recovery) -> bool {
        self.limits.recovery == recovery
    }

    /// Whether one of these pods has failed for so long that it will not be waited for any more.
    pub(super) fn has_failed<'p>(&mut self, pods: impl IntoIterator<Item = &'p Pod>) -> bool {
        let grace = k8s_openapi::jiff::SignedDuration::from_secs(self.limits.grace_seconds);
        let mut failed = false;
        for pod in pods {
            let PodState::Failed { since } = pod.state else {
                continue;
            };
            let deadline = since.saturating_add(grace).unwrap_or(since);
            if deadline <= self.now {
                failed = true;
            } else {
                self.wake_at(deadline);
            }
        }
        failed
    }
}

fn counted(roles: &[Role]) -> Vec<(&Role, u32)> {
    roles.iter().map(|role| (role, limit::instances(role))).collect()
}
