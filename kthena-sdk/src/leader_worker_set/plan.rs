//! What is to be done about a LeaderWorkerSet, and what is reported back.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kthena_api::condition;
use kthena_api::crd::Kind;
use kthena_api::external::leader_worker_set::{LeaderWorkerSet, LeaderWorkerSetStatus};
use kthena_api::{ModelServing, ModelServingSpec, labels, schema};
use kube::Resource;
use serde_json::{Map, Value, json};

use super::mapping::{self, map};
use super::status::{self, Verdict};
use crate::owner::{self, controller};

/// Scheduler of pods in a cluster without Volcano.
const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// Reason of the event that says that the ModelServing was made.
const CREATED: &str = "ModelServingCreated";
/// Reason of the event that says that the ModelServing was changed.
const UPDATED: &str = "ModelServingUpdated";

/// What there is besides the LeaderWorkerSet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observed<'a> {
    /// The ModelServing of its name, whoever it belongs to.
    pub serving: Option<&'a ModelServing>,
    /// Whether the cluster knows Volcano's PodGroups.
    pub has_pod_groups: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Makes the ModelServing.
    Create(Box<ModelServing>),
    /// Merges this into the ModelServing of the same name. It holds the version that it was made for, so that it fails where the
    /// ModelServing has changed since.
    Patch(Value),
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether something is wrong.
    pub is_warning: bool,
    /// Its reason.
    pub reason: String,
    /// What it says.
    pub message: String,
}

/// What is to be done, and what is to be said.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// At most one thing at a time: what comes of it leads to the next plan.
    pub action: Option<Action>,
    /// The status as things are, before the action is done.
    pub status: LeaderWorkerSetStatus,
    /// An event that goes with the status, where that says something new.
    pub notice: Option<Notice>,
}

/// Decides what is to be done about a LeaderWorkerSet that is not being deleted.
///
/// ```
/// use kthena_sdk::leader_worker_set::{Action, Notice, Observed, Plan, plan};
///
/// let now = "2026-01-01T00:00:00Z".parse()?;
/// let set = serde_json::from_value(serde_json::json!({
///     "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
///     "metadata": { "name": "llama", "namespace": "default", "uid": "1" },
///     "spec": { "leaderWorkerTemplate": { "size": 2, "workerTemplate": { "spec": { "containers": [] } } } },
/// }))?;
/// let observed = Observed::default();
/// let plan: Plan = plan(&set, observed, now);
/// let Some(action @ Action::Create(serving)) = &plan.action else { panic!("there is no ModelServing yet") };
/// assert_eq!(serving.metadata.name.as_deref(), Some("llama"));
/// let Notice { reason, .. } = action.notice();
/// assert_eq!(reason, "ModelServingCreated");
///
/// let after = plan.refused(&set, observed, "the quota is used up", now);
/// assert_eq!(after.action, None, "and the status says so");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn plan(set: &LeaderWorkerSet, observed: Observed<'_>, now: Timestamp) -> Plan {
    let mapping = map(set);
    let (action, verdict) = match observed.serving {
        None => {
            let scheduler = (!observed.has_pod_groups).then(|| DEFAULT_SCHEDULER.to_owned());
            let mut spec = mapping.spec.clone();
            spec.scheduler_name = spec.scheduler_name.or(scheduler);
            (Some(Action::Create(Box::new(create(set, spec)))), None)
        }
        Some(serving) if !is_owned(set, serving) => (None, Some(not_owned(set, serving))),
        // It comes again once it is gone.
        Some(serving) if serving.metadata.deletion_timestamp.is_some() => (None, None),
        Some(serving) => (
            patch(set, serving, &mapping.over(set, serving)).map(Action::Patch),
            None,
        ),
    };
    let verdict = verdict.unwrap_or_else(|| Verdict::of(&mapping.ignored));
    let (status, notice) = report(set, observed, &verdict, now);
    Plan {
        action,
        status,
        notice,
    }
}

impl Plan {
    /// The same after the API server has refused the action, with its own words.
    #[must_use]
    pub fn refused(
        &self,
        set: &LeaderWorkerSet,
        observed: Observed<'_>,
        message: &str,
        now: Timestamp,
    ) -> Self {
        let (status, notice) = report(set, observed, &Verdict::Refused(message.to_owned()), now);
        Self {
            action: None,
            status,
            notice,
        }
    }
}

impl Action {
    /// What is told once it is done.
    pub fn notice(&self) -> Notice {
        let (reason, message) = match self {
            Self::Create(serving) => {
                let name = serving.metadata.name.as_deref().unwrap_or_default();
                (CREATED, format!("ModelServing {name} was created"))
            }
            Self::Patch(patch) => {
                let spec = patch["spec"].as_object();
                let fields: Vec<&str> = spec
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.as_str())
                    .collect();
                let fields = match fields.is_empty() {
                    true => "metadata".to_owned(),
                    false => fields.join(", "),
                };
                (UPDATED, format!("ModelServing has changed: {fields}"))
            }
        };
        Notice {
            is_warning: false,
            reason: reason.to_owned(),
            message,
        }
    }
}

fn report(
    set: &LeaderWorkerSet,
    observed: Observed<'_>,
    verdict: &Verdict,
    now: Timestamp,
) -> (LeaderWorkerSetStatus, Option<Notice>) {
    let own = observed.serving.filter(|serving| is_owned(set, serving));
    let status = status::of(set, own, verdict, now);
    let before = set.status.as_ref().map(|status| status.conditions.as_slice());
    let notice = notice(before.unwrap_or_default(), &status);
    (status, notice)
}

/// Warns when the LeaderWorkerSet is not honoured as it is written, or no longer for the same reason, and says when it is again.
fn notice(before: &[Condition], status: &LeaderWorkerSetStatus) -> Option<Notice> {
    let type_ = condition::leader_worker_set::MAPPED;
    let after = condition::find(&status.conditions, type_)?;
    let before = condition::find(before, type_);
    let is_same = |before: &Condition| {
        (&before.status, &before.reason, &before.message) == (&after.status, &after.reason, &after.message)
    };
    let was_wrong = before.is_some_and(|it| it.status == condition::FALSE);
    let is_wrong = after.status == condition::FALSE;
    if before.is_some_and(is_same) || !(is_wrong || was_wrong) {
        return None;
    }
    Some(Notice {
        is_warning: is_wrong,
        reason: after.reason.clone(),
        message: after.message.clone(),
    })
}

fn create(set: &LeaderWorkerSet, spec: ModelServingSpec) -> ModelServing {
    let annotations = BTreeMap::from([(
        labels::LWS_REPLICAS.to_owned(),
        mapping::replicas(set).to_string(),
    )]);
    let mut serving = ModelServing::new(set.metadata.name.as_deref().unwrap_or_default(), spec);
    serving.metadata = ObjectMeta {
        namespace: set.metadata.namespace.clone(),
        annotations: Some(annotations),
        owner_references: Some(vec![owner::reference(set)]),
        ..serving.metadata
    };
    serving
}

/// What is to change; `None` if nothing is.
fn patch(set: &LeaderWorkerSet, serving: &ModelServing, wanted: &ModelServingSpec) -> Option<Value> {
    let replicas = mapping::replicas(set).to_string();
    let annotations = serving.metadata.annotations.as_ref();
    let is_taken_over = annotations.and_then(|all| all.get(labels::LWS_REPLICAS)) == Some(&replicas);
    let spec = difference(&as_stored(&serving.spec), &as_stored(wanted));
    if spec.is_none() && is_taken_over {
        return None;
    }
    let mut patch = json!({ "metadata": { "resourceVersion": serving.metadata.resource_version } });
    if !is_taken_over {
        patch["metadata"]["annotations"] = json!({ labels::LWS_REPLICAS: replicas });
    }
    if let Some(spec) = spec {
        patch["spec"] = spec;
    }
    Some(patch)
}

/// As the API server stores it: with defaults, and without what it does not know. Otherwise a default would look like a difference
/// for ever.
fn as_stored(spec: &ModelServingSpec) -> Value {
    let mut object = json!({ "spec": spec });
    schema::prune(Kind::ModelServing, &mut object);
    schema::apply_defaults(Kind::ModelServing, &mut object);
    object["spec"].take()
}

/// The merge patch that makes one value of another; `None` if they are equal.
fn difference(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        return (from != to).then(|| to.clone());
    };
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let mut patch: Map<String, Value> = gone.map(|name| (name.clone(), Value::Null)).collect();
    for (name, value) in new {
        let change = match old.get(name) {
            Some(old) => difference(old, value),
            None => Some(value.clone()),
        };
        patch.extend(change.map(|change| (name.clone(), change)));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn is_owned(set: &LeaderWorkerSet, serving: &ModelServing) -> bool {
    let owner = controller(&serving.metadata);
    owner.is_some_and(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
}

fn not_owned(set: &LeaderWorkerSet, serving: &ModelServing) -> Verdict {
    let name = serving.metadata.name.as_deref().unwrap_or_default();
    let Some(owner) = controller(&serving.metadata) else {
        return Verdict::NotOwned(format!(
            "there is a ModelServing {name} already, which does not belong to this LeaderWorkerSet and stays as it is"
        ));
    };
    if owner.kind == LeaderWorkerSet::kind(&()) && Some(&owner.name) == set.metadata.name.as_ref() {
        return Verdict::Waiting(format!(
            "ModelServing {name} belongs to an earlier LeaderWorkerSet of this name and is being removed"
        ));
    }
    Verdict::NotOwned(format!(
        "there is a ModelServing {name} already, which belongs to {} {} and stays as it is",
        owner.kind, owner.name
    ))
}

#[cfg(test)]
mod tests;
