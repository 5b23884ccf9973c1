//! The plan: everything that is to be done next, and the status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use k8s_openapi::jiff::Timestamp;
use kthena_api::name::Serving;
use kthena_api::{ModelServing, ModelServingStatus};

use super::action::Action;
use super::draft::{Draft, Observed};
use super::group::Status;
use super::notice::Instances;
use super::revision::{Revisions, Write};
use super::{disruption, gang, instances, plugin, recovery, rollout, scale, status};

/// What is to be done next for a ModelServing.
///
/// ```
/// use kthena_sdk::api::ModelServing;
/// use kthena_sdk::model_serving::plugin::Registry;
/// use kthena_sdk::model_serving::{Observed, Plan, plan_with};
///
/// let serving: ModelServing = serde_json::from_value(serde_json::json!({
///     "metadata": { "name": "llama", "namespace": "default", "uid": "1" },
///     "spec": { "template": { "roles": [
///         { "name": "decode", "entryTemplate": { "spec": { "containers": [{ "name": "engine", "image": "vllm" }] } } },
///     ] } },
/// }))?;
/// let Plan { actions, status, wake_at, .. } =
///     plan_with(&serving, &Observed::default(), &Registry::empty(), "2026-01-01T00:00:00Z".parse()?);
/// assert!(!actions.is_empty() && wake_at.is_none());
/// assert_eq!(status.available_replicas.unwrap_or(0), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What to do, in this order. Where one fails, the rest may be left for the next plan.
    pub actions: Vec<Action>,
    /// The status, once that is done.
    pub status: ModelServingStatus,
    /// When to plan again although nothing has changed.
    pub wake_at: Option<Timestamp>,
    /// What keeps pods from being made, in words: plugins that are not known or fail. It stays so until the spec changes.
    pub problems: BTreeSet<String>,
    /// Instances that run and stay, by group.
    pub running: BTreeMap<u32, Instances>,
    /// Groups that run as a whole and stay.
    pub whole: BTreeSet<u32>,
}

/// Plugins of those who have none of their own.
static BUILT_IN: LazyLock<plugin::Registry> = LazyLock::new(plugin::Registry::built_in);

/// Decides what is to be done next; of plugins there are those that are built in.
///
/// The plan follows from what there is and nothing else, so it does not matter what has been planned before, and how much of it was
/// done. Pods that are to go are removed first; what takes their names is made once they are gone, by a later plan.
///
/// ```
/// use kthena_sdk::api::ModelServing;
/// use kthena_sdk::model_serving::{Action, Observed, plan};
///
/// let serving: ModelServing = serde_json::from_value(serde_json::json!({
///     "metadata": { "name": "llama", "namespace": "default", "uid": "1", "generation": 1 },
///     "spec": { "schedulerName": "default-scheduler", "template": { "roles": [
///         { "name": "decode", "entryTemplate": { "spec": { "containers": [{ "name": "engine", "image": "vllm" }] } } },
///     ] } },
/// }))?;
/// let plan = plan(&serving, &Observed::default(), "2026-01-01T00:00:00Z".parse()?);
/// assert!(matches!(plan.actions[..], [Action::CreateRevision(_), Action::CreatePod(_)]));
/// assert_eq!(plan.status.replicas, Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn plan(serving: &ModelServing, observed: &Observed, now: Timestamp) -> Plan {
    plan_with(serving, observed, &BUILT_IN, now)
}

/// Decides what is to be done next, with these plugins. See [`plan`].
pub fn plan_with(
    serving: &ModelServing,
    observed: &Observed,
    plugins: &plugin::Registry,
    now: Timestamp,
) -> Plan {
    let uid = serving.metadata.uid.as_deref();
    let own: Vec<_> = observed
        .pods
        .iter()
        .filter(|pod| uid.is_some() && pod.owner.as_deref() == uid)
        .collect();
    let revisions = Revisions::of(serving, &observed.revisions, &own);
    let mut draft = Draft::new(serving, observed, &revisions, plugins, now);
    let mut actions = Vec::new();
    if serving.metadata.deletion_timestamp.is_none() {
        recovery::groups(&mut draft);
        scale::down(&mut draft);
        rollout::groups(&mut draft);
        scale::up(&mut draft);
        instances::maintain(&mut draft);
        actions.extend(store(&draft));
        actions.append(&mut pod_groups(&draft));
        actions.append(&mut draft.deletions);
        actions.append(&mut draft.creations);
        actions.append(&mut disruption::plan(&draft));
    }
    let status = status::of(&draft);
    if serving.metadata.deletion_timestamp.is_none() {
        let superfluous = revisions.superfluous(status.current_revision.as_deref(), &own);
        actions.extend(superfluous.into_iter().map(|revision| Action::DeleteRevision {
            object: revision.object.clone(),
        }));
    }
    let (running, whole) = running(&draft);
    Plan {
        actions,
        status,
        wake_at: draft.wake_at,
        problems: draft.problems,
        running,
        whole,
    }
}

/// Instances that run and stay, by group, and the groups that run as a whole.
fn running(draft: &Draft<'_>) -> (BTreeMap<u32, Instances>, BTreeSet<u32>) {
    let (mut running, mut whole) = (BTreeMap::<u32, Instances>::new(), BTreeSet::new());
    for group in draft.staying() {
        let frame = draft.frame(group.ordinal);
        for (role, _) in &frame.roles {
            for (ordinal, instance) in group.of_role(&role.name) {
                let runs = instance.status(role, draft.revisions) == Status::Running;
                if runs && !draft.is_doomed(group.ordinal, &role.name, ordinal) {
                    let all = running.entry(group.ordinal).or_default();
                    all.insert((role.name.clone(), ordinal));
                }
            }
        }
        if draft.status_after(group) == Status::Running {
            whole.insert(group.ordinal);
        }
    }
    (running, whole)
}

/// The revision that is asked for, before anything is made from it.
fn store(draft: &Draft<'_>) -> Option<Action> {
    let (write, revision) = draft.revisions.write()?;
    Some(match write {
        Write::Create => Action::CreateRevision(Box::new(revision.controller_revision(draft.serving))),
        Write::Renumber => Action::RenumberRevision {
            object: revision.object.clone(),
            number: revision.number,
        },
    })
}

/// PodGroups of groups that stay or come, before their pods.
fn pod_groups(draft: &Draft<'_>) -> Vec<Action> {
    if !draft.in_pod_groups() {
        let left = draft.groups.values().filter_map(|group| group.pod_group);
        let left = left.filter(|_| draft.observed.gang.is_some() && !gang::is_wanted(draft.serving));
        return left
            .filter_map(super::draft::target)
            .map(Action::DeletePodGroup)
            .collect();
    }
    let Some(support) = draft.observed.gang else {
        return Vec::new();
    };
    let staying = draft.staying().map(|group| group.ordinal);
    let mut ordinals: Vec<u32> = staying.chain(draft.coming.keys().copied()).collect();
    ordinals.sort_unstable();
    let found: BTreeMap<&str, &gang::PodGroup> = draft
        .observed
        .pod_groups
        .iter()
        .map(|it| (it.child.name.as_str(), it))
        .collect();
    let mut actions = Vec::new();
    for ordinal in ordinals {
        let name = Serving(draft.name).group(ordinal);
        let found = found.get(name.as_str());
        let wanted = gang::pod_group(draft.serving, ordinal, &draft.frame(ordinal), support);
        let is_in_order = found.is_some_and(|found| {
            // One that is going, or somebody else's, is left alone; its end will be seen.
            let is_ours = found.child.owner.as_deref() == draft.serving.metadata.uid.as_deref();
            found.child.is_terminating || !is_ours || gang::is_current(&wanted, found)
        });
        if !is_in_order {
            actions.push(Action::ApplyPodGroup(wanted));
        }
    }
    actions
}

#[cfg(test)]
mod cases;
#[cfg(all(test, feature = "runtime"))]
mod lag;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
