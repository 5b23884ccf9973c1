//! Replacing what is not of the revision that is asked for.

use std::cmp::Reverse;

use kthena_api::model_serving::Role;

use super::action::Reason;
use super::draft::Draft;
use super::group::{Group, Status};
use super::limit;

/// Removes groups that are to be replaced, so that because of it never fewer than `replicas - maxUnavailable` are available. Groups that
/// are down anyway go first, then the last ones.
pub(super) fn groups(draft: &mut Draft<'_>) {
    if draft.limits.by_role || draft.limits.paused {
        return;
    }
    let (mut down, mut running) = (Vec::new(), Vec::new());
    let (mut available, mut starting) = (len(draft.without_pods()), 0);
    let mut staying = 0;
    for group in draft.staying() {
        staying += 1;
        let is_running = draft.status(group) == Status::Running;
        available += i64::from(is_running);
        let is_outdated = draft.is_outdated(group);
        if draft.is_protected(group.ordinal) {
            continue;
        }
        match (is_outdated, is_running) {
            (true, true) => running.push(group.ordinal),
            (true, false) => down.push(group.ordinal),
            (false, _) => starting += i64::from(!is_running),
        }
    }
    let all = draft.groups.values().filter(|group| group.exists()).count();
    let going = len(all) - staying;
    let unavailable = i64::from(draft.limits.max_unavailable);
    // Groups that are down may yet come up, so they are counted as if they did.
    let budget = available + len(down.len()) - (i64::from(draft.limits.replicas) - unavailable);
    // Whatever else is down, as many as may be unavailable are started anew: where they are broken, waiting would not help.
    let broken = budget.max(unavailable - going - starting);
    let healthy = budget - len(down.len());
    for (mut ordinals, count) in [(down, broken), (running, healthy)] {
        ordinals.sort_unstable_by_key(|ordinal| Reverse(*ordinal));
        let count = usize::try_from(count).unwrap_or(0);
        for ordinal in ordinals.into_iter().take(count) {
            draft.delete_group(ordinal, Reason::Rollout);
        }
    }
}

fn len(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Instances of a role in a group that are to be replaced now, so that never fewer than `replicas - maxUnavailable` are available because
/// of it.
pub(super) fn instances(draft: &Draft<'_>, group: &Group<'_>, role: &Role) -> Vec<u32> {
    let partition = limit::role_partition(role);
    let (mut outdated, mut all, mut starting) = (Vec::new(), 0, 0);
    for (ordinal, instance) in group.of_role(&role.name) {
        if instance.is_empty() {
            continue;
        }
        all += 1;
        let status = instance.status(role, draft.revisions);
        if status == Status::Deleting || draft.is_doomed(group.ordinal, &role.name, ordinal) {
            starting += 1;
            continue;
        }
        let is_outdated = instance
            .live()
            .any(|pod| draft.revisions.is_current(pod) == Some(false));
        if !is_outdated {
            starting += i64::from(status != Status::Running);
        } else if ordinal >= partition {
            outdated.push((status == Status::Running, Reverse(ordinal)));
        }
    }
    outdated.sort_unstable();
    let budget = match limit::role_unavailable(role) {
        None if role.max_unavailable.is_some() => 0,
        None => len(outdated.len()),
        Some(unavailable) => {
            let needed = i64::from(limit::instances(role).saturating_sub(unavailable));
            all - needed - starting
        }
    };
    let count = usize::try_from(budget).unwrap_or(0);
    outdated
        .into_iter()
        .take(count)
        .map(|(_, Reverse(ordinal))| ordinal)
        .collect()
}
