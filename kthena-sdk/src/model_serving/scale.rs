//! How many ServingGroups there are: which come, and which go.
//!
//! Besides those that are asked for there may be some for the time of a rollout, which take the place of groups that are being replaced. They
//! have ordinals of their own, and go once all others are back.

use std::cmp::Reverse;

use super::action::Reason;
use super::draft::Draft;
use super::group::{Group, Status};
use super::limit::Recovery;

/// How many groups there may be for the time of a rollout.
fn surge(draft: &Draft<'_>) -> usize {
    let limit = draft.limits.max_surge as usize;
    let of_surge = |group: &&Group<'_>| draft.is_surge(group.ordinal);
    let there = draft.staying().filter(of_surge).count().min(limit);
    if draft.limits.by_role || limit == 0 {
        return 0;
    }
    if draft.limits.paused {
        return there;
    }
    let is_unprotected = |group: &&Group<'_>| !draft.is_protected(group.ordinal);
    let outdated = draft
        .staying()
        .filter(is_unprotected)
        .filter(|group| draft.is_outdated(group))
        .count();
    if outdated > 0 {
        return outdated.min(limit).max(there);
    }
    let others = draft.staying().filter(|group| !draft.is_surge(group.ordinal));
    let running = others
        .filter(|group| draft.status(group) == Status::Running)
        .count()
        + draft.without_pods();
    if running < draft.limits.replicas as usize {
        there
    } else {
        0
    }
}

/// Removes groups that are too many: those that do not run first, then the cheapest, then the last; protected ones after all others.
pub(super) fn down(draft: &mut Draft<'_>) {
    let surge = surge(draft);
    remove(draft, surge, true);
    remove(draft, draft.limits.replicas as usize, false);
}

fn remove(draft: &mut Draft<'_>, limit: usize, of_surge: bool) {
    let mut candidates: Vec<_> = draft
        .staying()
        .filter(|group| draft.is_surge(group.ordinal) == of_surge)
        .map(|group| {
            (
                draft.is_protected(group.ordinal),
                draft.status(group) == Status::Running,
                group.deletion_cost(),
                Reverse(group.ordinal),
            )
        })
        .collect();
    let surplus = candidates.len().saturating_sub(limit);
    candidates.sort_unstable();
    for (.., Reverse(ordinal)) in candidates.into_iter().take(surplus) {
        draft.delete_group(ordinal, Reason::ScaleDown);
    }
}

/// Makes groups that are missing, from the lowest free ordinal on. One that is being deleted keeps its ordinal until it is gone.
pub(super) fn up(draft: &mut Draft<'_>) {
    let replicas = draft.limits.replicas;
    let surge = surge(draft);
    let count = |of_surge: bool| {
        let there = draft.groups.values().filter(|group| group.exists());
        there
            .filter(|group| draft.is_surge(group.ordinal) == of_surge)
            .count()
    };
    let is_free = |ordinal: &u32| !draft.groups.get(ordinal).is_some_and(Group::exists);
    let missing = (replicas as usize).saturating_sub(count(false));
    let more = surge.saturating_sub(count(true));
    let mut ordinals: Vec<u32> = missing_ordinals(0..replicas, missing, is_free).collect();
    ordinals.extend(missing_ordinals(replicas..u32::MAX, more, is_free));
    for ordinal in ordinals {
        if draft.recovers(Recovery::Group) && draft.established.0.contains_key(&ordinal) {
            // The status still speaks of the group that was here. Until that is corrected, what is made now would look like its rest.
            draft.postponed.insert(ordinal);
            continue;
        }
        let frame = draft.frame(ordinal);
        for (role, instances) in &frame.roles {
            for instance in 0..*instances {
                draft.create_instance(ordinal, role, instance, &frame.revision);
            }
        }
        draft.coming.insert(ordinal, frame);
    }
}

/// The first free ordinals of a range.
pub(super) fn missing_ordinals(
    range: std::ops::Range<u32>,
    count: usize,
    is_free: impl Fn(&u32) -> bool,
) -> impl Iterator<Item = u32> {
    range.filter(is_free).take(count)
}
