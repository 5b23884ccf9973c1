//! What a pod says about itself.

use std::{net::Ipv4Addr, time::Duration};

use k8s_openapi::api::core::v1::{LifecycleHandler, Pod};

use super::ADDRESS;

/// Whether the Ready condition is true.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How long a deleted pod has left in all, as the API server decided.
pub(super) fn grace(pod: &Pod) -> Option<Duration> {
    pod.metadata.deletion_timestamp.as_ref()?;
    let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
    Some(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

/// The pause that a container's `preStop` hook makes: `sleep`, or a command that sleeps. Others take no time.
pub(super) fn pre_stop(pod: &Pod, container: &str) -> Duration {
    let hook = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .find(|found| found.name == container);
    let hook = hook.and_then(|found| found.lifecycle.as_ref()?.pre_stop.as_ref());
    let seconds = match hook {
        Some(LifecycleHandler {
            sleep: Some(sleep), ..
        }) => u64::try_from(sleep.seconds).ok(),
        Some(LifecycleHandler { exec: Some(exec), .. }) => {
            let words = exec
                .command
                .iter()
                .flatten()
                .flat_map(|word| word.split_whitespace());
            let mut after = words
                .skip_while(|word| *word != "sleep" && !word.ends_with("/sleep"))
                .skip(1);
            after
                .next()
                .and_then(|word| word.trim_end_matches('s').parse().ok())
        }
        _ => None,
    };
    Duration::from_secs(seconds.unwrap_or(0))
}

/// What happens after a container has ended.
pub(super) fn restarts(pod: &Pod, exit_code: i32) -> bool {
    match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
        Some("Never") => false,
        Some("OnFailure") => exit_code != 0,
        _ => true,
    }
}

pub(super) fn is_in_host_network(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.host_network)
        .unwrap_or(false)
}

/// An address that the test has chosen.
pub(super) fn chosen_address(pod: &Pod) -> Option<Ipv4Addr> {
    pod.metadata.annotations.as_ref()?.get(ADDRESS)?.parse().ok()
}

/// The states of the pod's readiness gates.
pub(super) fn gates_are_open(pod: &Pod) -> bool {
    let gates = pod
        .spec
        .iter()
        .flat_map(|spec| spec.readiness_gates.iter().flatten());
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let is_true = |wanted: &str| {
        conditions
            .iter()
            .any(|found| found.type_ == wanted && found.status == "True")
    };
    gates.into_iter().all(|gate| is_true(&gate.condition_type))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn pauses_before_sigterm_are_found_in_both_forms() {
        let with = |hook: Value| {
            pod(json!({"spec": {"containers": [{"name": "e", "lifecycle": {"preStop": hook}}]}}))
        };
        for (hook, seconds) in [
            (json!({"sleep": {"seconds": 3}}), 3),
            (json!({"exec": {"command": ["sleep", "4"]}}), 4),
            (
                json!({"exec": {"command": ["sh", "-c", "date; /bin/sleep 5s"]}}),
                5,
            ),
            (json!({"exec": {"command": ["true"]}}), 0),
        ] {
            assert_eq!(
                pre_stop(&with(hook.clone()), "e"),
                Duration::from_secs(seconds),
                "{hook}"
            );
        }
    }

    #[test]
    fn policies_decide_about_restarts() {
        let with = |policy: &str| pod(json!({"spec": {"containers": [], "restartPolicy": policy}}));
        assert!(restarts(&pod(json!({})), 0));
        assert!(restarts(&with("OnFailure"), 1) && !restarts(&with("OnFailure"), 0));
        assert!(!restarts(&with("Never"), 1));
    }

    #[test]
    fn a_gate_is_open_when_its_condition_is_true() {
        let with = |conditions: Value| {
            pod(
                json!({"spec": {"containers": [], "readinessGates": [{"conditionType": "warm"}]},
                       "status": {"conditions": conditions}}),
            )
        };
        assert!(gates_are_open(&pod(json!({}))));
        assert!(!gates_are_open(&with(json!([]))));
        assert!(gates_are_open(&with(json!([{"type": "warm", "status": "True"}]))));
    }
}
