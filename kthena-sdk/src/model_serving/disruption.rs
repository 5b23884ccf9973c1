//! PodDisruptionBudgets: draining nodes takes down no more ServingGroups than a rollout may.
//!
//! A ModelServing asks for one by an annotation ([`labels::POD_DISRUPTION_BUDGET`]). A budget counts pods, and one pod that goes may
//! take its whole group down; so as many pods may be missing as groups may be, wherever they are. Pods that are not ready are no loss
//! and may always go.
//!
//! The number of pods is a plain integer: for anything else Kubernetes asks the owner of the pods for its replicas, which are groups here.
//!
//! ```
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::model_serving::disruption::{Budget, budget, is_wanted};
//!
//! let serving = ModelServing::new("llama", Default::default());
//! assert!(!is_wanted(&serving), "an annotation asks for it");
//! let made = budget(&serving, 8, 2);
//! let Budget { spec, .. } = Budget::of(&made);
//! assert_eq!(spec, made.spec.unwrap());
//! ```

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kthena_api::{ModelServing, labels};

use super::action::Action;
use super::draft::{Draft, target};
use super::observe::Child;
use super::{metadata, pod};
use crate::owner;

/// A PodDisruptionBudget that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Its identity.
    pub child: Child,
    /// Its spec.
    pub spec: PodDisruptionBudgetSpec,
}

impl Budget {
    /// Reads a PodDisruptionBudget.
    pub fn of(object: &PodDisruptionBudget) -> Self {
        Self {
            child: Child::of(&object.metadata),
            spec: object.spec.clone().unwrap_or_default(),
        }
    }
}

/// Whether a ModelServing asks for a budget.
pub fn is_wanted(serving: &ModelServing) -> bool {
    let annotations = serving.metadata.annotations.as_ref();
    let asked = annotations.and_then(|all| all.get(labels::POD_DISRUPTION_BUDGET));
    asked.is_some_and(|asked| asked == labels::TRUE)
}

/// The budget of a ModelServing that is to have so many pods, of which so many may be missing.
pub fn budget(serving: &ModelServing, pods: u32, missing: u32) -> PodDisruptionBudget {
    let available = pods.saturating_sub(missing);
    PodDisruptionBudget {
        metadata: ObjectMeta {
            name: serving.metadata.name.clone(),
            namespace: serving.metadata.namespace.clone(),
            labels: Some(metadata::of_serving(serving)),
            owner_references: Some(vec![owner::unblocking(owner::reference(serving))]),
            ..ObjectMeta::default()
        },
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(i32::try_from(available).unwrap_or(i32::MAX))),
            selector: Some(LabelSelector {
                match_labels: Some(metadata::of_serving(serving)),
                ..LabelSelector::default()
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// What is to be done about the budget.
pub(super) fn plan(draft: &Draft<'_>) -> Vec<Action> {
    let uid = draft.serving.metadata.uid.as_deref();
    let own: Vec<_> = (draft.observed.budgets.iter())
        .filter(|budget| budget.child.owner.as_deref() == uid)
        .collect();
    if !is_wanted(draft.serving) {
        let left = own.into_iter().filter_map(|budget| target(&budget.child));
        return left.map(Action::DeleteBudget).collect();
    }
    let wanted = budget(draft.serving, pods(draft), draft.limits.max_unavailable.max(1));
    let found = (own.into_iter()).find(|budget| budget.child.name == draft.name);
    match found {
        Some(found) if found.child.is_terminating || is_current(wanted.spec.as_ref(), &found.spec) => {
            Vec::new()
        }
        Some(_) => vec![Action::UpdateBudget(Box::new(wanted))],
        None => vec![Action::CreateBudget(Box::new(wanted))],
    }
}

/// Pods that there are to be. Groups that are there for the time of a rollout only do not count.
fn pods(draft: &Draft<'_>) -> u32 {
    let groups = 0..draft.limits.replicas;
    let sizes = groups.map(|ordinal| {
        let frame = draft.frame(ordinal);
        let roles = frame.roles.iter();
        let sizes = roles.map(|(role, instances)| instances.saturating_mul(pod::count(role)));
        sizes.fold(0, u32::saturating_add)
    });
    sizes.fold(0, u32::saturating_add)
}

/// Whether a spec says what is wanted. A member that an old API server does not know cannot be asked for.
fn is_current(wanted: Option<&PodDisruptionBudgetSpec>, found: &PodDisruptionBudgetSpec) -> bool {
    wanted.is_some_and(|wanted| {
        wanted.min_available == found.min_available && wanted.selector == found.selector
    })
}

#[cfg(test)]
mod tests;
