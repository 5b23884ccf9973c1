//! The test kit, from outside.
#![cfg(feature = "testing")]

mod controller;
mod faults;
mod objects;
mod patches;
mod watches;

use k8s_openapi::api::core::v1::ConfigMap;
use kthena_sdk::k8s_openapi;
use kthena_sdk::kube;

/// The HTTP status of a refusal.
#[track_caller]
fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn map(name: &str, labels: &[(&str, &str)]) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.metadata.namespace = Some("default".to_owned());
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    map.metadata.labels = Some(labels.collect());
    map
}
