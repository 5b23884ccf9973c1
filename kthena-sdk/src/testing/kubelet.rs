//! The kubelets' part: pods run, fail and end.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, Pod,
    PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::FakeApi;
use super::store::Place;

/// The node that pods run on.
const NODE: &str = "node";

/// Makes a pod run and be ready, on a node.
///
/// ```
/// use kthena_sdk::k8s_openapi::api::core::v1::Pod;
/// use kthena_sdk::testing::make_ready;
///
/// let mut pod = Pod::default();
/// make_ready(&mut pod);
/// assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Running"));
/// ```
pub fn make_ready(pod: &mut Pod) {
    let running = ContainerState {
        running: Some(ContainerStateRunning {
            started_at: Some(now()),
        }),
        ..ContainerState::default()
    };
    report(pod, "Running", &running);
}

/// Lets a pod's containers end with an error, for good.
///
/// ```
/// use kthena_sdk::k8s_openapi::api::core::v1::Pod;
/// use kthena_sdk::testing::make_failed;
///
/// let mut pod = Pod::default();
/// make_failed(&mut pod);
/// assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Failed"));
/// ```
pub fn make_failed(pod: &mut Pod) {
    let ended = ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 1,
            reason: Some("Error".to_owned()),
            finished_at: Some(now()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
    report(pod, "Failed", &ended);
}

fn report(pod: &mut Pod, phase: &str, state: &ContainerState) {
    let is_ready = phase == "Running";
    let spec = pod.spec.get_or_insert_default();
    spec.node_name.get_or_insert_with(|| NODE.to_owned());
    let status = |container: &Container| ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        ready: is_ready,
        started: Some(is_ready),
        state: Some(state.clone()),
        ..ContainerStatus::default()
    };
    let condition = |type_: &str, holds: bool| PodCondition {
        type_: type_.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        last_transition_time: Some(now()),
        ..PodCondition::default()
    };
    pod.status = Some(PodStatus {
        phase: Some(phase.to_owned()),
        start_time: Some(now()),
        container_statuses: Some(spec.containers.iter().map(status).collect()),
        conditions: Some(vec![
            condition("PodScheduled", true),
            condition("ContainersReady", is_ready),
            condition("Ready", is_ready),
        ]),
        ..PodStatus::default()
    });
}

impl FakeApi {
    /// Does the kubelets' part: pods that wait run and are ready, pods that were told to go are gone. Pods that failed stay so. Returns
    /// how many pods it changed.
    ///
    /// ```
    /// use kthena_sdk::testing::{FakeApi, pod, serving};
    ///
    /// let api = FakeApi::new();
    /// let serving = api.add(&serving("llama").build());
    /// api.add(&pod(&serving, 0, "decode", 0, 0).build());
    /// assert_eq!(api.run_pods(), 1);
    /// assert_eq!(api.run_pods(), 0);
    /// ```
    pub fn run_pods(&self) -> usize {
        self.shared.change(|state| {
            let store = &mut state.store;
            let pods = store.all().filter(|(place, pod)| place.is_pod() && is_due(pod));
            let pods: BTreeMap<Place, Value> = pods
                .map(|(place, pod)| (place.clone(), Value::clone(pod)))
                .collect();
            for (place, mut pod) in pods.clone() {
                if !pod["metadata"]["deletionTimestamp"].is_null() {
                    store.end(&place, Some(0));
                } else if let Ok(mut typed) = serde_json::from_value::<Pod>(pod.clone()) {
                    make_ready(&mut typed);
                    // The spec has more in it than its type may know.
                    pod["spec"]["nodeName"] = typed.spec.and_then(|spec| spec.node_name).into();
                    pod["status"] = serde_json::to_value(typed.status).unwrap_or_default();
                    store.put(&place, pod);
                }
            }
            pods.len()
        })
    }

    /// Lets a pod fail.
    ///
    /// ```
    /// use kthena_sdk::testing::{FakeApi, pod, serving};
    ///
    /// let api = FakeApi::new();
    /// let serving = api.add(&serving("llama").build());
    /// api.add(&pod(&serving, 0, "decode", 0, 0).ready().build());
    /// let failed = api.fail_pod("default", "llama-0-decode-0-0");
    /// assert_eq!(failed.status.unwrap().phase.as_deref(), Some("Failed"));
    /// ```
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    pub fn fail_pod(&self, namespace: &str, name: &str) -> Pod {
        self.edit(namespace, name, make_failed)
    }

    /// Plays what else there is in a cluster, for as long as it is polled: the kubelets and the garbage collector, after each change.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use kthena_sdk::k8s_openapi::api::core::v1::Pod;
    /// use kthena_sdk::testing::{FakeApi, pod, serving};
    ///
    /// let api = FakeApi::new();
    /// let serving = api.add(&serving("llama").build());
    /// api.add(&pod(&serving, 0, "decode", 0, 0).build());
    /// let runs = |api: &FakeApi| {
    ///     let pod = api.get::<Pod>("default", "llama-0-decode-0-0")?;
    ///     pod.status?.phase.filter(|phase| phase == "Running")
    /// };
    /// tokio::select! {
    ///     () = api.play() => {}
    ///     _ = api.until("running pod", runs) => {}
    /// }
    /// # });
    /// ```
    pub async fn play(&self) {
        let mut news = self.shared.news.subscribe();
        loop {
            news.borrow_and_update();
            self.collect_garbage();
            self.run_pods();
            // The sender is this API server's own, so this never ends.
            if news.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Whether a kubelet has something to do for a pod.
fn is_due(pod: &Value) -> bool {
    let metadata = &pod["metadata"];
    let is_going = !metadata["deletionTimestamp"].is_null();
    let waits = matches!(pod["status"]["phase"].as_str(), None | Some("Pending"));
    if is_going {
        return metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    }
    waits
}

fn now() -> Time {
    Time(Timestamp::now())
}
