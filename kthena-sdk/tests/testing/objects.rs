//! Objects come, change and go.

use kthena_sdk::api::{ModelServing, ModelServingStatus};
use kthena_sdk::k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kthena_sdk::kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kthena_sdk::kube::{Api, ResourceExt};
use kthena_sdk::owner;
use kthena_sdk::testing::{FakeApi, pod, serving};

use crate::{code, map};

#[tokio::test]
async fn a_new_object_has_what_an_api_server_gives_it() {
    let api = FakeApi::new();
    let servings = Api::<ModelServing>::default_namespaced(api.client());
    let mut new = serving("llama").build();
    new.status = Some(ModelServingStatus::default());
    new.metadata.uid = Some("mine".to_owned());
    let made = servings.create(&PostParams::default(), &new).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    assert!(made.metadata.creation_timestamp.is_some());
    assert!(made.uid().is_some_and(|uid| uid != "mine"));
    assert_eq!(made.status, None, "statuses are written for themselves");
    assert_eq!(servings.get("llama").await.unwrap(), made);
    assert_eq!(code(servings.create(&PostParams::default(), &new).await), 409);
    assert_eq!(code(servings.get("qwen").await), 404);
}

#[tokio::test]
async fn generated_names_differ() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    let mut new = ConfigMap::default();
    assert_eq!(code(maps.create(&PostParams::default(), &new).await), 422);
    new.metadata.generate_name = Some("a-".to_owned());
    for _ in 0..2 {
        let made = maps.create(&PostParams::default(), &new).await.unwrap();
        assert!(made.name_any().starts_with("a-"));
    }
    assert_eq!(api.list::<ConfigMap>().len(), 2);
}

#[tokio::test]
async fn what_was_read_before_another_wrote_is_not_written() {
    let api = FakeApi::new();
    let servings = Api::<ModelServing>::default_namespaced(api.client());
    let mut old = api.add(&serving("llama").build());
    api.edit("default", "llama", |it: &mut ModelServing| {
        it.spec.replicas = Some(2);
    });
    old.spec.replicas = Some(3);
    assert_eq!(
        code(servings.replace("llama", &PostParams::default(), &old).await),
        409
    );
    old.metadata.resource_version = None;
    let new = servings
        .replace("llama", &PostParams::default(), &old)
        .await
        .unwrap();
    assert_eq!((new.spec.replicas, new.metadata.generation), (Some(3), Some(3)));
    let same = servings
        .replace("llama", &PostParams::default(), &new)
        .await
        .unwrap();
    assert_eq!(
        same.resource_version(),
        new.resource_version(),
        "nothing was different"
    );
}

#[tokio::test]
async fn spec_and_status_are_written_apart() {
    let api = FakeApi::new();
    let servings = Api::<ModelServing>::default_namespaced(api.client());
    let mut serving = api.add(&serving("llama").build());
    serving.spec.replicas = Some(5);
    serving.status = Some(ModelServingStatus {
        replicas: Some(7),
        ..ModelServingStatus::default()
    });
    let written = servings
        .replace_status("llama", &PostParams::default(), &serving)
        .await
        .unwrap();
    assert_eq!(written.status.as_ref().unwrap().replicas, Some(7));
    assert_eq!(
        (written.spec.replicas, written.metadata.generation),
        (Some(1), Some(1))
    );
    serving.metadata.resource_version = None;
    serving.status = None;
    let written = servings
        .replace("llama", &PostParams::default(), &serving)
        .await
        .unwrap();
    assert_eq!(written.status.unwrap().replicas, Some(7));
    assert_eq!(
        (written.spec.replicas, written.metadata.generation),
        (Some(5), Some(2))
    );
}

#[tokio::test]
async fn finalizers_hold_what_was_told_to_go() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    let mut held = map("a", &[]);
    held.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    api.add(&held);
    let going = maps
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    assert!(api.get::<ConfigMap>("default", "a").is_some());
    api.edit("default", "a", |map: &mut ConfigMap| {
        map.metadata.finalizers = None;
    });
    assert_eq!(code(maps.get("a").await), 404);
}

#[tokio::test]
async fn preconditions_protect_another_object_of_the_same_name() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    let first = api.add(&map("a", &[]));
    api.remove::<ConfigMap>("default", "a");
    api.add(&map("a", &[]));
    let only = |uid| DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    assert_eq!(code(maps.delete("a", &only(first.uid())).await), 409);
    let second = api.get::<ConfigMap>("default", "a").unwrap();
    maps.delete("a", &only(second.uid())).await.unwrap();
    assert_eq!(code(maps.delete("a", &only(second.uid())).await), 404);
}

#[tokio::test]
async fn a_selector_says_what_is_listed_and_what_goes() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        api.add(&map(name, &[("app", app)]));
    }
    let mut elsewhere = map("d", &[("app", "x")]);
    elsewhere.metadata.namespace = Some("other".to_owned());
    api.add(&elsewhere);
    let x = ListParams::default().labels("app=x");
    assert_eq!(maps.list(&x).await.unwrap().items.len(), 2);
    let everywhere = Api::<ConfigMap>::all(api.client());
    assert_eq!(everywhere.list(&x).await.unwrap().items.len(), 3);
    maps.delete_collection(&DeleteParams::default(), &x)
        .await
        .unwrap();
    let left: Vec<String> = api
        .list::<ConfigMap>()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(left, ["c", "d"]);
}

#[tokio::test]
async fn a_pod_ends_when_its_kubelet_says_so_and_at_once_without_one() {
    let api = FakeApi::new();
    let pods = Api::<Pod>::default_namespaced(api.client());
    let serving = api.add(&serving("s").build());
    let new = pod(&serving, 0, "decode", 0, 0).build();
    api.add(&new);
    pods.delete("s-0-decode-0-0", &DeleteParams::default())
        .await
        .unwrap();
    assert!(api.list::<Pod>().is_empty(), "no kubelet knew of it");
    api.add(&new);
    api.run_pods();
    pods.delete("s-0-decode-0-0", &DeleteParams::default())
        .await
        .unwrap();
    let going = api.get::<Pod>("default", "s-0-decode-0-0").unwrap();
    assert!(going.metadata.deletion_timestamp.is_some());
    assert_eq!(api.run_pods(), 1);
    assert!(api.list::<Pod>().is_empty());
}

#[tokio::test]
async fn what_has_lost_its_owners_is_collected_and_orphans_stay() {
    let api = FakeApi::new();
    let client = api.client();
    let servings = Api::<ModelServing>::default_namespaced(client);
    for name in ["a", "b"] {
        let serving = api.add(&serving(name).build());
        let mut owned = map(name, &[]);
        owned.metadata.owner_references = Some(vec![owner::reference(&serving)]);
        let owned = api.add(&owned);
        let mut next = map(&format!("{name}-next"), &[]);
        next.metadata.owner_references = Some(vec![owner::reference(&owned)]);
        api.add(&next);
    }
    assert_eq!(api.collect_garbage(), 0);
    servings.delete("a", &DeleteParams::background()).await.unwrap();
    servings.delete("b", &DeleteParams::orphan()).await.unwrap();
    assert_eq!(api.collect_garbage(), 2);
    let left: Vec<String> = api
        .list::<ConfigMap>()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(left, ["b", "b-next"]);
}

#[tokio::test]
async fn a_trial_changes_nothing() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    let trial = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let made = maps.create(&trial, &map("a", &[])).await.unwrap();
    assert!(made.uid().is_some());
    assert!(api.list::<ConfigMap>().is_empty());
    api.add(&map("a", &[]));
    maps.delete("a", &DeleteParams::default().dry_run())
        .await
        .unwrap();
    assert_eq!(api.list::<ConfigMap>().len(), 1);
}
