//! From what runs to what `pods/status` says. Pure.

use std::{collections::BTreeMap, net::Ipv4Addr};

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use serde_json::{Value, json};

use super::{
    Readiness,
    container::{Exit, Run, State},
    pod,
};

/// A pod as its kubelet sees it.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) pod: &'a Pod,
    pub(super) ip: Ipv4Addr,
    pub(super) host: Ipv4Addr,
    pub(super) started: Timestamp,
    pub(super) runs: &'a [Run],
    pub(super) readiness: Readiness,
    /// No container will be started again.
    pub(super) is_over: bool,
}

/// When which condition last changed; API clients see no change where nothing changed.
#[derive(Debug, Default)]
pub(super) struct Transitions(BTreeMap<&'static str, (bool, Timestamp)>);

/// The patch for `pods/status`; conditions of others stay as they are.
pub(super) fn patch(view: &View<'_>, transitions: &mut Transitions, now: Timestamp) -> Value {
    let containers: Vec<Value> = view.runs.iter().map(|run| container(view, run)).collect();
    let containers_ready = view.runs.iter().all(|run| is_ready(view, run));
    let ready = containers_ready && pod::gates_are_open(view.pod);
    let conditions: Vec<Value> = [
        ("PodReadyToStartContainers", !view.is_over),
        ("Initialized", true),
        ("ContainersReady", containers_ready),
        ("Ready", ready),
    ]
    .into_iter()
    .map(|(kind, holds)| transitions.condition(kind, holds, reason(kind, holds, view), now))
    .collect();
    json!({
        "metadata": {"uid": view.pod.metadata.uid},
        "status": {
            "phase": phase(view),
            "startTime": Time(view.started),
            "hostIP": view.host.to_string(),
            "hostIPs": [{"$patch": "replace"}, {"ip": view.host.to_string()}],
            "podIP": view.ip.to_string(),
            "podIPs": [{"$patch": "replace"}, {"ip": view.ip.to_string()}],
            "conditions": conditions,
            "containerStatuses": containers,
            "initContainerStatuses": init_containers(view),
        },
    })
}

fn phase(view: &View<'_>) -> &'static str {
    let ends: Option<Vec<&Exit>> = view
        .runs
        .iter()
        .map(|run| match &run.state {
            State::Ended(exit) => Some(exit),
            _ => None,
        })
        .collect();
    match ends {
        Some(ends) if view.is_over && ends.iter().all(|exit| exit.code == 0) => "Succeeded",
        Some(_) if view.is_over => "Failed",
        _ if view.runs.iter().all(Run::has_started) => "Running",
        _ => "Pending",
    }
}

/// Only a container that runs can be ready.
fn is_ready(view: &View<'_>, run: &Run) -> bool {
    let State::Running { .. } = run.state else {
        return false;
    };
    match view.readiness {
        Readiness::Probed => run.is_healthy,
        Readiness::Always => true,
        Readiness::Never => false,
    }
}

fn reason(kind: &str, holds: bool, view: &View<'_>) -> Option<&'static str> {
    match kind {
        "ContainersReady" | "Ready" if !holds => Some(match phase(view) {
            "Succeeded" => "PodCompleted",
            "Failed" => "PodFailed",
            _ if kind == "Ready" && !pod::gates_are_open(view.pod) => "ReadinessGatesNotReady",
            _ => "ContainersNotReady",
        }),
        _ => None,
    }
}

fn container(view: &View<'_>, run: &Run) -> Value {
    let spec = view
        .pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .find(|found| found.name == run.name);
    let image = spec.and_then(|spec| spec.image.clone()).unwrap_or_default();
    let id = run.process_id().map(|id| format!("process://{id}"));
    let state = match &run.state {
        State::Waiting { reason } => json!({"waiting": {"reason": reason}}),
        State::Running { since } => json!({"running": {"startedAt": Time(*since)}}),
        State::Ended(exit) => json!({"terminated": ended(exit)}),
    };
    json!({
        "name": run.name,
        "image": image,
        "imageID": image,
        "containerID": id.unwrap_or_default(),
        "ready": is_ready(view, run),
        "started": matches!(run.state, State::Running { .. }),
        "restartCount": run.restarts,
        "state": state,
        "lastState": run.last.as_ref().map_or_else(|| json!({}), |exit| json!({"terminated": ended(exit)})),
    })
}

fn ended(exit: &Exit) -> Value {
    json!({
        "exitCode": exit.code,
        "reason": if exit.code == 0 { "Completed" } else { "Error" },
        "startedAt": Time(exit.since),
        "finishedAt": Time(exit.at),
    })
}

/// Init containers have done their work before anybody looks.
fn init_containers(view: &View<'_>) -> Vec<Value> {
    let all = view
        .pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten());
    let status = |container: &Container| {
        let exit = Exit {
            code: 0,
            since: view.started,
            at: view.started,
        };
        let image = container.image.clone().unwrap_or_default();
        json!({"name": container.name, "image": image, "imageID": image, "ready": true, "restartCount": 0,
               "state": {"terminated": ended(&exit)}})
    };
    all.into_iter().map(status).collect()
}

impl Transitions {
    fn condition(&mut self, kind: &'static str, holds: bool, reason: Option<&str>, now: Timestamp) -> Value {
        let entry = self.0.entry(kind).or_insert((holds, now));
        if entry.0 != holds {
            *entry = (holds, now);
        }
        let status = if holds { "True" } else { "False" };
        json!({"type": kind, "status": status, "reason": reason, "lastTransitionTime": Time(entry.1), "lastProbeTime": null})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn run(state: State) -> Run {
        let mut run = Run::new("engine");
        run.is_healthy = true;
        run.state = state;
        run
    }

    fn look(runs: &[Run], is_over: bool, readiness: Readiness) -> (String, String) {
        let pod = Pod::default();
        let ip = Ipv4Addr::new(127, 64, 0, 1);
        let view = View {
            pod: &pod,
            ip,
            host: ip,
            started: at(0),
            runs,
            readiness,
            is_over,
        };
        let status = patch(&view, &mut Transitions::default(), at(1))["status"].take();
        let ready = status["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|found| found["type"] == "Ready")
            .unwrap();
        (
            status["phase"].as_str().unwrap().to_owned(),
            ready["status"].as_str().unwrap().to_owned(),
        )
    }

    #[test]
    fn phases_follow_the_containers() {
        let exit = |code| {
            State::Ended(Exit {
                code,
                since: at(0),
                at: at(1),
            })
        };
        let waiting = || State::Waiting {
            reason: "ContainerCreating",
        };
        let running = || State::Running { since: at(0) };
        for (state, is_over, readiness, expected) in [
            (waiting(), false, Readiness::Probed, ("Pending", "False")),
            (running(), false, Readiness::Probed, ("Running", "True")),
            (running(), false, Readiness::Never, ("Running", "False")),
            (exit(0), true, Readiness::Always, ("Succeeded", "False")),
            (exit(137), true, Readiness::Probed, ("Failed", "False")),
        ] {
            let (phase, ready) = look(&[run(state)], is_over, readiness);
            assert_eq!((phase.as_str(), ready.as_str()), expected);
        }
    }

    #[test]
    fn a_container_that_waits_for_its_next_start_leaves_the_pod_running() {
        let mut run = run(State::Waiting {
            reason: "CrashLoopBackOff",
        });
        run.restarts = 1;
        assert_eq!(
            look(&[run], false, Readiness::Probed),
            ("Running".to_owned(), "False".to_owned())
        );
    }

    #[test]
    fn a_transition_time_moves_only_with_its_condition() {
        let mut transitions = Transitions::default();
        let mut time = |holds, second| {
            transitions.condition("Ready", holds, None, at(second))["lastTransitionTime"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let first = time(true, 1);
        assert_eq!(time(true, 5), first);
        assert_ne!(time(false, 5), first);
    }
}
