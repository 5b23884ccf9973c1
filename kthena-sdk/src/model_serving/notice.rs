//! What the events on a ModelServing say: one for each decision about a ServingGroup, however many of its instances it concerns.
//!
//! ```
//! use std::collections::{BTreeMap, BTreeSet};
//!
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::k8s_openapi::jiff::Timestamp;
//! use kthena_sdk::model_serving::notice::{Instances, Notice, Running, decisions};
//! use kthena_sdk::model_serving::{Observed, plan};
//!
//! let serving: ModelServing = serde_json::from_value(serde_json::json!({
//!     "metadata": { "name": "llama", "namespace": "default", "uid": "1" },
//!     "spec": { "template": { "roles": [
//!         { "name": "decode", "entryTemplate": { "spec": { "containers": [{ "name": "engine", "image": "vllm" }] } } },
//!     ] } },
//! }))?;
//! let now: Timestamp = "2026-01-01T00:00:00Z".parse()?;
//! let notices = decisions("llama", &plan(&serving, &Observed::default(), now));
//! let [Notice { reason, message }] = &notices[..] else { panic!("one for the only group") };
//! assert!(message.contains("llama-0"), "{reason}: {message}");
//!
//! // What runs when the process begins is no news.
//! let running = BTreeMap::from([(0, Instances::from([("decode".to_owned(), 0)]))]);
//! let (news, later) = Running::default().update("llama", &running, &BTreeSet::from([0]), now);
//! assert!(news.is_empty() && later.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kthena_api::labels;
use kthena_api::name::{Serving, role_instance};

use super::{Action, Plan, Reason, Unit};

/// Reason of the event that says that a whole group is being removed.
pub const GROUP_DELETING: &str = "ServingGroupDeleting";
/// Reason of the event that says that a plan could not be carried out.
pub const FAILED: &str = "Failed";
/// Instances that a message names.
const NAMED: usize = 10;
/// How long an instance that runs waits for others of its group, so that one event tells of all.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// An event that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its reason.
    pub reason: &'static str,
    /// What it says.
    pub message: String,
}

/// Instances by role and ordinal.
pub type Instances = BTreeSet<(String, u32)>;

/// Tells what a plan decides.
pub fn decisions(serving: &str, plan: &Plan) -> Vec<Notice> {
    let mut created = BTreeMap::<u32, Instances>::new();
    let mut deleted = BTreeMap::<(u32, Reason), Instances>::new();
    let mut groups = BTreeMap::<u32, Reason>::new();
    for action in &plan.actions {
        match action {
            Action::CreatePod(new) if new.index == 0 => {
                let instance = new.unit.instance.clone();
                created.entry(new.unit.group).or_default().extend(instance);
            }
            Action::DeletePods(pods) => match &pods.unit {
                Unit {
                    group,
                    instance: None,
                } => drop(groups.insert(*group, pods.reason)),
                Unit {
                    group,
                    instance: Some(instance),
                } => {
                    deleted
                        .entry((*group, pods.reason))
                        .or_default()
                        .insert(instance.clone());
                }
            },
            _ => {}
        }
    }
    let groups = groups.into_iter().map(|(group, reason)| Notice {
        reason: GROUP_DELETING,
        message: format!(
            "ServingGroup {} is now Deleting: {}",
            Serving(serving).group(group),
            why(reason)
        ),
    });
    let deleted = deleted.into_iter().map(|((group, reason), instances)| {
        let notice = notice(
            serving,
            group,
            &instances,
            labels::EVENT_ROLE_DELETING,
            "Deleting",
        );
        Notice {
            message: format!("{}: {}", notice.message, why(reason)),
            ..notice
        }
    });
    let created = created.into_iter().map(|(group, instances)| {
        notice(
            serving,
            group,
            &instances,
            labels::EVENT_ROLE_CREATING,
            "Creating",
        )
    });
    groups.chain(deleted).chain(created).collect()
}

const fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::ScaleDown => "there are more than asked for",
        Reason::Rollout => "it is not of the revision that is asked for",
        Reason::Recovery => "a pod of it failed or was lost",
        Reason::Orphan => "nothing asks for it any more",
    }
}

fn notice(serving: &str, group: u32, instances: &Instances, reason: &'static str, state: &str) -> Notice {
    let group = Serving(serving).group(group);
    let named: Vec<String> = instances
        .iter()
        .take(NAMED)
        .map(|(role, instance)| format!("{role}/{}", role_instance(role, *instance)))
        .collect();
    let named = named.join(", ");
    let message = match instances.len() {
        1 => format!("Role {named} in ServingGroup {group} is now {state}"),
        count if count > NAMED => format!(
            "Roles {named} and {} more in ServingGroup {group} are now {state}",
            count - NAMED
        ),
        _ => format!("Roles {named} in ServingGroup {group} are now {state}"),
    };
    Notice { reason, message }
}

/// Which instances run, as far as it was told. What is forgotten is told anew to nobody: after a restart only what changes is.
#[derive(Debug, Default)]
pub struct Running {
    told: Option<BTreeMap<u32, Instances>>,
    waiting: BTreeMap<u32, Timestamp>,
}

impl Running {
    /// Takes which instances run now, and which groups run as a whole. Returns what is to be told, and when to look again because
    /// something waits to be told.
    pub fn update(
        &mut self,
        serving: &str,
        now_running: &BTreeMap<u32, Instances>,
        whole: &BTreeSet<u32>,
        now: Timestamp,
    ) -> (Vec<Notice>, Option<Timestamp>) {
        let Some(told) = &mut self.told else {
            self.told = Some(now_running.clone());
            return (Vec::new(), None);
        };
        told.retain(|group, _| now_running.contains_key(group));
        self.waiting.retain(|group, _| now_running.contains_key(group));
        let mut notices = Vec::new();
        for (group, running) in now_running {
            let known = told.entry(*group).or_default();
            known.retain(|instance| running.contains(instance));
            let new: Instances = running.difference(known).cloned().collect();
            if new.is_empty() {
                self.waiting.remove(group);
                continue;
            }
            let since = *self.waiting.entry(*group).or_insert(now);
            if whole.contains(group) || now.duration_since(since) >= PATIENCE {
                notices.push(notice(
                    serving,
                    *group,
                    &new,
                    labels::EVENT_ROLE_RUNNING,
                    "Running",
                ));
                known.clone_from(running);
                self.waiting.remove(group);
            }
        }
        let next = self.waiting.values().min();
        (notices, next.and_then(|since| since.checked_add(PATIENCE).ok()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::PodState;
    use super::super::testing::World;
    use super::*;

    fn world() -> World {
        let template = json!({ "spec": { "containers": [{ "name": "engine", "image": "a" }] } });
        World::new(json!({ "replicas": 2, "template": { "roles": [
            { "name": "prefill", "entryTemplate": template, "workerTemplate": template, "workerReplicas": 1 },
            { "name": "decode", "entryTemplate": template },
        ] } }))
    }

    fn messages(notices: &[Notice]) -> Vec<String> {
        notices
            .iter()
            .map(|it| format!("{}: {}", it.reason, it.message))
            .collect()
    }

    #[test]
    fn one_event_tells_of_a_group() {
        let mut world = world();
        let told = messages(&decisions("s", &world.step()));
        assert_eq!(
            told,
            [
                "RoleCreating: Roles decode/decode-0, prefill/prefill-0 in ServingGroup s-0 are now Creating",
                "RoleCreating: Roles decode/decode-0, prefill/prefill-0 in ServingGroup s-1 are now Creating",
            ]
        );
        world.converge();
        world.edit(|serving| serving.spec.replicas = Some(1));
        let told = messages(&decisions("s", &world.step()));
        assert_eq!(
            told,
            ["ServingGroupDeleting: ServingGroup s-1 is now Deleting: there are more than asked for"]
        );
        world.converge();
        world.pod("s-0-prefill-0-1").state = PodState::Terminating;
        let told = messages(&decisions("s", &world.step()));
        assert_eq!(
            told,
            [
                "RoleDeleting: Role prefill/prefill-0 in ServingGroup s-0 is now Deleting: a pod of it failed or was lost"
            ]
        );
    }

    #[test]
    fn many_instances_are_counted() {
        let instances: Instances = (0..25).map(|ordinal| ("decode".to_owned(), ordinal)).collect();
        let notice = notice("s", 3, &instances, "RoleRunning", "Running");
        assert!(
            notice
                .message
                .ends_with("decode/decode-9 and 15 more in ServingGroup s-3 are now Running"),
            "{}",
            notice.message
        );
    }

    #[test]
    fn what_runs_is_told_once_for_a_group_that_is_whole_and_in_time_for_one_that_is_not() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let instances =
            |roles: &[&str]| -> Instances { roles.iter().map(|role| ((*role).to_owned(), 0)).collect() };
        let state = |roles: &[&str]| BTreeMap::from([(0, instances(roles))]);
        let whole = BTreeSet::from([0]);
        let mut running = Running::default();
        let mut update = |roles: &[&str], whole: &BTreeSet<u32>, second| {
            let (notices, wake) = running.update("s", &state(roles), whole, at(second));
            (messages(&notices), wake)
        };
        let none = BTreeSet::new();
        assert_eq!(
            update(&["a"], &none, 0),
            (vec![], None),
            "a restart tells nothing again"
        );
        assert_eq!(update(&["a", "b"], &none, 1), (vec![], Some(at(11))));
        let both = "RoleRunning: Roles b/b-0, c/c-0 in ServingGroup s-0 are now Running";
        assert_eq!(update(&["a", "b", "c"], &whole, 2), (vec![both.into()], None));
        assert_eq!(update(&["a", "b", "c"], &whole, 3), (vec![], None));
        assert_eq!(update(&["a", "c"], &none, 4), (vec![], None));
        assert_eq!(update(&["a", "b", "c"], &none, 5), (vec![], Some(at(15))));
        let one = "RoleRunning: Role b/b-0 in ServingGroup s-0 is now Running";
        assert_eq!(update(&["a", "b", "c"], &none, 15), (vec![one.into()], None));
    }
}
