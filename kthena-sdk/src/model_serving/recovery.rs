//! What happens when a pod fails or is lost.

use super::action::Reason;
use super::draft::Draft;
use super::group::{Group, Instance};
use super::limit::Recovery;
use super::observe::Pod;

/// With the policy for groups: removes those that are broken.
pub(super) fn groups(draft: &mut Draft<'_>) {
    if !draft.recovers(Recovery::Group) {
        return;
    }
    let all: Vec<Group<'_>> = draft.staying().cloned().collect();
    for group in all {
        let live: Vec<&Pod> = group.live_pods().collect();
        let failed = draft.has_failed(live);
        if failed || has_lost_pods(draft, &group) {
            draft.delete_group(group.ordinal, Reason::Recovery);
        }
    }
}

/// Whether pods that a group has had, and is to keep, are gone or going.
fn has_lost_pods(draft: &Draft<'_>, group: &Group<'_>) -> bool {
    let frame = draft.frame(group.ordinal);
    frame.roles.iter().any(|(role, wanted)| {
        let whole = group.whole_instances(role, draft.revisions);
        let going = group
            .of_role(&role.name)
            .any(|(_, instance)| instance.is_losing_pods());
        let live = group
            .of_role(&role.name)
            .filter(|(_, instance)| instance.live().next().is_some())
            .count();
        match draft.established.instances(group.ordinal, &role.name) {
            // Fewer are asked for than there have been: those may go.
            Some(had) => whole < had.min(*wanted) as usize,
            // It has never been complete, but somebody removes what it has.
            None => going && live < *wanted as usize,
        }
    })
}

/// With the policy for roles: whether an instance is broken and has to be made anew as a whole.
pub(super) fn is_broken(draft: &mut Draft<'_>, instance: &Instance<'_>, size: u32) -> bool {
    if !draft.recovers(Recovery::Role) {
        return false;
    }
    let live: Vec<&Pod> = instance.live().collect();
    if live.is_empty() {
        return false;
    }
    let is_going = instance.is_losing_pods();
    // The Service is made once all pods are there.
    let has_been_whole = instance.service.is_some_and(|service| !service.is_terminating);
    let has_lost = has_been_whole && live.len() < size as usize;
    let failed = draft.has_failed(live);
    failed || is_going || has_lost
}
