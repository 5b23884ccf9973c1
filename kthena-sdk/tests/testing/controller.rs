//! The controller of ModelServings against the fake.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;

use kthena_sdk::api::ModelServing;
use kthena_sdk::k8s_openapi::api::apps::v1::ControllerRevision;
use kthena_sdk::k8s_openapi::api::core::v1::{Pod, Service};
use kthena_sdk::kube::ResourceExt;
use kthena_sdk::model_serving::controller::Controller;
use kthena_sdk::model_serving::plugin::Registry;
use kthena_sdk::testing::{FakeApi, Fault, Request, Verb, role, serving};
use tokio::task::JoinHandle;

/// A task that ends with this value.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn start(api: &FakeApi) -> Running {
    let controller = Controller::new(api.client(), 2, Registry::built_in(), Arc::new(()));
    Running(tokio::spawn(controller.run(pending())))
}

fn play(api: &FakeApi) -> Running {
    let api = api.clone();
    Running(tokio::spawn(async move { api.play().await }))
}

fn names(api: &FakeApi) -> Vec<String> {
    api.list::<Pod>().iter().map(ResourceExt::name_any).collect()
}

/// Whether so many groups are available, as of the latest spec.
fn is_available(replicas: i32) -> impl FnMut(&FakeApi) -> Option<()> {
    move |api| {
        let serving = api.get::<ModelServing>("default", "llama")?;
        let status = serving.status?;
        let is_current = status.observed_generation == serving.metadata.generation;
        (is_current && status.available_replicas == Some(replicas) && status.replicas == Some(replicas))
            .then_some(())
    }
}

#[tokio::test]
async fn a_model_serving_lives_from_its_pods_to_its_end() {
    let api = FakeApi::new();
    let _controller = start(&api);
    let _cluster = play(&api);
    api.add(
        &serving("llama")
            .replicas(2)
            .role(role("decode").workers(1))
            .build(),
    );
    api.until("ModelServing with two groups", is_available(2)).await;
    let pods =
        ["0-decode-0-0", "0-decode-0-1", "1-decode-0-0", "1-decode-0-1"].map(|it| format!("llama-{it}"));
    assert_eq!(names(&api), pods);
    assert_eq!(
        api.list::<Service>().len(),
        2,
        "one for each instance with workers"
    );

    let failed = api.fail_pod("default", "llama-1-decode-0-1").uid();
    let replaced = |api: &FakeApi| {
        let pod = api.get::<Pod>("default", "llama-1-decode-0-1")?;
        (pod.uid() != failed).then_some(())
    };
    api.until("pod in place of the failed one", replaced).await;
    api.until("ModelServing that recovered", is_available(2)).await;

    api.edit("default", "llama", |it: &mut ModelServing| {
        it.spec.replicas = Some(1);
    });
    api.until("ModelServing with one group", is_available(1)).await;
    assert_eq!(names(&api), pods[..2]);

    api.remove::<ModelServing>("default", "llama");
    api.until("empty cluster", |api| {
        let left =
            api.list::<Pod>().len() + api.list::<Service>().len() + api.list::<ControllerRevision>().len();
        (left == 0).then_some(())
    })
    .await;
}

/// Names of the pods that requests have made.
fn created(requests: &[Request]) -> Vec<&str> {
    let made = requests
        .iter()
        .filter(|it| it.verb == Verb::Create && it.resource == "pods");
    let made = made.filter(|it| it.answer != Some(409));
    made.filter_map(|it| it.name.as_deref()).collect()
}

#[tokio::test]
async fn a_controller_that_is_killed_at_any_write_goes_on() {
    let spec = || {
        serving("llama")
            .replicas(2)
            .role(role("decode").workers(1))
            .build()
    };
    let calm = FakeApi::new();
    {
        let (_controller, _cluster) = (start(&calm), play(&calm));
        calm.add(&spec());
        calm.until("ModelServing with two groups", is_available(2)).await;
    }
    let writes = calm.requests().iter().filter(|it| it.verb.is_write()).count();
    assert!(writes >= 8, "{writes}");
    for number in 0..writes {
        let api = FakeApi::new();
        let _cluster = play(&api);
        let mut count = 0;
        let (failed, mut has_failed) = tokio::sync::watch::channel(false);
        // The write is done, and from then on the controller reaches nobody.
        api.on_request(move |request| {
            let is_it = request.verb.is_write() && count == number;
            count += usize::from(request.verb.is_write());
            let is_dead = *failed.borrow();
            if is_it {
                failed.send_replace(true);
            }
            match (is_it, is_dead) {
                (true, _) => Some(Fault::Unanswered),
                (_, true) => Some(Fault::Unreachable),
                _ => None,
            }
        });
        let first = start(&api);
        api.add(&spec());
        tokio::select! {
            result = has_failed.wait_for(|failed| *failed) => drop(result.unwrap()),
            // With events put together otherwise there may be fewer writes.
            () = api.until("ModelServing with two groups", is_available(2)) => {}
        }
        drop(first);
        api.recover();
        let _second = start(&api);
        api.until("ModelServing with two groups", is_available(2)).await;
        let requests = api.requests();
        let reached: Vec<Request> = requests.into_iter().filter(|it| it.answer.is_some()).collect();
        let all = created(&reached);
        let unique: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(all.len(), unique.len(), "write {number}: {all:?}");
        assert_eq!(names(&api).len(), 4, "write {number}");
    }
}
