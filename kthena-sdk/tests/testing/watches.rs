//! Streams of changes.

use std::pin::pin;

use futures::StreamExt;
use kthena_sdk::k8s_openapi::api::core::v1::ConfigMap;
use kthena_sdk::kube::api::{WatchEvent, WatchParams};
use kthena_sdk::kube::{self, Api, ResourceExt};
use kthena_sdk::testing::FakeApi;
use kthena_sdk::watch::{self, Change, Selector};

use crate::map;

/// An event in words.
fn told(event: Option<Result<WatchEvent<ConfigMap>, kube::Error>>) -> String {
    match event {
        None => "end".to_owned(),
        Some(Ok(WatchEvent::Added(map))) => format!("+{}", map.name_any()),
        Some(Ok(WatchEvent::Modified(map))) => format!("~{}", map.name_any()),
        Some(Ok(WatchEvent::Deleted(map))) => format!("-{}", map.name_any()),
        Some(Ok(WatchEvent::Bookmark(mark))) => {
            let is_initial = mark
                .metadata
                .annotations
                .contains_key("k8s.io/initial-events-end");
            format!(
                "{}@{}",
                if is_initial { "initial" } else { "" },
                mark.metadata.resource_version
            )
        }
        Some(Ok(WatchEvent::Error(status))) => format!("!{}", status.code),
        Some(Err(error)) => panic!("{error}"),
    }
}

fn relabel(api: &FakeApi, name: &str, app: &str) {
    api.edit("default", name, |map: &mut ConfigMap| {
        map.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
    });
}

#[tokio::test]
async fn those_who_select_see_objects_enter_and_leave() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    api.add(&map("a", &[("app", "x")]));
    let params = WatchParams::default().labels("app=x").disable_bookmarks();
    let mut events = pin!(maps.watch(&params, "0").await.unwrap());
    assert_eq!(told(events.next().await), "+a");
    api.add(&map("b", &[("app", "y")]));
    relabel(&api, "a", "y");
    assert_eq!(told(events.next().await), "-a");
    relabel(&api, "b", "x");
    assert_eq!(told(events.next().await), "+b");
    api.edit("default", "b", |map: &mut ConfigMap| map.immutable = Some(true));
    assert_eq!(told(events.next().await), "~b");
    api.remove::<ConfigMap>("default", "b");
    assert_eq!(told(events.next().await), "-b");
}

#[tokio::test]
async fn a_watch_goes_on_from_a_version_as_long_as_that_is_remembered() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    let first = api.add(&map("a", &[]));
    api.add(&map("b", &[]));
    let version = first.resource_version().unwrap();
    let params = WatchParams::default();
    let mut events = pin!(maps.watch(&params, &version).await.unwrap());
    assert_eq!(told(events.next().await), "+b");
    api.compact();
    let mut late = pin!(maps.watch(&params, &version).await.unwrap());
    assert_eq!(told(late.next().await), "!410");
    api.add(&map("c", &[]));
    assert_eq!(
        told(events.next().await),
        "+c",
        "who is up to date misses nothing"
    );
    api.cut_watches();
    assert_eq!(told(events.next().await), "end");
}

#[tokio::test]
async fn who_is_behind_when_history_is_forgotten_is_told_so() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    let first = api.add(&map("a", &[]));
    let version = first.resource_version().unwrap();
    let mut events = pin!(maps.watch(&WatchParams::default(), &version).await.unwrap());
    api.add(&map("b", &[]));
    api.compact();
    assert_eq!(told(events.next().await), "!410");
    assert_eq!(told(events.next().await), "end");
}

#[tokio::test]
async fn bookmarks_move_on_where_nothing_else_does() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    let params = WatchParams::default().labels("app=x");
    let mut events = pin!(maps.watch(&params, "0").await.unwrap());
    api.add(&map("a", &[]));
    assert_eq!(told(events.next().await), "@1");
}

#[tokio::test]
async fn a_list_can_be_streamed() {
    let api = FakeApi::new();
    let maps = Api::<ConfigMap>::default_namespaced(api.client());
    for name in ["a", "b"] {
        api.add(&map(name, &[]));
    }
    let mut events = pin!(
        maps.watch(&WatchParams::default().initial_events(), "0")
            .await
            .unwrap()
    );
    for expected in ["+a", "+b", "initial@2"] {
        assert_eq!(told(events.next().await), expected);
    }
}

#[tokio::test]
async fn a_follower_survives_an_api_server_that_restarts() {
    let api = FakeApi::new();
    api.add(&map("a", &[]));
    let maps = Api::<ConfigMap>::all(api.client());
    let mut changes = pin!(watch::changes(maps, Selector::default()));
    assert!(matches!(changes.next().await, Some(Change::Reset(all)) if all.len() == 1));
    api.add(&map("b", &[]));
    assert!(matches!(changes.next().await, Some(Change::Apply(map)) if map.name_any() == "b"));
    api.add(&map("c", &[]));
    api.compact();
    api.cut_watches();
    loop {
        match changes.next().await {
            Some(Change::Reset(all)) => break assert_eq!(all.len(), 3),
            Some(Change::Interrupted(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}
