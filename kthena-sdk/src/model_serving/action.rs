//! What a plan consists of.

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::Value;

/// Something to do. Actions are done in their order; each may be the last one that is done.
///
/// ```
/// use kthena_sdk::model_serving::{Action, NewPod, Pods, Reason, Target, Unit};
///
/// /// An action in a few words.
/// fn describe(action: &Action) -> String {
///     match action {
///         Action::CreatePod(new) => {
///             let NewPod { unit: Unit { group, .. }, pod, .. } = &**new;
///             format!("make {} in group {group}", pod["metadata"]["name"])
///         }
///         Action::DeletePods(Pods { reason: Reason::ScaleDown, pods, .. }) => format!("{} pods are too many", pods.len()),
///         Action::DeleteService(Target { name, .. }) => format!("remove {name}"),
///         other => format!("{other:?}"),
///     }
/// }
///
/// let service = Target { name: "llama-0-decode-0-0".into(), uid: "1".into() };
/// assert_eq!(describe(&Action::DeleteService(service)), "remove llama-0-decode-0-0");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Stores a revision.
    CreateRevision(Box<ControllerRevision>),
    /// Gives a stored revision a new number.
    RenumberRevision {
        /// Name of the ControllerRevision.
        object: String,
        /// The number.
        number: i64,
    },
    /// Forgets a revision.
    DeleteRevision {
        /// Name of the ControllerRevision.
        object: String,
    },
    /// Makes a PodGroup be like this.
    ApplyPodGroup(Value),
    /// Removes a PodGroup.
    DeletePodGroup(Target),
    /// Makes a PodDisruptionBudget.
    CreateBudget(Box<PodDisruptionBudget>),
    /// Makes the PodDisruptionBudget that is there be like this.
    UpdateBudget(Box<PodDisruptionBudget>),
    /// Removes a PodDisruptionBudget.
    DeleteBudget(Target),
    /// Removes pods.
    DeletePods(Pods),
    /// Removes a Service.
    DeleteService(Target),
    /// Makes a pod.
    CreatePod(Box<NewPod>),
    /// Makes a Service.
    CreateService(Box<Service>),
}

/// An object that is to go, and no other of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Pods that are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pods {
    /// What they belong to.
    pub unit: Unit,
    /// Why they go.
    pub reason: Reason,
    /// Each of them.
    pub pods: Vec<Target>,
    /// A label selector of exactly these pods, as far as anybody knows; `None` where it would select others too.
    pub selector: Option<String>,
}

/// A pod that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPod {
    /// What it belongs to.
    pub unit: Unit,
    /// Its index in its instance.
    pub index: u32,
    /// The pod, as JSON, so that nothing of its template is lost.
    pub pod: Value,
}

/// A ServingGroup, or an instance of a role in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit {
    /// Ordinal of the group.
    pub group: u32,
    /// Role and ordinal of the instance; `None` for the whole group.
    pub instance: Option<(String, u32)>,
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// There are more than asked for.
    ScaleDown,
    /// It is not of the revision that is asked for.
    Rollout,
    /// A pod of it failed or was lost.
    Recovery,
    /// Nothing asks for it any more.
    Orphan,
}
