use serde_json::{Value, json};

use super::*;

const AT: [&str; 6] = [
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:10Z",
    "2026-01-01T00:00:20Z",
    "2026-01-01T00:00:30Z",
    "2026-01-01T00:00:40Z",
    "2026-01-01T00:00:50Z",
];

fn pod(status: Value) -> Pod {
    serde_json::from_value(
        json!({ "metadata": { "name": "p", "creationTimestamp": AT[0] }, "status": status }),
    )
    .unwrap()
}

fn ready(status: &str, since: usize) -> Value {
    json!([{ "type": "Ready", "status": status, "lastTransitionTime": AT[since] }])
}

fn container(restarts: i32, state: Value, last: Value) -> Value {
    json!([{ "name": "engine", "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": state, "lastState": last }])
}

fn running(since: usize) -> Value {
    json!({ "running": { "startedAt": AT[since] } })
}

fn ended(from: usize, to: usize, code: i32) -> Value {
    json!({ "terminated": { "startedAt": AT[from], "finishedAt": AT[to], "exitCode": code } })
}

#[track_caller]
fn check(status: Value, expected: PodState) {
    assert_eq!(state(&pod(status)), expected);
}

fn failed(since: usize) -> PodState {
    PodState::Failed {
        since: AT[since].parse().unwrap(),
    }
}

#[test]
fn phases_and_readiness_tell_most() {
    check(json!({}), PodState::Unready);
    check(json!({ "phase": "Pending" }), PodState::Unready);
    check(json!({ "phase": "Running" }), PodState::Unready);
    check(
        json!({ "phase": "Running", "conditions": ready("True", 1) }),
        PodState::Ready,
    );
    check(
        json!({ "phase": "Pending", "conditions": ready("True", 1) }),
        PodState::Unready,
    );
    check(json!({ "phase": "Succeeded" }), PodState::Succeeded);
    check(json!({ "phase": "Failed" }), failed(0));
    check(
        json!({ "phase": "Failed", "conditions": ready("False", 2), "containerStatuses": container(0, ended(1, 3, 1), json!({})) }),
        failed(3),
    );
    let mut going = pod(json!({ "phase": "Running", "conditions": ready("True", 1) }));
    going.metadata.deletion_timestamp = Some(serde_json::from_value(AT[2].into()).unwrap());
    assert_eq!(state(&going), PodState::Terminating);
}

#[test]
fn a_restart_counts_until_the_pod_is_ready_again() {
    let status = |conditions: Value, containers: Value| json!({ "phase": "Running", "conditions": conditions, "containerStatuses": containers });
    // Ready again.
    check(
        status(ready("True", 3), container(1, running(2), ended(0, 2, 1))),
        PodState::Ready,
    );
    // It was ready until the crash; the container runs again but is not ready yet.
    check(
        status(ready("False", 2), container(1, running(3), ended(0, 2, 1))),
        failed(2),
    );
    // It restarted long ago and was ready since; now a probe fails.
    check(
        status(ready("False", 4), container(1, running(2), ended(0, 1, 1))),
        PodState::Unready,
    );
    // It was never ready and crashed once.
    check(
        status(ready("False", 0), container(1, running(3), ended(0, 3, 1))),
        failed(3),
    );
    // It crashed several times: the trouble is as old as the last run that ended.
    check(
        status(
            ready("False", 0),
            container(
                4,
                json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
                ended(3, 4, 1),
            ),
        ),
        failed(3),
    );
    // Not restarted yet.
    check(
        status(ready("False", 0), container(0, ended(0, 1, 1), json!({}))),
        PodState::Unready,
    );
}

#[test]
fn an_init_container_that_failed_and_then_succeeded_is_well() {
    check(
        json!({ "phase": "Pending", "conditions": ready("False", 0), "initContainerStatuses": container(1, ended(2, 3, 0), ended(0, 1, 1)) }),
        PodState::Unready,
    );
    check(
        json!({ "phase": "Pending", "conditions": ready("False", 0), "initContainerStatuses": container(1, running(2), ended(0, 1, 1)) }),
        failed(1),
    );
}

#[test]
fn times_that_are_missing_do_not_hide_a_crash() {
    check(
        json!({ "phase": "Running", "startTime": AT[1], "containerStatuses": container(5, json!({}), json!({})) }),
        failed(1),
    );
    check(
        json!({ "phase": "Running", "containerStatuses": container(5, json!({}), json!({})) }),
        PodState::Failed {
            since: Timestamp::UNIX_EPOCH,
        },
    );
}

#[track_caller]
fn says(status: Value, rank: Rank, text: &str) {
    let pod = pod(status);
    let cause = cause(&pod, state(&pod)).expect("a cause");
    assert_eq!((cause.rank, cause.to_string().as_str()), (rank, text));
}

#[test]
fn causes_are_what_kubernetes_says() {
    says(
        json!({ "phase": "Pending", "containerStatuses": container(0, json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } }), json!({})) }),
        Rank::Broken,
        "ImagePullBackOff: container engine: no such image",
    );
    says(
        json!({ "phase": "Running", "containerStatuses": container(3, json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 20s" } }), ended(0, 1, 137)) }),
        Rank::Broken,
        "CrashLoopBackOff: container engine (exit code 137): back-off 20s",
    );
    says(
        json!({ "phase": "Running", "containerStatuses": container(0, json!({ "terminated": { "reason": "OOMKilled", "exitCode": 137 } }), json!({})) }),
        Rank::Broken,
        "OOMKilled: container engine ended with exit code 137",
    );
    says(
        json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available" }] }),
        Rank::Unschedulable,
        "Unschedulable: 0/3 nodes are available",
    );
    says(
        json!({ "phase": "Failed", "reason": "Evicted", "message": "the node was low on memory" }),
        Rank::Broken,
        "Evicted: the node was low on memory",
    );
    says(
        json!({ "phase": "Running", "conditions": ready("False", 0), "containerStatuses": container(1, running(2), ended(0, 2, 1)) }),
        Rank::Broken,
        "Restarted: a container has restarted and is not ready again",
    );
    let starting = pod(
        json!({ "phase": "Pending", "containerStatuses": container(0, json!({ "waiting": { "reason": "ContainerCreating" } }), json!({})) }),
    );
    assert_eq!(cause(&starting, state(&starting)), None);
}
