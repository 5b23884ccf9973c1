//! What is inside of a ServingGroup: instances of roles, their pods and Services.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use kthena_api::model_serving::Role;

use super::action::{Action, Reason};
use super::draft::Draft;
use super::group::{Group, Status};
use super::limit::Recovery;
use super::{limit, recovery, rollout, scale, service};

/// Brings every group that stays to what it is to have.
pub(super) fn maintain(draft: &mut Draft<'_>) {
    let groups: Vec<Group<'_>> = draft.staying().cloned().collect();
    for group in &groups {
        let frame = draft.frame(group.ordinal);
        for (role, wanted) in &frame.roles {
            recover(draft, group, role);
            if draft.limits.by_role && !draft.limits.paused && !draft.is_protected(group.ordinal) {
                for ordinal in rollout::instances(draft, group, role) {
                    draft.delete_instance(group.ordinal, &role.name, ordinal, Reason::Rollout);
                }
            }
            down(draft, group, role, *wanted);
            up(draft, group, role, *wanted, &frame.revision);
            complete(draft, group, role);
            services(draft, group, role);
        }
        remove_others(draft, group, &frame.roles);
    }
    collect_leftovers(draft);
}

fn recover(draft: &mut Draft<'_>, group: &Group<'_>, role: &Role) {
    for (ordinal, instance) in group.of_role(&role.name) {
        let size = instance.size(role, draft.revisions);
        if recovery::is_broken(draft, instance, size) {
            draft.delete_instance(group.ordinal, &role.name, ordinal, Reason::Recovery);
        }
    }
}

/// Removes instances beyond what is wanted, in the order in which groups are removed.
fn down(draft: &mut Draft<'_>, group: &Group<'_>, role: &Role, wanted: u32) {
    let had = draft.established.instances(group.ordinal, &role.name);
    if draft.recovers(Recovery::Group) && had.is_some_and(|had| had > wanted) {
        // The status is corrected first, so that what goes now is not taken for a loss by anybody.
        return;
    }
    let partition = if draft.limits.by_role {
        limit::role_partition(role)
    } else {
        0
    };
    let mut candidates: Vec<_> = group
        .of_role(&role.name)
        .filter(|(_, instance)| instance.live().next().is_some())
        .filter(|(ordinal, _)| !draft.is_doomed(group.ordinal, &role.name, *ordinal))
        .map(|(ordinal, instance)| {
            let is_running = instance.status(role, draft.revisions) == Status::Running;
            (
                ordinal < partition,
                is_running,
                instance.deletion_cost(),
                Reverse(ordinal),
            )
        })
        .collect();
    let surplus = candidates.len().saturating_sub(wanted as usize);
    candidates.sort_unstable();
    for (_, _, _, Reverse(ordinal)) in candidates.into_iter().take(surplus) {
        draft.delete_instance(group.ordinal, &role.name, ordinal, Reason::ScaleDown);
    }
}

/// Makes instances that are missing.
fn up(draft: &mut Draft<'_>, group: &Group<'_>, role: &Role, wanted: u32, revision: &str) {
    let there: BTreeSet<u32> = group
        .of_role(&role.name)
        .filter(|(_, instance)| !instance.is_empty())
        .map(|(ordinal, _)| ordinal)
        .collect();
    let missing = (wanted as usize).saturating_sub(there.len());
    let ordinals: Vec<u32> =
        scale::missing_ordinals(0..wanted, missing, |ordinal| !there.contains(ordinal)).collect();
    for ordinal in ordinals {
        let kept = (draft.limits.by_role && ordinal < limit::role_partition(role))
            .then(|| kept_revision(draft, role))
            .flatten();
        match kept {
            Some((revision, role)) => draft.create_instance(group.ordinal, &role, ordinal, &revision),
            None => draft.create_instance(group.ordinal, role, ordinal, revision),
        }
    }
}

/// The revision that instances below the role's partition keep, and the role as it was in it: the one that the status calls current, or,
/// where that is the target, the latest before it.
fn kept_revision(draft: &Draft<'_>, role: &Role) -> Option<(String, Role)> {
    let status = draft.serving.status.as_ref();
    let current = status.and_then(|status| status.current_revision.as_deref());
    let target = draft.revisions.target();
    let name = current
        .filter(|current| *current != target && draft.revisions.stored_template(current).is_some())
        .or_else(|| draft.revisions.latest_before_target())?;
    let role = draft.revisions.stored_template(name)?.role(&role.name)?;
    Some((name.to_owned(), role.clone()))
}

/// Makes pods that are missing in instances which stay, as they were made from.
fn complete(draft: &mut Draft<'_>, group: &Group<'_>, role: &Role) {
    for (ordinal, instance) in group.of_role(&role.name) {
        if instance.live().next().is_none() || draft.is_doomed(group.ordinal, &role.name, ordinal) {
            continue;
        }
        let Some(revision) = instance.revision() else {
            continue;
        };
        let Some(own) = draft
            .revisions
            .template(revision)
            .and_then(|it| it.role(&role.name))
        else {
            // Nobody knows what it was made from. It will be replaced.
            continue;
        };
        let (own, revision) = (own.clone(), revision.to_owned());
        let there: BTreeSet<u32> = instance.pods.iter().map(|pod| pod.index).collect();
        let missing = (0..super::pod::count(&own)).filter(|index| !there.contains(index));
        draft.create_pods(group.ordinal, &own, ordinal, &revision, missing);
    }
}

/// Makes the Services of instances whose pods are all there, and removes those that no pod asks for.
fn services(draft: &mut Draft<'_>, group: &Group<'_>, role: &Role) {
    for (ordinal, instance) in group.of_role(&role.name) {
        if draft.is_doomed(group.ordinal, &role.name, ordinal) || instance.live().next().is_none() {
            continue;
        }
        let own = instance
            .revision()
            .and_then(|revision| draft.revisions.template(revision)?.role(&role.name));
        if !service::is_wanted(own.unwrap_or(role)) {
            draft.delete_service(instance);
            continue;
        }
        let is_whole = instance.live().count() >= instance.size(role, draft.revisions) as usize;
        if is_whole && draft.is_service_free(group.ordinal, &role.name, ordinal) {
            let service = service::service(draft.serving, group.ordinal, &role.name, ordinal);
            draft.creations.push(Action::CreateService(Box::new(service)));
        }
    }
}

/// Removes instances of roles that the group is not to have: roles that were taken out of the spec, where roles are replaced one by one or
/// the group is of the target otherwise.
fn remove_others(draft: &mut Draft<'_>, group: &Group<'_>, roles: &[(&Role, u32)]) {
    let is_other = |name: &str| roles.iter().all(|(role, _)| role.name != name);
    if draft.limits.paused || (!draft.limits.by_role && draft.is_outdated(group)) {
        return;
    }
    let others = group.instances().filter(|(role, _, _)| is_other(role));
    for (role, ordinal, _) in others {
        draft.delete_instance(group.ordinal, role, ordinal, Reason::Rollout);
    }
}

/// Removes what is left of groups and instances that are gone: Services and PodGroups without pods.
fn collect_leftovers(draft: &mut Draft<'_>) {
    let groups: Vec<Group<'_>> = draft.groups.values().cloned().collect();
    for group in &groups {
        if draft.doomed.contains(&group.ordinal) {
            continue;
        }
        let stays = group.exists() && !group.is_deleting();
        let comes = draft.coming.contains_key(&group.ordinal);
        for (role, ordinal, instance) in group.instances() {
            let is_bare = instance.live().next().is_none() && instance.service.is_some();
            // One that is about to be made anew has seen to it.
            let is_replaced =
                draft.is_doomed(group.ordinal, role, ordinal) || draft.creates(group.ordinal, role, ordinal);
            if is_bare && !is_replaced {
                draft.delete_service(instance);
            }
        }
        if let Some(pod_group) = group.pod_group.filter(|_| !stays && !comes) {
            draft.delete_pod_group(pod_group);
        }
    }
}
