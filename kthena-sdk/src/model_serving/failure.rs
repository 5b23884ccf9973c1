//! What is the matter with a pod: whether it failed, since when, and why it is not ready.

use std::fmt;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::jiff::Timestamp;

use super::observe::PodState;

/// Why a pod is not ready, in words for a condition.
///
/// ```
/// use kthena_sdk::model_serving::{Cause, Rank};
///
/// let cause = Cause { rank: Rank::Broken, reason: "ImagePullBackOff".into(), message: "not found".into() };
/// assert_eq!(cause.to_string(), "ImagePullBackOff: not found");
/// assert!(Rank::Broken < Rank::Waiting, "the worst comes first");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// How bad it is: lower comes first where only some causes can be shown.
    pub rank: Rank,
    /// The reason, as Kubernetes says it: `ImagePullBackOff`, `Unschedulable`, `CrashLoopBackOff`, `OOMKilled` and so on.
    pub reason: String,
    /// What Kubernetes says besides.
    pub message: String,
}

/// Kinds of causes, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// It will not get better by itself, or only by luck: an image that cannot be pulled, a container that crashes.
    Broken,
    /// No node has room.
    Unschedulable,
    /// It may only take time.
    Waiting,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// How a pod does.
pub(super) fn state(pod: &Pod) -> PodState {
    if pod.metadata.deletion_timestamp.is_some() {
        return PodState::Terminating;
    }
    let Some(status) = &pod.status else {
        return PodState::Unready;
    };
    let ready = condition(status, "Ready");
    match status.phase.as_deref() {
        Some("Running") if ready.is_some_and(|ready| ready.status == "True") => PodState::Ready,
        Some("Succeeded") => PodState::Succeeded,
        Some("Failed") => PodState::Failed {
            since: ended(status).or(transition(ready)).unwrap_or(created(pod)),
        },
        _ => restarted(status, ready)
            .map(|since| PodState::Failed { since })
            .unwrap_or(PodState::Unready),
    }
}

fn created(pod: &Pod) -> Timestamp {
    let created = pod.metadata.creation_timestamp.as_ref();
    created.map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

fn condition<'a>(status: &'a PodStatus, type_: &str) -> Option<&'a PodCondition> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn transition(condition: Option<&PodCondition>) -> Option<Timestamp> {
    condition?.last_transition_time.as_ref().map(|time| time.0)
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten()
}

/// When the last container of a failed pod ended.
fn ended(status: &PodStatus) -> Option<Timestamp> {
    let ended = containers(status).filter_map(|container| {
        let terminated = container.state.as_ref()?.terminated.as_ref()?;
        terminated.finished_at.as_ref().map(|time| time.0)
    });
    ended.max()
}

/// Since when a pod that is not ready is so because a container of it ended; `None` where it is so for another reason.
///
/// Restart counts alone do not tell: a container may have restarted long ago, and the pod be unready now because a probe
/// fails. What tells is whether the container runs since before readiness was lost.
fn restarted(status: &PodStatus, ready: Option<&PodCondition>) -> Option<Timestamp> {
    let lost = transition(ready);
    containers(status)
        .filter(|container| container.restart_count > 0 && !is_back(container, lost))
        .filter_map(|container| {
            let last = container.last_state.as_ref()?.terminated.as_ref()?;
            // Of several crashes only the last is known. That run began after the one before had ended, so the trouble is at
            // least that old, unless the pod was ready in between.
            let begun = last.started_at.as_ref().filter(|_| container.restart_count > 1);
            let since = begun.or(last.finished_at.as_ref())?.0;
            Some(lost.map_or(since, |lost| since.max(lost)))
        })
        .min()
        .or_else(|| {
            let broken =
                containers(status).any(|container| container.restart_count > 0 && !is_back(container, lost));
            broken.then(|| {
                lost.or(status.start_time.as_ref().map(|time| time.0))
                    .unwrap_or(Timestamp::UNIX_EPOCH)
            })
        })
}

/// Whether a container that has restarted is well: it runs since before readiness was lost, or ended as it should.
fn is_back(container: &ContainerStatus, lost: Option<Timestamp>) -> bool {
    let Some(state) = &container.state else {
        return false;
    };
    if let Some(running) = &state.running {
        let started = running.started_at.as_ref().map(|time| time.0);
        return matches!((started, lost), (Some(started), Some(lost)) if started < lost);
    }
    state
        .terminated
        .as_ref()
        .is_some_and(|terminated| terminated.exit_code == 0)
}

/// Why a pod is not ready.
pub(super) fn cause(pod: &Pod, state: PodState) -> Option<Cause> {
    if matches!(
        state,
        PodState::Ready | PodState::Succeeded | PodState::Terminating
    ) {
        return None;
    }
    let status = pod.status.as_ref()?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let broken = |reason: &str, message: String| Cause {
        rank: Rank::Broken,
        reason: reason.to_owned(),
        message,
    };
    for container in containers(status) {
        let Some(state) = &container.state else { continue };
        if let Some(waiting) = &state.waiting {
            let reason = text(&waiting.reason);
            if !matches!(reason.as_str(), "" | "ContainerCreating" | "PodInitializing") {
                let last = container
                    .last_state
                    .as_ref()
                    .and_then(|state| state.terminated.as_ref());
                let exit = last
                    .map(|last| format!(" (exit code {})", last.exit_code))
                    .unwrap_or_default();
                return Some(broken(
                    &reason,
                    format!("container {}{exit}: {}", container.name, text(&waiting.message)),
                ));
            }
        }
        if let Some(ended) = state.terminated.as_ref().filter(|ended| ended.exit_code != 0) {
            let reason = ended.reason.as_deref().unwrap_or("Error");
            return Some(broken(
                reason,
                format!(
                    "container {} ended with exit code {}",
                    container.name, ended.exit_code
                ),
            ));
        }
    }
    if status.phase.as_deref() == Some("Failed") {
        let reason = status.reason.as_deref().unwrap_or("Failed");
        return Some(broken(reason, text(&status.message)));
    }
    if let Some(scheduled) = condition(status, "PodScheduled").filter(|it| it.status == "False") {
        return Some(Cause {
            rank: Rank::Unschedulable,
            reason: scheduled.reason.clone().unwrap_or_else(|| "Unschedulable".into()),
            message: text(&scheduled.message),
        });
    }
    if let PodState::Failed { .. } = state {
        return Some(broken(
            "Restarted",
            "a container has restarted and is not ready again".into(),
        ));
    }
    None
}

#[cfg(test)]
mod tests;
