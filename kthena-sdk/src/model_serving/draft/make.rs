//! What a plan makes.

use kthena_api::model_serving::Role;
use kthena_api::name::Serving;

use super::super::action::{Action, NewPod, Unit};
use super::super::pod::{self, Place};
use super::super::template;
use super::Draft;

impl Draft<'_> {
    /// Makes pods of an instance: those of these indices whose names are free; none where a plugin refuses one.
    pub(in super::super) fn create_pods(
        &mut self,
        group: u32,
        role: &Role,
        instance: u32,
        revision: &str,
        indices: impl IntoIterator<Item = u32>,
    ) {
        let own_hash;
        let role_hash = match self.revisions.role_hash(&role.name) {
            Some(hash) if revision == self.revisions.target() => hash,
            _ => {
                own_hash = template::role_hash(role);
                &own_hash
            }
        };
        let Some(plugins) = &self.plugins else {
            return;
        };
        let mut made = Vec::new();
        for index in indices {
            let place = Place {
                serving: self.serving,
                group,
                role,
                instance,
                index,
                revision,
                role_hash,
                in_pod_group: self.in_pod_groups(),
                is_surge: self.is_surge(group),
            };
            if self.taken.contains(place.name().as_str()) {
                // It is being deleted, or somebody else's. Its end will be seen.
                continue;
            }
            let mut pod = place.pod();
            if let Err(error) = plugins.adjust(&place, &mut pod) {
                self.problems.insert(error.to_string());
                return;
            }
            let unit = Unit {
                group,
                instance: Some((role.name.clone(), instance)),
            };
            made.push(Action::CreatePod(Box::new(NewPod { unit, index, pod })));
        }
        self.creations.append(&mut made);
    }

    /// Makes all pods of an instance that has none. A Service that is left of an earlier one goes first: it would say that all pods
    /// had been there.
    pub(in super::super) fn create_instance(
        &mut self,
        group: u32,
        role: &Role,
        instance: u32,
        revision: &str,
    ) {
        let left = self
            .groups
            .get(&group)
            .and_then(|it| it.roles.get(role.name.as_str()));
        if let Some(left) = left.and_then(|all| all.get(&instance)).cloned() {
            self.delete_service(&left);
        }
        self.create_pods(group, role, instance, revision, 0..pod::count(role));
    }

    /// Whether the Service of an instance could be made: nobody has its name.
    pub(in super::super) fn is_service_free(&self, group: u32, role: &str, instance: u32) -> bool {
        let name = Serving(self.name).service(group, role, instance);
        !self.taken_services.contains(name.as_str())
    }

    /// Whether pods of an instance are about to be made.
    pub(in super::super) fn creates(&self, group: u32, role: &str, instance: u32) -> bool {
        self.creations.iter().any(|action| match action {
            Action::CreatePod(new) => {
                let place = new.unit.instance.as_ref();
                new.unit.group == group && place.is_some_and(|(name, it)| name == role && *it == instance)
            }
            _ => false,
        })
    }
}
