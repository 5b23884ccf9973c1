//! What a plan removes.

use super::super::action::{Action, Pods, Reason, Target, Unit};
use super::super::group::Instance;
use super::super::metadata;
use super::super::observe::{Child, Pod};
use super::Draft;

impl Draft<'_> {
    /// Removes a group: its pods, then what goes with them. Pods come first because that they go can be seen, so whoever
    /// takes over knows.
    pub(in super::super) fn delete_group(&mut self, ordinal: u32, reason: Reason) {
        let Some(group) = self.groups.get(&ordinal).cloned() else {
            return;
        };
        if !self.doomed.insert(ordinal) {
            return;
        }
        let unit = Unit {
            group: ordinal,
            instance: None,
        };
        let labels = metadata::of_group(self.serving, ordinal);
        let in_group = |pod: &Pod| pod.group == ordinal;
        self.delete_pods(unit, reason, group.live_pods().collect(), &labels, in_group);
        if let Some(pod_group) = group.pod_group {
            self.delete_pod_group(pod_group);
        }
        for (_, _, instance) in group.instances() {
            self.delete_service(instance);
        }
    }

    /// Removes an instance: its pods, then its Service.
    pub(in super::super) fn delete_instance(&mut self, group: u32, role: &str, ordinal: u32, reason: Reason) {
        let all = self.groups.get(&group).and_then(|group| group.roles.get(role));
        let Some(instance) = all.and_then(|all| all.get(&ordinal)).cloned() else {
            return;
        };
        if !self.doomed_instances.insert((group, role.to_owned(), ordinal)) {
            return;
        }
        let unit = Unit {
            group,
            instance: Some((role.to_owned(), ordinal)),
        };
        let labels = metadata::of_instance(self.serving, group, role, ordinal);
        let in_instance = |pod: &Pod| pod.group == group && pod.role == role && pod.instance == ordinal;
        self.delete_pods(unit, reason, instance.live().collect(), &labels, in_instance);
        self.delete_service(&instance);
    }

    fn delete_pods(
        &mut self,
        unit: Unit,
        reason: Reason,
        live: Vec<&Pod>,
        labels: &metadata::Labels,
        is_selected: impl Fn(&Pod) -> bool,
    ) {
        if live.is_empty() {
            return;
        }
        let uid = self.serving.metadata.uid.as_deref();
        let only_ours = (self.observed.pods.iter())
            .filter(|pod| is_selected(pod))
            .all(|pod| pod.owner.as_deref() == uid);
        self.deletions.push(Action::DeletePods(Pods {
            unit,
            reason,
            pods: live
                .into_iter()
                .map(|pod| Target {
                    name: pod.name.clone(),
                    uid: pod.uid.clone(),
                })
                .collect(),
            selector: only_ours.then(|| metadata::selector(labels)),
        }));
    }

    pub(in super::super) fn delete_pod_group(&mut self, pod_group: &Child) {
        if let Some(target) = target(pod_group) {
            self.deletions.push(Action::DeletePodGroup(target));
        }
    }

    pub(in super::super) fn delete_service(&mut self, instance: &Instance<'_>) {
        if let Some(target) = instance.service.and_then(target) {
            self.deletions.push(Action::DeleteService(target));
        }
    }
}

pub(in super::super) fn target(child: &Child) -> Option<Target> {
    (!child.is_terminating).then(|| Target {
        name: child.name.clone(),
        uid: child.uid.clone(),
    })
}
