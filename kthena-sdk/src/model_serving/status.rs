//! The status of a ModelServing.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kthena_api::condition::{self, model_serving as types};
use kthena_api::name::role_instance;
use kthena_api::{ModelServing, ModelServingStatus, labels};

use super::draft::Draft;
use super::established::{self, Record};
use super::failure::Cause;
use super::group::{Group, Status};
use super::limit::Recovery;
use super::metadata;

/// Causes that a message shows.
const CAUSES: usize = 3;

/// A group as the status sees it.
struct Row {
    ordinal: u32,
    revision: String,
    status: Status,
}

/// The status once the plan is done.
pub(super) fn of(draft: &Draft<'_>) -> ModelServingStatus {
    let old = draft.serving.status.clone().unwrap_or_default();
    let target = draft.revisions.target().to_owned();
    let rows = rows(draft);
    let live = || rows.iter().filter(|row| row.status != Status::Deleting);
    let updated = live().filter(|row| row.revision == target).count();
    let outdated = live().filter(|row| row.revision != target).count();
    let available = rows.iter().filter(|row| row.status == Status::Running).count();
    let replicas = draft.limits.replicas as usize;
    let is_settled = draft.limits.partition == 0 && [updated, available, rows.len()] == [replicas; 3];
    let mut status = ModelServingStatus {
        observed_generation: draft.serving.metadata.generation,
        replicas: Some(number(rows.len())),
        current_replicas: Some(number(if is_settled { updated } else { outdated })),
        updated_replicas: Some(number(updated)),
        available_replicas: Some(number(available)),
        current_revision: Some(current_revision(draft, &rows, old.current_revision.as_deref())),
        update_revision: Some(target),
        label_selector: Some(label_selector(draft.serving)),
        established_groups: established(draft).to_status(),
        conditions: old.conditions,
    };
    set_conditions(draft, &rows, outdated, &mut status.conditions);
    let problems: Vec<&str> = draft.problems.iter().map(String::as_str).collect();
    set_failure(
        &mut status.conditions,
        draft.serving.metadata.generation,
        types::PLUGIN_FAILED,
        (!problems.is_empty()).then(|| problems.join("; ")),
        draft.now,
    );
    status
}

fn rows(draft: &Draft<'_>) -> Vec<Row> {
    let there = draft.groups.values().filter(|group| group.exists());
    let mut rows: Vec<Row> = there
        .map(|group| Row {
            ordinal: group.ordinal,
            revision: draft.revision_of(group),
            status: draft.status_after(group),
        })
        .collect();
    rows.extend(draft.coming.iter().map(|(ordinal, frame)| Row {
        ordinal: *ordinal,
        revision: frame.revision.clone(),
        // One that is to have no pods has all of them.
        status: match frame.is_empty() {
            true => Status::Running,
            false => Status::Creating,
        },
    }));
    rows.extend(draft.postponed.iter().map(|ordinal| Row {
        ordinal: *ordinal,
        revision: draft.frame(*ordinal).revision,
        status: Status::Creating,
    }));
    rows.sort_by_key(|row| row.ordinal);
    rows
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The revision that groups are moving away from: the one there was, as long as a group has it; else the most frequent one.
fn current_revision(draft: &Draft<'_>, rows: &[Row], old: Option<&str>) -> String {
    let target = draft.revisions.target();
    let mut counts = BTreeMap::<&str, usize>::new();
    for row in rows
        .iter()
        .filter(|row| row.status != Status::Deleting && row.revision != target)
    {
        *counts.entry(&row.revision).or_default() += 1;
    }
    if let Some(old) = old.filter(|old| counts.contains_key(old)) {
        return old.to_owned();
    }
    let oldest_first = |name: &str| std::cmp::Reverse((draft.revisions.number(name), name.to_owned()));
    let most = counts
        .into_iter()
        .max_by_key(|(name, count)| (*count, oldest_first(name)));
    most.map_or(target, |(name, _)| name).to_owned()
}

/// Selects the entry pod of the first role's first instance in each group: an autoscaler divides by the pods that it selects.
fn label_selector(serving: &ModelServing) -> String {
    let mut all = metadata::of_serving(serving);
    all.insert(labels::ENTRY.into(), labels::TRUE.into());
    if let Some(role) = serving.spec.template.roles.first() {
        all.insert(labels::ROLE.into(), role.name.clone());
        all.insert(labels::ROLE_ID.into(), role_instance(&role.name, 0));
    }
    metadata::selector(&all)
}

/// Groups that stay and are complete now, or have been. The status is written when the plan is done, so those that are to go are going by then.
fn established(draft: &Draft<'_>) -> Record {
    if !draft.recovers(Recovery::Group) {
        return Record::default();
    }
    let mut record = Record::default();
    for group in draft.staying() {
        if let Some(roles) = established_roles(draft, group) {
            record.0.insert(group.ordinal, roles);
        }
    }
    record
}

fn established_roles(draft: &Draft<'_>, group: &Group<'_>) -> Option<BTreeMap<String, i32>> {
    let known = draft.established.0.get(&group.ordinal);
    group.live_pods().next()?;
    let frame = draft.frame(group.ordinal);
    let counts: Vec<(&str, usize, usize)> = frame
        .roles
        .iter()
        .map(|(role, wanted)| {
            let whole = group.whole_instances(role, draft.revisions);
            (role.name.as_str(), whole, *wanted as usize)
        })
        .collect();
    let is_complete = counts.iter().all(|(_, whole, wanted)| whole >= wanted);
    if !is_complete && known.is_none() {
        return None;
    }
    let had = |role: &str| known.and_then(|known| known.get(role)).copied().unwrap_or(0);
    let roles = counts
        .into_iter()
        .map(|(role, whole, wanted)| (role.to_owned(), number(whole).max(had(role)).min(number(wanted))));
    Some(roles.collect())
}

/// Exactly one type holds.
fn set_conditions(draft: &Draft<'_>, rows: &[Row], outdated: usize, conditions: &mut Vec<Condition>) {
    let progressing: Vec<u32> = rows
        .iter()
        .filter(|row| row.status != Status::Running)
        .map(|row| row.ordinal)
        .collect();
    let target = draft.revisions.target();
    let updated = rows
        .iter()
        .filter(|row| row.status != Status::Deleting && row.revision == target);
    let list = |ordinals: &[u32]| format!("[{}]", established::ranges(ordinals).replace(',', " "));
    let waiting = format!("Some groups is progressing: {}", list(&progressing));
    let (holds, reason, message) = if progressing.is_empty() {
        (
            types::AVAILABLE,
            types::ALL_GROUPS_READY,
            "All Serving groups are ready".to_owned(),
        )
    } else if outdated > draft.limits.partition as usize {
        let updated: Vec<u32> = updated.map(|row| row.ordinal).collect();
        (
            types::UPDATE_IN_PROGRESS,
            types::GROUPS_UPDATING,
            format!("{waiting}, Updated Groups are: {}", list(&updated)),
        )
    } else {
        (types::PROGRESSING, types::GROUP_PROGRESSING, waiting)
    };
    let message = message + &causes(draft);
    for type_ in [types::AVAILABLE, types::PROGRESSING, types::UPDATE_IN_PROGRESS] {
        let is_it = type_ == holds;
        // What never held need not be denied, except availability, which everybody asks for.
        if !is_it && type_ != types::AVAILABLE && condition::find(conditions, type_).is_none() {
            continue;
        }
        condition::set(
            conditions,
            Condition {
                type_: type_.to_owned(),
                status: if is_it { condition::TRUE } else { condition::FALSE }.to_owned(),
                reason: reason.to_owned(),
                message: message.clone(),
                observed_generation: draft.serving.metadata.generation,
                last_transition_time: Time(draft.now),
            },
        );
    }
}

/// Says that something cannot be done, and why; or, without a message, that everything can be.
///
/// As with a Deployment, the condition is there only as long as it holds.
pub(super) fn set_failure(
    conditions: &mut Vec<Condition>,
    generation: Option<i64>,
    reason: &str,
    message: Option<String>,
    now: Timestamp,
) {
    let Some(message) = message else {
        conditions.retain(|condition| condition.type_ != types::REPLICA_FAILURE);
        return;
    };
    condition::set(
        conditions,
        Condition {
            type_: types::REPLICA_FAILURE.to_owned(),
            status: condition::TRUE.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: Time(now),
        },
    );
}

/// What keeps pods from being ready, the worst first.
fn causes(draft: &Draft<'_>) -> String {
    let mut all: Vec<(&Cause, &str)> = draft
        .groups
        .values()
        .flat_map(Group::pods)
        .filter_map(|pod| Some((pod.cause.as_ref()?, pod.name.as_str())))
        .collect();
    all.sort_unstable();
    let mut text = String::new();
    for (cause, pod) in all.iter().take(CAUSES) {
        text += &format!("; pod {pod}: {cause}");
    }
    if all.len() > CAUSES {
        text += &format!("; and {} more", all.len() - CAUSES);
    }
    text
}
